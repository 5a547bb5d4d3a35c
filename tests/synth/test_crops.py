from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from skyreid.synth.__main__ import main
from skyreid.synth.crop_names import crop_name, people_to_test_on
from skyreid.synth.crops import Studio
from skyreid.synth.options import PLACES, CropsOptions, SeveralHours
from skyreid.synth.rig import station
from skyreid.synth.wardrobe import population
from skyreid.train.data import catalogue

NAME = re.compile(r"Cam(\d+)_(day|night)_(\d{4})_(\d+)\.jpg")
ARGUMENTS = ["--people", "8", "--cameras", "1,9,10", "--frames", "2", "--seed", "4"]


def read(path: Path) -> np.ndarray[Any, Any]:
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "crops"
    assert main(["crops", str(out), *ARGUMENTS]) == 0
    return out


def pictures(crops: Path) -> list[Path]:
    return sorted(crops.rglob("*.jpg"))


def test_names_and_folders_are_those_of_cargo(crops: Path):
    assert len(pictures(crops)) >= 44  # of 48; a place with a clear view is not always found
    for path in pictures(crops):
        split, folder, name = path.relative_to(crops).parts
        match = NAME.fullmatch(name)
        assert match is not None, name
        camera, hour, person, k = match.groups()
        assert folder == f"Cam{camera}"
        assert hour == ("night" if camera == "9" else "day")
        # Read as the parser of CARGO reads it.
        assert int(name.split("_")[2]) == int(person)
        assert int(name.split("_")[0][3:]) == int(camera)
        assert split == "train" or split == ("query" if k == "0" else "gallery")


def test_a_family_goes_to_one_side_of_the_split(crops: Path):
    table = json.loads((crops / "ids.json").read_text())
    family = {person["pid"]: person["family"] for person in table["ids"]}
    sides: dict[int, set[bool]] = {}
    for path in pictures(crops):
        train = path.relative_to(crops).parts[0] == "train"
        sides.setdefault(family[int(path.name.split("_")[2])], set()).add(train)
    assert sorted(sides.values(), key=str) == [{False}, {True}]
    tested = {int(path.name.split("_")[2]) for path in pictures(crops / "query")}
    assert tested <= set(table["test"])


def test_no_family_is_split_at_any_fraction():
    people = population(42, seed=3)
    for part in (0.0, 0.25, 0.5, 1.0):
        chosen = people_to_test_on(people, part, seed=1)
        sizes = Counter(person.family for person in people)
        inside = Counter(person.family for person in people if person.pid in chosen)
        assert all(inside[number] in (0, size) for number, size in sizes.items())
        assert len(inside) == round(part * len(sizes))


def test_every_crop_is_labelled_and_shows_somebody(crops: Path):
    labels = json.loads((crops / "ids.json").read_text())["crops"]
    assert set(labels) == {path.name for path in pictures(crops)}
    for path in pictures(crops):
        picture = cv2.imread(str(path))
        assert picture is not None
        height, width = picture.shape[:2]
        assert 16 <= height <= 256
        label = labels[path.name]
        assert 0.5 <= label["vis"] <= 1
        assert label["box"][2] / label["box"][3] == pytest.approx(width / height, rel=0.2)
        assert picture.std() > 8


def test_the_crops_are_read_as_cargo_without_a_switch(crops: Path):
    data = catalogue.open(crops)
    train, test = data.train(), data.test()
    assert data.name == "CARGO"
    records = (*train.records, *test.records)
    assert sorted(record.path for record in records) == pictures(crops)
    assert train.refused == test.refused == train.left_out == test.left_out == {}
    altitudes = {record.camera: record.altitude_m or 0.0 for record in records}
    assert altitudes[1] == pytest.approx(station(1).position[2], abs=0.01)
    assert altitudes[1] > 10 > altitudes[9] > 1


def test_two_pictures_of_one_camera_differ_in_light(crops: Path):
    tones: dict[str, list[float]] = {}
    for path in pictures(crops):
        camera = path.name.split("_")[0]
        tones.setdefault(camera, []).append(float(read(path).mean()))
    assert np.std(tones["Cam1"]) > 3


def test_the_same_seed_gives_the_same_crops_whoever_else_is_drawn(crops: Path, tmp_path: Path):
    out = tmp_path / "again"
    fewer = ["--people", "8", "--cameras", "10", "--frames", "1", "--seed", "4"]
    assert main(["crops", str(out), *fewer]) == 0
    for path in pictures(out):
        first = read(crops / path.relative_to(out)).astype(int)
        again = read(path).astype(int)
        assert first.shape == again.shape
        assert np.mean(np.abs(first - again) > 8) < 0.01


def test_clutter_changes_what_is_behind_and_not_who_stands_before_it(tmp_path: Path):
    few = ["--people", "4", "--cameras", "10", "--frames", "1", "--seed", "4"]
    sets = {}
    for clutter in ("0", "1"):
        out = tmp_path / clutter
        assert main(["crops", str(out), *few, "--wardrobe", "everyday", "--clutter", clutter]) == 0
        sets[clutter] = out
    changed = {"edge": 0.0, "middle": 0.0}
    for path in pictures(sets["0"]):
        plain, other = (read(out / path.relative_to(sets["0"])) for out in sets.values())
        difference = np.abs(plain.astype(int) - other.astype(int)).mean(2)
        height, width = difference.shape
        changed["edge"] += float(difference[: height // 10].mean())
        third = slice(2 * height // 5, 3 * height // 5), slice(2 * width // 5, 3 * width // 5)
        changed["middle"] += float(difference[third].mean())
    assert changed["edge"] > 3 * changed["middle"]


def test_the_frame_cuts_the_part_of_the_people_that_is_asked_for(tmp_path: Path):
    few = ["--people", "4", "--cameras", "10", "--frames", "1", "--seed", "4"]
    boxes = {}
    for cut in ("0", "1"):
        out = tmp_path / cut
        assert main(["crops", str(out), *few, "--cut", cut]) == 0
        labels = json.loads((out / "ids.json").read_text())["crops"]
        boxes[cut] = {name: label["box"] for name, label in labels.items()}
    for name in boxes["0"].keys() & boxes["1"].keys():
        whole, cut_one = (np.prod(boxes[cut][name][2:]) for cut in ("0", "1"))
        assert 0.4 < cut_one / whole < 0.93


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_set_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stopped after three people, with the fourth's line half written."""
    from skyreid.synth import crops as module

    out = tmp_path / "crops"
    whole = module.person_crops
    rendered: list[int] = []

    def until_four(studio: module.Studio, person: module.Person) -> list[module.Crop]:
        rendered.append(person.pid)
        if len(rendered) == 4:
            raise KeyboardInterrupt
        return whole(studio, person)

    monkeypatch.setattr(module, "person_crops", until_four)
    assert main(["crops", str(out), *ARGUMENTS]) == 130
    assert not (out / "ids.json").exists()
    with (out / "unfinished.jsonl").open("a") as file:
        file.write('{"pid": 4, "lab')
    monkeypatch.setattr(module, "person_crops", whole)
    assert main(["crops", str(out), *ARGUMENTS, "--preview"]) == 0
    again = everything(out)
    assert again.pop("preview.png").startswith(b"\x89PNG")
    assert again == everything(crops)


def test_two_processes_make_what_one_makes_in_a_yard_at_dusk_from_low_drones(tmp_path: Path):
    asked = ["--people", "5", "--cameras", "1", "--frames", "1", "--seed", "4"]
    choices = ["--place", "yard", "--hour", "dusk", "--altitude", "low"]
    for jobs in ("1", "2"):
        assert main(["crops", str(tmp_path / jobs), *asked, *choices, "--jobs", jobs]) == 0
    made = everything(tmp_path / "1")
    assert made == everything(tmp_path / "2")
    table = json.loads(made["ids.json"])
    assert table["altitude"] == "low"
    assert table["cameras"]["1"] == {"altitude_m": 9.0, "pitch_deg": -28.0, "hour": "dusk"}
    assert table["places"] == {str(pid): "yard" for pid in range(1, 6)}
    names = [path.name for path in pictures(tmp_path / "1")]
    assert len(names) >= 4
    assert all("_night_" in name for name in names)


def test_families_are_at_one_place_each_and_all_places_are_used():
    options = CropsOptions(out=Path("unused"), people=24, place="mixed")
    places = dict.fromkeys(PLACES, None)
    studio = Studio(options, places, population(24, seed=1), {}, {}, {})  # type: ignore[arg-type]
    chosen: dict[int, set[str]] = {}
    for person in studio.people:
        chosen.setdefault(person.family, set()).add(studio.place_of(person))
    assert all(len(names) == 1 for names in chosen.values())
    assert Counter(name for (name,) in chosen.values()) == dict.fromkeys(PLACES, 2)


@pytest.mark.parametrize(
    ("hour", "camera", "word"),
    [
        ("mixed", 4, "night"),
        ("mixed", 5, "day"),
        ("day", 4, "day"),
        ("dusk", 5, "night"),
        ("night", 5, "night"),
    ],
)
def test_names_call_dusk_night_as_cargo_knows_no_other_word(
    hour: SeveralHours, camera: int, word: str
):
    assert crop_name(7, camera, 1, hour) == f"Cam{camera}_{word}_0007_1.jpg"


def test_a_set_begun_with_other_options_is_not_mixed_with_this_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "crops"
    out.mkdir()
    (out / "unfinished.jsonl").write_text('{"people": 9}\n')
    assert main(["crops", str(out), *ARGUMENTS]) == 2
    error = capsys.readouterr().err
    assert "'people': 9" in error
    assert error.count("\n") == 1
    assert (out / "unfinished.jsonl").read_text() == '{"people": 9}\n'


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--people", "10000"], "--people 10000"),
        (["--test", "1.5"], "--test 1.5"),
        (["--frames", "0"], "--frames 0"),
    ],
)
def test_a_bad_argument_gives_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
):
    assert main(["crops", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert word in error
