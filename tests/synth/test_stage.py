from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skyreid.synth.figure import figure
from skyreid.synth.stage import Shot, Stage, build_stage, camera_model, shoot
from skyreid.synth.surfaces import placed

FRAME = 5


@pytest.fixture(scope="module")
def shots(stage: Stage) -> dict[int, Shot]:
    return shoot(stage, FRAME)


def test_the_same_seed_gives_the_same_labels_and_pictures(stage: Stage, shots: dict[int, Shot]):
    again = shoot(build_stage(stage.options), FRAME)
    for camera, shot in shots.items():
        for mine, other in zip(shot.boxes, again[camera].boxes, strict=True):
            assert mine.pid == other.pid
            edges = (mine.x0, mine.y0, mine.x1, mine.y1, mine.visibility)
            assert edges == pytest.approx(
                (other.x0, other.y0, other.x1, other.y1, other.visibility), abs=0.05
            )
        # Processors round differently; an edge pixel may belong to somebody else.
        difference = np.abs(shot.picture.astype(int) - again[camera].picture)
        assert np.mean(difference > 3) < 0.002


def test_a_frame_does_not_depend_on_the_frames_before_it(stage: Stage, shots: dict[int, Shot]):
    shoot(stage, FRAME - 1)
    for camera, shot in shoot(stage, FRAME).items():
        assert np.array_equal(shot.picture, shots[camera].picture)


def test_a_fixed_camera_shades_only_what_moved_and_nobody_can_tell(
    stage: Stage, shots: dict[int, Shot]
):
    from_scratch = shoot(replace(stage, still_views={}), FRAME)
    difference = np.abs(shots[12].picture.astype(int) - from_scratch[12].picture)
    assert np.mean(difference > 1) < 0.001


def test_boxes_contain_the_projected_person_and_end_at_the_feet(
    stage: Stage, shots: dict[int, Shot]
):
    checked = 0
    walks = stage.walks
    for camera, shot in shots.items():
        model = camera_model(stage.stations, camera, stage.options, FRAME)
        for box in shot.boxes:
            i = box.pid - 1
            place = (walks.east[FRAME, i], walks.north[FRAME, i], walks.heading[FRAME, i])
            mesh = figure(stage.people[i], walks.phase[FRAME, i], walks.swing[FRAME, i])
            body = placed(mesh, *place).vertices[: mesh.boxed]
            pixels, _ = model.project(body)
            inside = np.clip(pixels, 0, [model.width_px, model.height_px])
            assert inside.min(0) == pytest.approx([box.x0, box.y0], abs=0.01)
            assert inside.max(0) == pytest.approx([box.x1, box.y1], abs=0.01)
            feet, _ = model.project(np.array([[*place[:2], 0.0]]))
            height = box.y1 - box.y0
            if box.y1 < model.height_px and camera > 5:
                assert box.y1 - 0.2 * height < feet[0, 1] < box.y1 + 0.05 * height
            checked += 1
    assert checked >= 4


def test_visibility_is_the_part_that_shows(shots: dict[int, Shot]):
    values = [box.visibility for shot in shots.values() for box in shot.boxes]
    assert all(0 <= value <= 1 for value in values)
    assert max(values) > 0.95


def test_a_person_darkens_and_colours_the_picture_only_near_the_box_and_its_shadow(stage: Stage):
    alone = replace(stage.walks, present=np.zeros_like(stage.walks.present))
    empty = shoot(replace(stage, walks=alone), FRAME)
    peopled = shoot(stage, FRAME)
    assert all(not shot.boxes for shot in empty.values())
    shot = peopled[12]
    changed = np.abs(shot.picture.astype(int) - empty[12].picture).max(-1) > 12
    for box in shot.boxes:
        if box.visibility > 0.9:
            region = changed[int(box.y0) : int(box.y1) + 1, int(box.x0) : int(box.x1) + 1]
            assert region.mean() > 0.15


def test_jitter_moves_the_cameras_and_no_jitter_leaves_them(stage: Stage):
    from skyreid.synth.rig import station

    for camera in (1, 5, 6, 13):
        assert station(camera, seed=1) == station(camera, seed=2)
        assert station(camera, seed=1, jitter=1) != station(camera, seed=2, jitter=1)


def test_a_drone_drifts_and_a_street_camera_does_not(stage: Stage):
    first = camera_model(stage.stations, 1, stage.options, 0)
    later = camera_model(stage.stations, 1, stage.options, 7)
    assert 0.01 < np.linalg.norm(first.position - later.position) < 2
    first = camera_model(stage.stations, 12, stage.options, 0)
    later = camera_model(stage.stations, 12, stage.options, 7)
    assert np.array_equal(first.position, later.position)
