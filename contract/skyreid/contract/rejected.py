"""A message that could not be used, set aside on ``rejected/{reason}``: how it began, and why.

Never the whole of it: what a broker took from one client it may refuse from another (its largest
packet includes what is said beside the bytes), and a refusal ends the connection of who sends it.
"""

from __future__ import annotations

import hashlib

CONTENT_TYPE = "application/octet-stream"
KEPT_BYTES = 4096
"""Of the original bytes, at most; the digest says which they were."""
PROPERTIES_BYTES = 3072
"""What everything but the payload takes in the packet, at most."""
_DETAIL_MAX = _TOPIC_MAX = 200


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
        "topic": _carried(topic[:_TOPIC_MAX]),
        "received_at_ns": str(received_at_ns),
    }


def digest_properties(payload: bytes) -> dict[str, str]:
    """The user properties that tell which bytes they were: their number and their SHA-256."""
    return {"bytes": str(len(payload)), "sha256": hashlib.sha256(payload).hexdigest()}


def _carried(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
