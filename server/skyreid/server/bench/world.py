"""A made-up site for matching to be measured on: how much there is to do, not how well it is done.

People walk across a place that is as large as their number asks for; two cameras see each, one from
above and one from the ground, for a dozen seconds. Embeddings are those of strangers with a part
that one person's have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from skyreid.contract.sighting import Box, Clock, Ground, Kind, Sighting, View

DIM = 192
LASTS_S = 12
"""How long a tracklet lasts; it is told of once a second."""
WINDOW_S = 600.0
START_NS = 1_790_000_000_000_000_000
A_PERSON_M2 = 25.0
_SUBSPACE = 48

Told = tuple[str, str, str, Sighting]


def tracklets_per_s(active: int) -> float:
    """How many begin a second where so many are in the window."""
    return active / WINDOW_S


def people_in_view(active: int) -> float:
    """How many tracklets are told of in a second where so many are in the window."""
    return tracklets_per_s(active) * LASTS_S


class World:
    """Sightings by capture time, about as many as a window of ``active`` tracklets has."""

    def __init__(
        self, active: int, *, placed: bool, seed: int = 0, start_ns: int = START_NS
    ) -> None:
        self.start_ns = start_ns
        """When ``live`` begins."""
        self._rng = np.random.default_rng(seed)
        self._placed = placed
        self._pairs_per_s = tracklets_per_s(active) / 2
        self._side_m = float(np.sqrt(A_PERSON_M2 * max(people_in_view(active) / 2, 8.0)))
        self._basis = np.linalg.qr(self._rng.normal(size=(DIM, _SUBSPACE)))[0]
        self._cameras = max(2, 2 * round(people_in_view(active) / 40))
        self._seq = 0
        self._tracks = 0

    def past(self, seconds: float) -> list[Told]:
        """Who was there before ``start_ns``: of each tracklet the last that was told."""
        out = []
        for _ in range(round(self._pairs_per_s * seconds)):
            end_s = -self._rng.uniform(0, seconds)
            out += [rows[0] for rows in self._person(end_s - LASTS_S, since=LASTS_S - 1)]
        return sorted(out, key=lambda row: row[3].captured_at_ns)

    @property
    def cameras(self) -> dict[str, str]:
        """View of each camera, as a site file has it."""
        return {f"cam{n}": ("aerial", "ground")[n % 2] for n in range(self._cameras)}

    def live(
        self, seconds: float, times: Callable[[int], float] = lambda _: 1.0
    ) -> Iterator[list[Told]]:
        """What is told second by second from ``start_ns`` on.

        ``times`` as many come in a second.
        """
        waiting: list[Told] = []
        rate = self._pairs_per_s
        for _ in range(round(rate * LASTS_S)):  # those who are in view already
            begin_s = -self._rng.uniform(0, LASTS_S)
            waiting += [row for rows in self._person(begin_s) for row in rows]
        for second in range(round(seconds)):
            for _ in range(self._rng.poisson(rate * times(second))):
                begin_s = second + self._rng.uniform()
                waiting += [row for rows in self._person(begin_s) for row in rows]
            end_ns = self.start_ns + (second + 1) * 10**9
            now = [row for row in waiting if row[3].captured_at_ns < end_ns]
            waiting = [row for row in waiting if row[3].captured_at_ns >= end_ns]
            yield sorted(now, key=lambda row: row[3].captured_at_ns)

    def crowd(self, people: int) -> list[Told]:
        """So many people come into the view of two cameras at one moment, in one place."""
        side_m, self._side_m = self._side_m, float(np.sqrt(A_PERSON_M2 * people))
        out = [rows[0] for _ in range(people) for rows in self._person(0.0, cameras=(0, 1))]
        self._side_m = side_m
        return sorted(out, key=lambda row: row[3].captured_at_ns)

    def _person(
        self, begin_s: float, *, cameras: tuple[int, int] | None = None, since: int = 0
    ) -> list[list[Told]]:
        """One person, seen from above and from the ground; what was told from a revision on."""
        rng = self._rng
        look = rng.normal(size=_SUBSPACE)
        at, towards = rng.uniform(0, self._side_m, 2), rng.uniform(0, 2 * np.pi)
        step = 1.2 * np.array([np.cos(towards), np.sin(towards)])
        first = 2 * int(rng.integers(self._cameras // 2))
        out = []
        for camera, view in zip(
            cameras or (first, first + 1), (View.AERIAL, View.GROUND), strict=True
        ):
            self._tracks += 1
            told = []
            for revision in range(since, LASTS_S):
                vector = self._basis @ (look + 0.6 * rng.normal(size=_SUBSPACE))
                told.append(
                    self._sighting(camera, view, revision, begin_s, at + revision * step, vector)
                )
            out.append(told)
        return out

    def _sighting(
        self,
        camera: int,
        view: View,
        revision: int,
        begin_s: float,
        at: np.ndarray,
        vector: np.ndarray,
    ) -> Told:
        self._seq += 1
        east, north = at + self._rng.normal(0, 0.2, 2)
        sighting = Sighting(
            seq=self._seq,
            camera=f"cam{camera}",
            view=view,
            track=self._tracks,
            revision=revision,
            kind=Kind.NEW if revision == 0 else Kind.UPDATE,
            first_seen_ns=self.start_ns + round((begin_s - 0.5) * 1e9),
            captured_at_ns=self.start_ns + round((begin_s + revision) * 1e9),
            clock=Clock.NTP,
            clock_error_ms=2,
            box=Box(10, 10, 60, 150, 1280, 720),
            quality=0.8,
            crops=4,
            embedding=(vector / np.linalg.norm(vector)).astype(np.float32),
            spread=0.9,
            ground=Ground(float(east), float(north), 0.1, 0.0, 0.1) if self._placed else None,
        )
        return f"device-{camera}", "1-bench", "0123456789abcdef", sighting
