"""Topics: built and parsed in one place, and nothing else gets in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract import topics
from skyreid.contract.errors import MessageError

NAME = st.from_regex(topics.IDENTIFIER, fullmatch=True)


@given(NAME, NAME, st.sampled_from(["sightings", "birth", "status", "health", "picture"]))
def test_a_device_topic_parses_back(site: str, device: str, channel: topics.DeviceChannel) -> None:
    parsed = topics.parse_device(topics.device(site, device, channel))
    assert parsed == topics.DeviceTopic(site, device, channel)


@given(st.text(max_size=60))
def test_any_other_topic_is_refused(text: str) -> None:
    with pytest.raises(MessageError):
        topics.parse_device(text)


@pytest.mark.parametrize(
    "topic",
    [
        "skyreid/v2/s/dev/d/status",
        "skyreid/v1/s/cmd/d/status",
        "skyreid/v1/s/dev/d/unknown",
        "skyreid/v1/s/dev/+/status",
        "skyreid/v1/s/dev/d/status/more",
        "skyreid/v1//dev/d/status",
    ],
)
def test_near_misses_are_refused(topic: str) -> None:
    with pytest.raises(MessageError, match="is not skyreid/v1/SITE/dev"):
        topics.parse_device(topic)


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "-a", ".a", "a" * 65, "a b", "ä"])
def test_names_that_cannot_stand_in_a_topic_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid name"):
        topics.check_identifier(name)
