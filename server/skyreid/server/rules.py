"""What a running server goes by and can be given anew, all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from skyreid.contract.site import Site
from skyreid.server.devices import Devices
from skyreid.server.matching.identity import State
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.priors import Normals
from skyreid.server.people.options import PeopleOptions


@dataclass(frozen=True)
class Rules:
    """Checked before they are handed to the writer, which takes them between two of its steps."""

    site: Site
    period_s: float
    """Wall seconds between two rounds of matching."""
    stall_s: float
    """See `Devices`, as the next."""
    hold_s: float
    is_open: bool
    """See `Door`, as the next two."""
    max_devices: int
    messages_per_s: float
    people: PeopleOptions
    priors: Mapping[str, Normals]
    """Of the embedder's bundle."""
    begin: Callable[[State], Matcher] | None = None
    """Makes an empty matcher where a log left off; None = the one that there is goes on."""

    def hold_for(self, devices: Devices) -> None:
        """Who is let in, and who is waited for."""
        cameras = [camera.id for camera in self.site.camera]
        if devices.door is not None:
            devices.door.judge_by(
                cameras,
                is_open=self.is_open,
                max_devices=self.max_devices,
                messages_per_s=self.messages_per_s,
            )
        devices.judge_by(cameras, stall_s=self.stall_s, hold_s=self.hold_s)
