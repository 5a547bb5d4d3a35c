from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skyreid.synth.closets import TEXTURES
from skyreid.synth.figure import figure
from skyreid.synth.surfaces import gathered, placed
from skyreid.synth.wardrobe import population

PEOPLE = population(24, seed=4)


@pytest.mark.parametrize("phase", [0.0, 1.3, 2.9, 4.4])
def test_everybody_stands_on_the_ground_and_is_as_tall_as_the_schema_says(phase: float):
    for person in PEOPLE:
        mesh = figure(person, phase)
        body = mesh.vertices[: mesh.boxed]
        assert abs(body[:, 2].min()) < 0.06
        hat = 0.25 if person.headgear != "none" or person.hairstyle in ("afro", "bun") else 0.08
        assert -0.12 < body[:, 2].max() - person.height < hat


def test_normals_have_unit_length_and_point_outwards():
    mesh = figure(PEOPLE[0], 0.7)
    lengths = np.linalg.norm(mesh.normals, axis=1)
    # At the pole of a blob all columns are one point, which has no direction.
    assert np.mean(np.abs(lengths - 1) < 1e-3) > 0.95
    assert lengths.max() < 1 + 1e-6
    outwards = ((mesh.vertices[:, :2] - mesh.vertices[:, :2].mean(0)) * mesh.normals[:, :2]).sum(1)
    assert np.mean(outwards > 0) > 0.6


def test_colours_are_linear_reflectances_and_do_not_change_with_the_pose():
    walking, standing = figure(PEOPLE[1], 1.0), figure(PEOPLE[1], 2.0, swing=0.0)
    assert walking.colours.min() > 0
    assert walking.colours.max() <= 1
    assert np.array_equal(walking.colours, standing.colours)


def test_a_rolling_suitcase_is_not_part_of_the_box():
    with_suitcase = next(p for p in population(200, seed=0) if p.bag == "suitcase")
    mesh = figure(with_suitcase, 0.0)
    assert mesh.boxed < len(mesh.vertices)
    without = next(p for p in PEOPLE if p.bag != "suitcase")
    mesh = figure(without, 0.0)
    assert mesh.boxed == len(mesh.vertices)


def test_cuts_widen_top_trousers_and_bag_and_textures_change_brightness_alone():
    plain = replace(PEOPLE[0], hem="shirt", legs="long", bag="backpack", pattern="solid")

    before = figure(plain, 0.0, swing=0.0).vertices
    for wider in ({"loose": 1.3}, {"trouser": 1.5}, {"bag_size": 1.3}):
        moved = figure(replace(plain, **wider), 0.0, swing=0.0).vertices - before
        assert 0.01 < np.linalg.norm(moved, axis=1).max() < 0.2
    smooth = figure(plain, 0.0).colours
    for texture in set(TEXTURES) - {"smooth"}:
        cloth = figure(replace(plain, texture=texture), 0.0)
        changed = np.abs(cloth.colours - smooth).max(1) > 1e-6
        assert 0.1 < changed.mean() < 0.8


def test_a_placed_figure_faces_its_heading():
    mesh = figure(PEOPLE[2], 0.0, swing=0.0)
    turned = placed(mesh, 5.0, -2.0, np.pi / 2)
    assert np.allclose(turned.vertices[:, 0], 5.0 - mesh.vertices[:, 1])
    assert np.allclose(turned.vertices[:, 1], -2.0 + mesh.vertices[:, 0])


def test_a_crowd_knows_whose_every_face_is():
    meshes = [figure(person, 0.0) for person in PEOPLE[:3]]
    crowd = gathered(meshes)
    for index, mesh in enumerate(meshes):
        faces = crowd.faces[crowd.owner == index]
        assert np.array_equal(faces - crowd.starts[index], mesh.faces)
