"""Render a synchronised clip of several cameras with its ground truth.

::

    OUT/cam{n}.mp4       H.264 or H.265, one per camera
    OUT/gt/cam{n}.txt    MOTChallenge: frame,id,x,y,w,h,1,1,visibility; frames from 1, ids global
    OUT/calib.json       camera poses, one entry for a fixed camera, one per frame for a drone
    OUT/world.csv        frame,id,x,y,heading: who is where, metres and radians
    OUT/ids.json         the people, and in how many frames each camera labels them
    OUT/clip.json        the options, and how high the cameras are and how far they look down
    OUT/cam{n}.ts        with --telemetry, of every drone: its pictures and its KLV
    OUT/telemetry.json   with --telemetry: the errors that were drawn
    OUT/preview.png      with --preview: every camera at five moments, with its boxes
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from skyreid.contract.camera import CameraPoses, write_poses
from skyreid.contract.sighting import View
from skyreid.synth.native import one_thread
from skyreid.synth.options import ClipOptions
from skyreid.synth.preview import PREVIEW, clip_sheet, write_sheet
from skyreid.synth.rig import place_in_air, view_of
from skyreid.synth.stage import Box, Stage, build_stage, camera_model, shoot
from skyreid.synth.telemetry import write_telemetry
from skyreid.synth.unfinished import unfinished
from skyreid.synth.video import GROUP_S, VideoWriter, join_videos
from skyreid.synth.wardrobe import person_as_json

PARTS = "parts"


def clip(options: ClipOptions) -> None:
    """Render a clip into `options.out`, which must be new, empty or a clip that was stopped.

    It is made in parts of a key frame's distance, each by one process from bodies to bytes; whoever
    stops it loses the parts that are not finished.

    Raises:
        InputError: the folder holds something else, or a clip begun with other options.
    """
    out = options.out
    with unfinished(out, _order(options)) as progress:
        (out / PARTS).mkdir(exist_ok=True)
        stage = build_stage(options)
        parts = _parts(options)
        left = [number for number in range(len(parts)) if number not in progress.done]
        done = sum(len(parts[number]) for number in progress.done)
        bar = tqdm(total=options.frame_count, initial=done, unit="frame", disable=None)
        with bar, _all_parts(stage, left) as made:
            for number, rows in zip(left, made, strict=True):
                progress.add(number, rows)
                bar.update(len(parts[number]))
        rows_of = {
            camera: [row for n in range(len(parts)) for row in progress.done[n][str(camera)]]
            for camera in options.cameras
        }
        for camera in options.cameras:
            pieces = [_part_path(out, camera, number) for number in range(len(parts))]
            join_videos(pieces, out / f"cam{camera}.mp4", options.fps)
        _write_truth(stage, rows_of)
        if options.preview:
            moments = np.linspace(0, options.frame_count - 1, 5)
            shown = {round(moment): shoot(stage, round(moment)) for moment in moments}
            write_sheet(out / PREVIEW, clip_sheet(shown))
        shutil.rmtree(out / PARTS)


def _order(options: ClipOptions) -> dict[str, Any]:
    """Every option that decides what the clip holds."""
    order = asdict(options)
    for key in ("out", "jobs", "preview"):
        del order[key]
    return order


def _parts(options: ClipOptions) -> list[range]:
    """The frames of each part."""
    length = GROUP_S * options.fps
    count = options.frame_count
    return [range(first, min(count, first + length)) for first in range(0, count, length)]


def _part_path(out: Path, camera: int, number: int) -> Path:
    return out / PARTS / f"cam{camera}_{number:04d}.mp4"


def _write_truth(stage: Stage, rows: Mapping[int, Sequence[str]]) -> None:
    """Everything but the pictures."""
    options, out = stage.options, stage.options.out
    (out / "gt").mkdir(exist_ok=True)
    for camera, lines in rows.items():
        text = "".join(line + "\n" for line in lines)
        (out / "gt" / f"cam{camera}.txt").write_text(text)
    poses = _poses(stage)
    write_poses(out / "calib.json", poses)
    if options.telemetry is not None:
        write_telemetry(out, poses, options.telemetry, options.seed)
    write_world(out / "world.csv", stage)
    people = [
        {**person_as_json(person), "frames": _frames_by_camera(rows, person.pid)}
        for person in stage.people
    ]
    (out / "ids.json").write_text(json.dumps(people, indent=1) + "\n")
    # Of a drone on its way: at the first frame.
    cameras = {name: place_in_air(several.models[0]) for name, several in poses.items()}
    (out / "clip.json").write_text(json.dumps({**_order(options), "rig": cameras}, indent=1) + "\n")


def truth_row(frame: int, box: Box) -> str:
    """One MOTChallenge ground-truth row, frames from 1."""
    width, height = box.x1 - box.x0, box.y1 - box.y0
    corner = f"{box.x0:.1f},{box.y0:.1f},{width:.1f},{height:.1f}"
    return f"{frame},{box.pid},{corner},1,1,{box.visibility:.2f}"


def _frames_by_camera(rows: Mapping[int, Sequence[str]], pid: int) -> dict[str, int]:
    """Labelled frames of a person by camera, where there are any: who is in which view."""
    counts = {c: sum(int(row.split(",")[1]) == pid for row in lines) for c, lines in rows.items()}
    return {f"cam{camera}": count for camera, count in counts.items() if count}


def write_world(path: Path, stage: Stage) -> None:
    """Where everybody is at every frame; who has left or not yet come has no row."""
    walks = stage.walks
    lines = ["frame,id,x,y,heading"]
    for frame in range(stage.options.frame_count):
        for i in np.flatnonzero(walks.present[frame]):
            place = f"{walks.east[frame, i]:.3f},{walks.north[frame, i]:.3f}"
            heading = (walks.heading[frame, i] + np.pi) % (2 * np.pi) - np.pi
            lines.append(f"{frame + 1},{stage.people[i].pid},{place},{heading:.3f}")
    path.write_text("\n".join(lines) + "\n")


def _poses(stage: Stage) -> dict[str, CameraPoses]:
    poses = {}
    for camera in stage.options.cameras:
        view = view_of(camera)
        count = stage.options.frame_count if view is View.AERIAL else 1
        models = (
            camera_model(stage.stations, camera, stage.options, frame) for frame in range(count)
        )
        poses[f"cam{camera}"] = CameraPoses(
            view, stage.options.fps, tuple(range(1, count + 1)), tuple(models)
        )
    return poses


@one_thread()
def render_part(stage: Stage, number: int) -> dict[str, list[str]]:
    """Draw and encode one part of every camera's video; returns the truth rows by camera."""
    options = stage.options
    rows: dict[str, list[str]] = {str(camera): [] for camera in options.cameras}
    with ExitStack() as stack:
        writers = {
            camera: stack.enter_context(
                VideoWriter(
                    _part_path(options.out, camera, number),
                    options.width_px,
                    options.height_px,
                    options.fps,
                    options.crf,
                    options.codec,
                )
            )
            for camera in options.cameras
        }
        for frame in _parts(options)[number]:
            for camera, shot in shoot(stage, frame).items():
                writers[camera].write(shot.picture)
                rows[str(camera)] += [truth_row(frame + 1, box) for box in shot.boxes]
    return rows


@contextmanager
def _all_parts(stage: Stage, parts: list[int]) -> Iterator[Iterator[dict[str, list[str]]]]:
    """The rows of some parts in order, from as many processes as were asked for."""
    jobs = min(stage.options.jobs, len(parts))
    if jobs <= 1:
        yield (render_part(stage, number) for number in parts)
        return
    with get_context("spawn").Pool(jobs, _open_stage, (stage,)) as pool:
        yield pool.imap(_render_here, parts)


_stage: Stage | None = None  # of a worker process, set once


def _open_stage(stage: Stage) -> None:
    global _stage
    _stage = stage


def _render_here(number: int) -> dict[str, list[str]]:
    if _stage is None:
        raise RuntimeError("a worker was asked to render before its stage was set")
    return render_part(_stage, number)
