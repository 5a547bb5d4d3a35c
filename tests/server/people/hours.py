"""A site over hours: who comes, leaves and comes back, and a server without processes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from one_life import Life

from skyreid.contract.sighting import Kind, ModelRef, Sighting, View

WIDE = 64


class Site:
    """Tells sightings of made-up people to one life of a server after the other."""

    def __init__(self, life: Callable[..., Life], make: Any) -> None:
        self._life, self._make = life, make
        type(make).model = ModelRef("0123456789abcdef", WIDE, "ab" * 32, "tiny")
        self.seq = 0
        self.begin()

    def begin(self, **more: Any) -> Life:
        """A life begins, on the journal that is there."""
        self.now = self._life(**more)
        return self.now

    def look(self, person: int, likeness: float, draw: int) -> Any:
        """``likeness`` is the cosine of a look to what they look like on average."""
        mean = np.random.default_rng([7, person]).normal(size=WIDE)
        noise = np.random.default_rng([8, draw]).normal(size=WIDE)
        mean, noise = mean / np.linalg.norm(mean), noise / np.linalg.norm(noise)
        noise -= (noise @ mean) * mean
        noise /= np.linalg.norm(noise)
        return (likeness * mean + np.sqrt(1 - likeness**2) * noise).astype(np.float32)

    def come(
        self, person: int, at_s: float, camera: str = "cam1", *, likeness: float = 0.97, last_s=20.0
    ) -> int:
        """Somebody is in a camera's picture for a while; which track that is."""
        self.seq += 1
        begin_ns = self._make.start_ns + round(at_s * 1e9)
        sighting: Sighting = self._make.sighting(
            self.seq,
            camera=camera,
            view=View.AERIAL if camera == "cam1" else View.GROUND,
            track=self.seq,
            kind=Kind.END,
            first_seen_ns=begin_ns,
            captured_at_ns=begin_ns + round(last_s * 1e9),
            embedding=self.look(person, likeness, self.seq),
            ground=None,
            crops=6,
        )
        payload = self._make.payload([sighting], device=camera)
        self.now.arrive(payload, device=camera)
        return self.seq

    def crowd(self, people: range, at_s: float, every_s: float = 30.0) -> None:
        """People come one after the other."""
        for k, person in enumerate(people):
            self.come(person, at_s + every_s * k, ("cam1", "cam6")[k % 2])

    def decide(self) -> None:
        """Until everything is decided, and everybody was asked for."""
        self.now.step_until(lambda: self.now.writer.settled)
        for _ in range(200):
            self.now.writer.step(0.0001)

    def who(self, track: int) -> str:
        """The identity of a track."""
        ((_, name),) = [kv for kv in self.now.writer.state.tracks.items() if kv[0].track == track]
        return name

    def person(self, track: int) -> str:
        """By which id the person of a track is known."""
        return self.now.writer.state.person(self.who(track))

    def link(self, track: int) -> Any:
        """The return of a track's identity."""
        return self.now.writer.state.identities[self.who(track)].link

    def undo(self, track: int) -> Any:
        """An operator undoes the return of a track's identity."""
        asked = self.now.writer.people.undo(self.who(track))
        self.now.writer.step(0.0001)
        assert asked.done.is_set()
        return asked.link

    def told(self, *tracks: int) -> list[dict[str, Any]]:
        """The events of returns, as the broker has them; of the identities of some tracks only."""
        data = [e["data"] for e in self.now.events() if e["data"]["type"] == "returned"]
        names = [self.who(track) for track in tracks]
        return [each for each in data if not names or each["identity"] in names]
