"""A message that could not be used, set aside on ``rejected/{reason}``: its own bytes, and why."""

from __future__ import annotations

CONTENT_TYPE = "application/octet-stream"
_DETAIL_MAX = 200


def rejected_properties(
    reason: str, detail: str, *, topic: str, received_at_ns: int
) -> dict[str, str]:
    """The MQTT 5 user properties that go with the bytes.

    What a broker would not carry (NUL, other control characters, lone surrogates) becomes ``?``:
    the detail may quote what a stranger wrote.
    """
    return {
        "reason": reason,
        "detail": _carried(detail[:_DETAIL_MAX]),
        "topic": _carried(topic),
        "received_at_ns": str(received_at_ns),
    }


def _carried(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
