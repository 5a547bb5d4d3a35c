"""What a recording takes of each frame: tracks once their number is final, the rest at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyreid.contract.recording import Recorder

if TYPE_CHECKING:
    from skyreid.bundle.detections import Detections
    from skyreid.contract.camera import Pose
    from skyreid.edge.people.collector import Statement
    from skyreid.edge.people.tracker import Track
    from skyreid.edge.video.frame import Frame


class Rows:
    """Holds back a track's rows until something is said of it, or it ends.

    Until then it may turn out to be somebody who was lost, and have their number.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._waiting: dict[int, list[tuple[int, list[float], float]]] = {}
        self._told: set[int] = set()

    def add(
        self, frame: Frame, found: Detections, tracks: Sequence[Track], pose: Pose | None
    ) -> None:
        """Take in what was found in a frame, who was seen, and a pose that the camera told."""
        self._recorder.detections(frame.number, found.boxes, found.scores)
        if pose is not None and pose.cov is not None:  # it says so itself
            self._recorder.pose(frame.captured_at_ns, pose.model)
        for track in tracks:
            row = frame.number, [float(v) for v in track.box_xyxy], track.score
            self._waiting.setdefault(track.number, []).append(row)

    def write(
        self,
        said: Sequence[Statement],
        followed: Sequence[Track],
        regained: Sequence[tuple[int, int]],
        offset: int,
    ) -> None:
        """Write down whose number is final.

        Args:
            said: statements of now.
            followed: who still is.
            regained: numbers, and those under which they go on, both less ``offset``.
            offset: what the other numbers have more.
        """
        alive = {t.number for t in followed}
        finals = {number + offset: old + offset for number, old in regained}
        self._told = (self._told & alive) | {s.sighting.track for s in said}
        for number in list(self._waiting):
            final = finals.get(number, number)
            if final in self._told or number not in alive:
                for frame, box, score in self._waiting.pop(number):
                    self._recorder.tracks(frame, [(final, box, score)])
