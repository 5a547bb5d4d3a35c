from pathlib import Path

import pytest

from skyreid.contract.input_spec import InputSpec
from skyreid.train.data import cargo, pictures
from skyreid.train.fit.selection import cross_view, selection_value
from skyreid.train.models import variants


def test_held_out_people_of_one_view_search_each_others_cameras(tiny_tree: Path) -> None:
    spec = InputSpec(height=32, width=16)
    config = variants.variant("vdt-tiny", height=32, width=16, people=2, trunk={"depth": 1})
    network = variants.construct(config).eval()
    both = cargo.read(tiny_tree, "train").records  # two pictures a person in each of four cameras
    ground = [r for r in both if r.view == "ground"]
    found = cross_view(network, spec, ground, pictures.load(ground, spec).images)
    assert {name: result.queries for name, result in found.items()} == {"ALL": 24}
    found = cross_view(network, spec, both, pictures.load(both, spec).images)
    assert {name: result.queries for name, result in found.items()} == {"A->G": 24, "G->A": 24}
    halves = [(s.rank1 + s.average_precision) / 2 for s in found.values()]
    assert selection_value(found) == pytest.approx(sum(halves) / 2)
