"""The way to the broker, as far as the outbox sees it: one connection, which remembers nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from skyreid.contract.broker import Trouble
from skyreid.contract.topics import DeviceChannel


class Link(Protocol):
    """One connection to the broker, as far as the outbox sees it."""

    unacknowledged_max: int
    """Messages that the broker has not acknowledged, at most."""

    def send(
        self,
        channel: DeviceChannel,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> int:
        """Hand over a message; returns its number, which is named when the broker has it."""
        ...

    def room(self, channel: DeviceChannel, properties: Mapping[str, str] | None = None) -> int:
        """Bytes of payload that the broker takes in one message with these properties."""
        ...

    def hang_up(self, why: Trouble) -> None:
        """End this connection."""
        ...

    def complain(self, about: Trouble) -> None:
        """Something cannot be sent over it."""
        ...
