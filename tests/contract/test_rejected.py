"""What a message is set aside with can be carried by a broker, whatever it quotes."""

from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.rejected import rejected_properties


def test_the_reason_stands_beside_the_bytes() -> None:
    assert rejected_properties("json", "json: no object", topic="a/b", received_at_ns=7) == {
        "reason": "json",
        "detail": "json: no object",
        "topic": "a/b",
        "received_at_ns": "7",
    }


@given(st.text(st.characters(codec=None), max_size=400))
def test_whatever_is_quoted_can_be_carried(text: str) -> None:
    said = rejected_properties("json", text, topic=text, received_at_ns=1)
    for value in said.values():
        assert value.encode().decode().isprintable()
    assert len(said["detail"]) == min(len(text), 200)
