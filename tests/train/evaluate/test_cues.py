import json
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.synth.wardrobe import person_as_json, population
from skyreid.train.evaluate import cues


def test_people_are_found_by_the_cues_that_ids_json_lists(tmp_path: Path) -> None:
    people = population(40, seed=3)
    rows = [person_as_json(person) for person in people]
    (tmp_path / "ids.json").write_text(json.dumps({"ids": rows}))
    found = cues.read(tmp_path)
    for name in ("air only: headgear", "ground only: shoe", "both views: pattern"):
        assert found[name] == {str(p.pid) for p in people if name.split(": ")[1] in p.cues}
    assert found[cues.FIRST] == {str(p.pid) for p in people if not p.cues}
    assert len(found[cues.FIRST]) == 10
    kinds = [key.partition(": ")[0] for key in found]
    assert list(dict.fromkeys(kinds)) == ["air only", "ground only", "both views", cues.FIRST]


def test_where_none_are_listed_they_are_what_differs_from_the_first_of_the_family(
    tmp_path: Path,
) -> None:
    people = population(40, seed=3)
    rows = [person_as_json(person) for person in people]
    bare = [{k: v for k, v in row.items() if k not in ("cues", "family")} for row in rows]
    (tmp_path / "ids.json").write_text(json.dumps({"ids": bare}))
    found = cues.read(tmp_path)
    wanted: dict[str, set[str]] = {}
    for person in people:
        eldest = next(p for p in people if p.family == person.family)
        for name in person.cues:
            if getattr(person, name) != getattr(eldest, name):
                wanted.setdefault(name, set()).add(str(person.pid))
    assert {key.partition(": ")[2]: who for key, who in found.items() if ": " in key} == wanted
    assert found[cues.FIRST] == {str(p.pid) for p in people if not p.cues}


def test_the_families_of_the_shared_crops_are_found(shared: Path) -> None:
    found = cues.read(shared / "data" / "agsim")
    assert len(found[cues.FIRST]) == 100
    assert found["both views"] - found[cues.FIRST] == found["both views"]


def test_a_tree_that_says_nothing_has_no_cues(tmp_path: Path) -> None:
    assert cues.read(tmp_path) == {}
    (tmp_path / "ids.json").write_text("{}")
    assert cues.read(tmp_path) == {}


@pytest.mark.parametrize("content", ["", "[1]", '{"ids": [{}]}', '{"ids": [{"pid": "x"}]}'])
def test_a_file_of_another_kind_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text(content)
    with pytest.raises(InputError, match=r"ids\.json is not what"):
        cues.read(tmp_path)
