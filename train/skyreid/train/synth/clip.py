"""Render a synchronised clip of several cameras with its ground truth.

::

    OUT/cam{n}.mp4       H.264 or H.265, one per camera
    OUT/gt/cam{n}.txt    MOTChallenge: frame,id,x,y,w,h,1,1,visibility; frames from 1, ids global
    OUT/calib.json       camera poses, one entry for a fixed camera, one per frame for a drone
    OUT/world.csv        frame,id,x,y,heading: who is where, metres and radians
    OUT/ids.json         the people, and in how many frames each camera labels them
    OUT/cam{n}.ts        with --telemetry, of every drone: its pictures and its KLV
    OUT/telemetry.json   with --telemetry: the errors that were drawn
    OUT/preview.png      with --preview: every camera at five moments, with its boxes
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from skyreid.contract.camera import CameraPoses, write_poses
from skyreid.contract.sighting import View
from skyreid.train.synth.folder import make_new_folder
from skyreid.train.synth.options import ClipOptions
from skyreid.train.synth.preview import PREVIEW, clip_sheet, write_sheet
from skyreid.train.synth.rig import view_of
from skyreid.train.synth.stage import Box, Shot, Stage, build_stage, camera_model, shoot
from skyreid.train.synth.telemetry import write_telemetry
from skyreid.train.synth.video import VideoWriter
from skyreid.train.synth.wardrobe import person_as_json


def clip(options: ClipOptions) -> None:
    """Render a clip into `options.out`, which must be new or empty.

    Raises:
        InputError: the folder holds something already.
    """
    make_new_folder(options.out)
    (options.out / "gt").mkdir()
    stage = build_stage(options)
    # Frames of the contact sheet, filled as they come.
    moments = np.linspace(0, options.frame_count - 1, 5) if options.preview else ()
    shown: dict[int, dict[int, Shot]] = {round(moment): {} for moment in moments}
    rows: dict[int, list[str]] = {camera: [] for camera in options.cameras}
    with ExitStack() as stack:
        writers = {
            camera: stack.enter_context(
                VideoWriter(
                    options.out / f"cam{camera}.mp4",
                    options.width_px,
                    options.height_px,
                    options.fps,
                    options.crf,
                    options.codec,
                )
            )
            for camera in options.cameras
        }
        shots = stack.enter_context(_all_shots(stage))
        for frame, seen in enumerate(
            tqdm(shots, total=options.frame_count, unit="frame", disable=None)
        ):
            for camera, shot in seen.items():
                writers[camera].write(shot.picture)
                rows[camera] += [truth_row(frame + 1, box) for box in shot.boxes]
            if frame in shown:
                shown[frame] = seen
    if options.preview:
        write_sheet(options.out / PREVIEW, clip_sheet(shown))
    for camera, lines in rows.items():
        text = "".join(line + "\n" for line in lines)
        (options.out / "gt" / f"cam{camera}.txt").write_text(text)
    poses = _poses(stage)
    write_poses(options.out / "calib.json", poses)
    if options.telemetry is not None:
        write_telemetry(options.out, poses, options.telemetry, options.seed)
    write_world(options.out / "world.csv", stage)
    people = [
        {**person_as_json(person), "frames": _frames_by_camera(rows, person.pid)}
        for person in stage.people
    ]
    (options.out / "ids.json").write_text(json.dumps(people, indent=1) + "\n")


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


@contextmanager
def _all_shots(stage: Stage) -> Iterator[Iterator[dict[int, Shot]]]:
    """The shots of every frame in order, from as many processes as were asked for."""
    options = stage.options
    frames = range(options.frame_count)
    if options.jobs == 1:
        yield map(partial(shoot, stage), frames)
        return
    with get_context("spawn").Pool(options.jobs, _open_stage, (stage,)) as pool:
        yield pool.imap(_shoot_here, frames)


_stage: Stage | None = None  # of a worker process, set once


def _open_stage(stage: Stage) -> None:
    global _stage
    _stage = stage


def _shoot_here(frame: int) -> dict[int, Shot]:
    if _stage is None:
        raise RuntimeError("a worker was asked to shoot before its stage was set")
    return shoot(_stage, frame)
