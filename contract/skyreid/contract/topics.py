"""MQTT topics: the only place that builds or parses one. ``docs/messages.md`` lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from skyreid.contract.errors import MessageError

ROOT = "skyreid/v1"

DeviceChannel = Literal["sightings", "birth", "status", "health", "picture"]
CommandChannel = Literal["receipt", "picture"]
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names that appear in a topic: no '/', '+', '#', no leading dash or dot, at most 64 characters."""

_DEVICE_CHANNELS = frozenset(("sightings", "birth", "status", "health", "picture"))


def check_identifier(value: str) -> str:
    """Return ``value`` if it may stand in a topic, else raise ValueError (pydantic-friendly)."""
    if not IDENTIFIER.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a valid name: use letters, digits, '_', '.', '-', "
            "starting with a letter or digit, at most 64"
        )
    return value


def device(site: str, device_id: str, channel: DeviceChannel) -> str:
    """Topic a device publishes to."""
    return f"{ROOT}/{site}/dev/{device_id}/{channel}"


def command(site: str, device_id: str, channel: CommandChannel) -> str:
    """Topic a device listens to."""
    return f"{ROOT}/{site}/cmd/{device_id}/{channel}"


def identity(site: str, identity_id: str) -> str:
    """Topic of the events of one identity."""
    return f"{ROOT}/{site}/identity/{identity_id}"


def rejected(site: str, reason: str) -> str:
    """Topic where messages that could not be used are set aside, original bytes as payload."""
    return f"{ROOT}/{site}/rejected/{reason}"


def audit_head(site: str) -> str:
    """Topic of the head of the server's audit log: its last line's number and hash."""
    return f"{ROOT}/{site}/audit/head"


def every_device(site: str, channel: DeviceChannel) -> str:
    """Subscription filter for one channel of all devices of a site."""
    return f"{ROOT}/{site}/dev/+/{channel}"


@dataclass(frozen=True)
class DeviceTopic:
    """A parsed device topic."""

    site: str
    device: str
    channel: DeviceChannel


def parse_device(topic: str) -> DeviceTopic:
    """Parse ``skyreid/v1/{site}/dev/{device}/{channel}``.

    Raises:
        MessageError: ``topic`` is not a device topic of this version.
    """
    parts = topic.split("/")
    if (
        len(parts) != 6
        or "/".join(parts[:2]) != ROOT
        or parts[3] != "dev"
        or parts[5] not in _DEVICE_CHANNELS
        or not IDENTIFIER.fullmatch(parts[2])
        or not IDENTIFIER.fullmatch(parts[4])
    ):
        raise MessageError("topic", f"{topic!r} is not {ROOT}/SITE/dev/DEVICE/CHANNEL")
    return DeviceTopic(parts[2], parts[4], parts[5])  # type: ignore[arg-type]  # checked above
