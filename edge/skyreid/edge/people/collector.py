"""From tracks to statements: a tracklet's best crops, their aggregate, and when to say it.

Where two people cross, a tracker may go on in the other's boxes. So each look compares the newest
crops with those that the tracklet is known by: one odd crop is left out, a change that lasts is
another tracklet. Who was lost and is found again has the tracklet that they had, also after END.

A statement replaces the one before it of the same track; it never adds evidence. It carries the box
and the ground position of the last frame in which the person was really detected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import Pose
from skyreid.contract.input_spec import InputSpec, crop_box, fit
from skyreid.contract.sighting import Box, Clock, Ground, Kind, Modality, Sighting, View
from skyreid.edge.people import ground, quality
from skyreid.edge.people.options import CollectorOptions
from skyreid.edge.people.quality import Crop, Judged, QualityOptions, Seeing, aggregate
from skyreid.edge.people.regained import KEPT_S, Known, RegainTuning, Spot, Trail, regained
from skyreid.edge.people.terrain import Terrain
from skyreid.edge.people.tracker import Track
from skyreid.edge.video.frame import Frame

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

Embed = Callable[[UInt8], Float32]
"""uint8 [N, H, W, 3] RGB of the input's size -> float32 [N, D], L2-normalised."""


BETTER_FACTOR = 1.5
"""A crop this many times as good as the best one so far is worth an update at once."""


@dataclass(frozen=True, eq=False)
class Statement:
    """A sighting that has no number yet, and the picture that belongs to it."""

    sighting: Sighting
    """``seq`` is 0; ``revision`` counts from 1."""
    picture: UInt8
    """Best crop so far, uint8 [h, w, 3] RGB as cut from the frame."""


LASTING = 2
"""So many odd crops in a row that look like each other are of somebody else ..."""
LASTING_WEIGHT = 1.5
"""... if their quality together is so many times the usual: poor crops show passers-by ..."""
LASTING_MOST = 8
"""... or if there are so many."""


@dataclass(eq=False)
class _Tracklet:
    number: int
    trail: Trail = field(default_factory=Trail)
    clock: Clock = Clock.ARRIVAL
    clock_error_ms: int = 0
    confirmed: bool = False
    crops: list[Crop] = field(default_factory=list)
    """The best, all of one person."""
    fresh: list[Crop] = field(default_factory=list)
    """Since the latest look: nobody has compared them yet."""
    odd: list[Crop] = field(default_factory=list)
    """The newest, where they look like somebody else."""
    revision: int = 0
    stated_ns: int = 0
    stated_best: float = 0.0
    last: Crop | None = None
    """The newest crop."""
    not_of: int = 0
    """In whose track it begins, as the newest crops told."""

    @property
    def spot(self) -> Spot:
        """Where and when it was last detected."""
        return self.trail.spots[-1]

    @property
    def quality(self) -> float:
        """Of the best crop, 0 where there is none."""
        return max((c.quality for c in (*self.crops, *self.fresh)), default=0.0)

    def note(self, frame: Frame, track: Track, spot: Spot) -> None:
        """Take in where the person is in a frame."""
        self.clock, self.clock_error_ms = frame.clock, frame.clock_error_ms
        self.confirmed = track.confirmed
        self.trail.note(spot)

    def known(self) -> Known:
        """What it is found again by."""
        return Known(self.trail, aggregate(self.crops)[0])

    def go_on_as(self, lost: _Tracklet) -> None:
        """Nothing was said of this one yet, and it is one that was lost."""
        self.number, self.revision, self.stated_ns = lost.number, lost.revision, lost.stated_ns
        self.stated_best = lost.stated_best
        self.trail.and_before(lost.trail)
        self.crops, self.fresh = [*lost.crops, *self.crops], [*lost.fresh, *self.fresh]

    def keep(self, crop: Crop, *, instead: bool) -> None:
        """Take in a crop, ``instead`` of the newest or beside it; grey after colour begins anew."""
        if self.last is not None and self.last.modality.colourless != crop.modality.colourless:
            self.crops, self.fresh, self.odd = [], [], []
        for crops in (self.fresh, self.odd, self.crops):
            if instead and self.last in crops:
                crops.remove(self.last)
        self.fresh.append(crop)
        self.last = crop

    def choose(self, crops_max: int) -> None:
        """Of the fresh ones leave those that are among the best, and the newest."""
        best = sorted((*self.crops, *self.fresh), key=lambda c: -c.quality)[:crops_max]
        self.fresh = [c for c in self.fresh if c in best or c is self.last]

    def compare(self, like_min: float) -> bool:
        """Sort the fresh crops by whom they show; whether somebody else goes on here."""
        for crop in self.fresh:
            if not self.crops or crop.looks_like(self.crops, like_min):
                self.crops.append(crop)
                self.odd = []
            elif crop.looks_like(self.odd, like_min):
                self.odd.append(crop)
            else:
                self.odd = [crop]
        self.fresh = []
        usual = sum(c.quality for c in self.crops) / max(len(self.crops), 1)
        weight = sum(c.quality for c in self.odd)
        lasting = len(self.odd) >= LASTING and weight >= LASTING_WEIGHT * usual
        if not lasting and len(self.odd) < LASTING_MOST:
            return False
        if self.revision == 0 and len(self.crops) == 1:  # the first one was the odd one
            self.crops, self.odd = self.odd, []
            return False
        return True


class Collector:
    """Keeps the best crops of every tracklet of one camera and says when there is news."""

    def __init__(
        self,
        embed: Embed,
        spec: InputSpec,
        *,
        camera: str,
        view: View,
        modality: Modality = Modality.UNKNOWN,
        options: CollectorOptions | None = None,
        quality_options: QualityOptions | None = None,
        foot_options: ground.FootOptions | None = None,
        terrain: Terrain | None = None,
        like_min: float | None = None,
        regain: RegainTuning | None = None,
    ) -> None:
        """Set up.

        Args:
            embed: crops to embeddings.
            spec: how ``embed`` wants its crops.
            camera: whose people these are.
            view: where the camera looks from.
            modality: what its pixels are; ``UNKNOWN`` = as measured.
            options: which crops are kept, and when a tracklet is spoken of.
            quality_options: what makes a crop a good one.
            foot_options: what is assumed for the ground position.
            terrain: the ground; None = it is flat.
            like_min: from which cosine on two crops may show one person; None = nobody knows, and
                no track is cut, and nobody who was lost is found again.
            regain: how near and how alike who is found again must be.
        """
        self._embed, self._spec = embed, spec
        self._camera, self._seeing = camera, Seeing(modality)
        self._view = view
        self._options = options or CollectorOptions()
        self._quality = quality_options or QualityOptions()
        self._foot, self._terrain = foot_options or ground.FootOptions(), terrain
        self._like_min, self._regain = like_min, regain or RegainTuning()
        self._open: dict[int, _Tracklet] = {}
        self._now_ns = 0
        self.judged: dict[int, Judged] = {}
        """By track, what became of the crop of the latest frame."""
        self.changed: list[int] = []
        """Tracks in which, as the latest frame told, somebody else goes on. Nothing but the last
        word is said of them any more: see `go_on`."""
        self.regained: list[tuple[int, int]] = []
        """Tracks, as the latest frame told, of somebody who was lost: their number, and that under
        which they go on from the next frame on, where they are still followed."""
        self._left: dict[int, _Tracklet] = {}
        self._lost: list[_Tracklet] = []
        self._size = (0, 0)

    @property
    def watermark_ns(self) -> int:
        """No later statement has ``captured_at_ns`` below this; 0 before the first frame.

        It lags behind the frames while a person is lost but not yet given up: the last word about
        them will carry the time at which they were last detected.
        """
        return min((t.spot.captured_at_ns for t in self._open.values()), default=self._now_ns)

    def update(
        self, frame: Frame, tracks: Sequence[Track], pose: Pose | None = None
    ) -> list[Statement]:
        """Take in one frame and every track that is alive in it; returns what there is to say.

        Args:
            frame: to cut crops out of.
            tracks: of everybody, seen in it or not.
            pose: the camera at the frame; None = nobody in it has a place on the ground.
        """
        before_ns, self._now_ns = self._now_ns, frame.captured_at_ns
        self._size = frame.width, frame.height
        alive = {track.number for track in tracks}
        ended = [t for number, t in self._open.items() if number not in alive]
        for tracklet in ended:
            del self._open[tracklet.number]
            tracklet.trail.miss(self._now_ns)
        # Whose track ends although it was just seen was two people all along, or is cut.
        cut = {t.number for t in self._left.values()}
        oldest_ns = self._now_ns - KEPT_S * 1e9
        self._lost = [t for t in self._lost if t.spot.captured_at_ns >= oldest_ns]
        self._lost += [t for t in ended if t.spot.captured_at_ns < before_ns or t.number in cut]
        self._left = {number: of for number, of in self._left.items() if number in alive}
        seen = [track for track in tracks if track.detected]
        for number in {t.number for t in tracks if not t.detected} & self._open.keys():
            self._open[number].trail.miss(self._now_ns)
        self._seeing.note(frame)
        self._take(frame, seen, pose)
        due = [t for track in seen if self._is_due(t := self._open[track.number])]
        return self._state([(t, Kind.END) for t in ended] + [(t, self._kind(t)) for t in due])

    def go_on(self, number: int, as_number: int) -> None:
        """Whoever goes on in a track of `changed` is followed under another number from here on."""
        self._left[as_number] = self._open[number]

    def finish(self) -> list[Statement]:
        """The video is over: the last word about everybody."""
        ended = list(self._open.values())
        self._open.clear()
        return self._state([(t, Kind.END) for t in ended])

    def _take(self, frame: Frame, tracks: Sequence[Track], pose: Pose | None) -> None:
        """Note where everybody is, and keep the crops that are worth it."""
        self.judged = {}
        if not tracks:
            return
        o = self._options
        limit = np.array([frame.width, frame.height] * 2, np.float32)
        boxes = np.minimum(np.maximum(np.array([t.box_xyxy for t in tracks]), 0), limit)
        scores = np.array([t.score for t in tracks])
        measures = quality.measure(boxes, scores, frame.width, frame.height, self._quality)
        worth = measures.product.tolist()
        for row, (track, corners) in enumerate(zip(tracks, boxes.tolist(), strict=True)):
            geometry, (x0, y0, x1, y1) = worth[row], corners
            tracklet = self._open.get(track.number)
            if tracklet is None:
                tracklet = _Tracklet(track.number)
                if (of := self._left.pop(track.number, None)) is not None:
                    tracklet.crops, tracklet.not_of = of.odd, of.number
                tracklet.last = tracklet.crops[-1] if tracklet.crops else None
                self._open[track.number] = tracklet
            tracklet.note(frame, track, Spot(frame.captured_at_ns, (x0, y0, x1, y1), pose))
            last = tracklet.last
            early = (
                last is not None
                and frame.captured_at_ns - last.captured_at_ns < o.crop_every_s * 1e9
            )
            least = last.quality * 1.1 if early and last is not None else o.quality_min
            if not self._seeing.steady:
                self.judged[track.number] = Judged(geometry, False, "colours come or go")
                continue
            if geometry < max(least, o.quality_min):
                why = "just kept one" if geometry >= o.quality_min else measures.weakest(row)
                self.judged[track.number] = Judged(geometry, False, why)
                continue
            area = crop_box((x0, y0, x1, y1), frame.width, frame.height, self._spec.crop_margin)
            picture = frame.crop(*area)
            good = geometry * quality.sharpness(picture, self._quality)
            if good < max(least, o.quality_min):
                why = "just kept one" if good >= o.quality_min else "blurred"
                self.judged[track.number] = Judged(good, False, why)
                continue
            self.judged[track.number] = Judged(good, True, "")
            crop = Crop(frame.captured_at_ns, good, picture, modality=self._seeing.modality)
            tracklet.keep(crop, instead=early)

    def _place(self, spot: Spot) -> Ground | None:
        """Where on the ground somebody stood."""
        if spot.pose is None:
            return None
        return ground.locate(spot.pose, spot.box_xyxy, self._view, self._foot, self._terrain)

    def _is_due(self, tracklet: _Tracklet) -> bool:
        o = self._options
        if not tracklet.confirmed or not (tracklet.crops or tracklet.fresh):
            return False
        if tracklet.odd:  # the next crop says who it is
            return bool(tracklet.fresh)
        if tracklet.revision == 0:
            return len(tracklet.crops) + len(tracklet.fresh) >= o.crops_min
        if tracklet.spot.captured_at_ns - tracklet.stated_ns >= o.update_every_s * 1e9:
            return True
        return tracklet.quality >= BETTER_FACTOR * tracklet.stated_best

    def _kind(self, tracklet: _Tracklet) -> Kind:
        return Kind.NEW if tracklet.revision == 0 else Kind.UPDATE

    def _state(self, due: Sequence[tuple[_Tracklet, Kind]]) -> list[Statement]:
        """Embed what is not embedded yet, all in one batch, and make the statements."""
        due = [(t, k) for t, k in due if (t.crops or t.fresh) and (t.confirmed or t.revision)]
        for tracklet, _ in due:
            tracklet.choose(self._options.crops_max)
        waiting = [c for t, _ in due for c in (*t.crops, *t.fresh) if c.embedding is None]
        if waiting:
            fitted = np.stack([fit(c.picture, self._spec) for c in waiting])
            for crop, vector in zip(waiting, self._embed(fitted), strict=True):
                crop.embedding = vector
        like_min = -1.0 if self._like_min is None else self._like_min
        self.changed = [t.number for t, kind in due if t.compare(like_min) and kind is not Kind.END]
        due = self._find_again(due)
        for tracklet, _ in due:
            while len(tracklet.crops) > self._options.crops_max:
                tracklet.crops.remove(min(tracklet.crops, key=lambda c: c.quality))
        return [
            self._statement(tracklet, kind)
            for tracklet, kind in due
            if kind is Kind.END or not tracklet.odd
        ]

    def _find_again(
        self, due: Sequence[tuple[_Tracklet, Kind]]
    ) -> Sequence[tuple[_Tracklet, Kind]]:
        """Of whom nothing was said yet goes on in whoever was lost, where both are one person."""
        self.regained = []
        new = [t for t, _ in due if t.revision == 0 and not t.odd]
        lost = [t for t in (*self._lost, *self._open.values()) if self._may_be(t, new)]
        if self._like_min is None or not new or not lost:
            return due
        known = [t.known() for t in new], [t.known() for t in lost]
        kinds = dict(due)
        for row, column in regained(*known, self._place, self._like_min, self._regain):
            tracklet, before = new[row], lost[column]
            number, alive = tracklet.number, before.number in self._open
            tracklet.go_on_as(before)
            kinds.pop(before, None)  # no last word
            gone = (before, tracklet) if alive else (before,)
            self._lost = [t for t in self._lost if t not in gone]
            self.regained.append((number, before.number))
            if number in self._open:
                del self._open[number]
            elif not alive:
                continue  # it has ended, and so has who it shows
            self._open[before.number] = tracklet
            kinds[tracklet] = self._kind(tracklet)
        return list(kinds.items())

    def _may_be(self, lost: _Tracklet, new: Sequence[_Tracklet]) -> bool:
        """Whether somebody is known, not seen now, and not in whose boxes a new one walked."""
        if lost.spot.captured_at_ns == self._now_ns or lost in new or not lost.crops:
            return False
        seen_so = lost.crops[-1].modality.colourless == self._seeing.modality.colourless
        return seen_so and lost.number not in [t.not_of for t in new]

    def _statement(self, tracklet: _Tracklet, kind: Kind) -> Statement:
        best = max(tracklet.crops, key=lambda c: c.quality)
        tracklet.revision += 1
        spot = tracklet.spot
        tracklet.stated_ns, tracklet.stated_best = spot.captured_at_ns, best.quality
        embedding, spread = aggregate(tracklet.crops)
        sighting = Sighting(
            seq=0,
            camera=self._camera,
            view=self._view,
            track=tracklet.number,
            revision=tracklet.revision,
            kind=kind,
            first_seen_ns=tracklet.trail.first_ns,
            captured_at_ns=spot.captured_at_ns,
            clock=tracklet.clock,
            clock_error_ms=tracklet.clock_error_ms,
            box=Box(*spot.box_xyxy, *self._size),
            quality=float(np.mean([c.quality for c in tracklet.crops])),
            crops=len(tracklet.crops),
            embedding=embedding,
            spread=spread,
            ground=self._place(spot),
            modality=best.modality,
            pauses=tracklet.trail.pauses,
        )
        return Statement(sighting, best.picture)
