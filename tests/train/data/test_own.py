"""One's own people: a folder, a pattern or a table goes where a published data set goes."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.train.__main__ import main
from skyreid.train.data import catalogue, summary
from skyreid.train.data.catalogue import Told
from skyreid.train.data.records import Record
from skyreid.train.data.trials import TestSet, Trial
from skyreid.train.evaluate.metrics import Embedded
from skyreid.train.evaluate.tracklets import pooled

RECIPE = """
[model]
variant = "vit-tiny"
trunk = { depth = 1 }
[input]
height = 32
width = 16
[batch]
people = 2
crops = 2
[optimiser]
warmup_steps = 0
[run]
steps = 1
held_out_people = 2
"""

Place = Callable[[int, int, int], str]
Laid = Callable[[Place], Path]


@pytest.fixture
def laid(tiny_tree: Path, tmp_path: Path) -> Laid:
    """The six people of four cameras (1 and 2 fly) under names of one's own."""

    def at(name: Place) -> Path:
        root = tmp_path / "own"
        for path in sorted((tiny_tree / "train").rglob("*.jpg")):
            camera, _, person, shot = path.stem.removeprefix("Cam").split("_")
            place = root / name(int(person), int(camera), int(shot))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        return root

    return at


def street_or_drone(camera: int) -> str:
    return "drone" if camera < 6 else "street"


def told_apart(records: tuple[Record, ...]) -> set[tuple[str, int, str]]:
    return {(r.person, r.camera, r.view) for r in records}


def test_a_folder_of_people_and_cameras_needs_no_more_than_which_of_them_fly(laid: Laid) -> None:
    root = laid(lambda p, c, k: f"person {p}/cam-{c}/{k}.jpg")
    with pytest.raises(InputError, match=r"name them with --aerial .*cam-1, cam-2, cam-6, cam-7"):
        catalogue.open(root)
    with pytest.raises(InputError, match=r"--aerial cam1: .*did you mean cam-1\?"):
        catalogue.open(root, told=Told(aerial=("cam1",)))
    data = catalogue.open(root, told=Told(aerial=("cam-1", "cam-2")))
    assert data.cameras == {1: "cam-1", 2: "cam-2", 3: "cam-6", 4: "cam-7"}
    assert told_apart(data.train().records) == {
        (f"person {p}", c, "aerial" if c < 3 else "ground")
        for p in range(1, 7)
        for c in range(1, 5)
    }
    assert data.title == "own people, read as {person}/{camera}/*,"


def test_a_folder_whose_folders_are_called_drone_and_street_says_its_views(laid: Laid) -> None:
    data = catalogue.open(laid(lambda p, c, k: f"{street_or_drone(c)}/person_{p}/{c}_{k}.jpg"))
    assert told_apart(data.train().records) == {
        (f"person_{p}", c, v) for p in range(1, 7) for c, v in ((1, "aerial"), (2, "ground"))
    }


def test_more_cameras_than_cargo_has_are_read_by_a_pattern(laid: Laid) -> None:
    root = laid(lambda p, c, k: f"train/Cam{c + 20}/Cam{c + 20}_day_{p:04d}_{k}.JPG")
    with pytest.raises(InputError, match="by camera"):
        catalogue.open(root).train()
    data = catalogue.open(
        root / "{split}" / "*" / "Cam{camera}_*_{person}_*.jpg",
        told=Told(aerial=("21", "22")),
    )
    assert data.root == root
    assert told_apart(data.train().records) == {
        (f"{p:04d}", c, "aerial" if c < 23 else "ground")
        for p in range(1, 7)
        for c in (21, 22, 26, 27)
    }
    with pytest.raises(InputError, match="split train and none of query"):
        data.test()


def test_a_set_with_the_names_of_market_and_more_cameras_is_not_called_market(laid: Laid) -> None:
    root = laid(lambda p, c, k: f"bounding_box_train/{p:04d}_c{c + 1}s1_{k:06d}_01.jpg")
    with pytest.raises(InputError, match=r"by camera, of which Market-1501 has six: read others"):
        catalogue.open(root).train()
    data = catalogue.open(root / "{split}" / "{person}_c{camera}s*", told=Told(aerial=()))
    assert {r.camera for r in data.train().records} == {2, 3, 7, 8}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{person}{camera}/*", r"\{person\} and \{camera\} stand side by side"),
        ("{who}/{camera}/*", r"\{who\} is no field; they are \{person\}, \{camera\}"),
        ("{person}/{person}_{camera}", "there twice"),
        ("{person}/*", r"needs \{person\}, and \{camera\} or \{view\}"),
    ],
)
def test_a_pattern_that_cannot_be_understood_says_why(laid: Laid, pattern: str, said: str) -> None:
    root = laid(lambda p, c, k: f"{p}/{c}/{k}.jpg")
    with pytest.raises(InputError, match=said):
        catalogue.open(root / pattern)


def test_pictures_off_the_pattern_count_against_the_one_percent(laid: Laid) -> None:
    root = laid(lambda p, c, k: f"{p}/{c}/{k}.jpg")
    (root / "1" / "lost.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 49 pictures cannot be used.*1 by pattern"):
        catalogue.open(root, told=Told(aerial=()))


def test_people_of_two_splits_are_asked_and_searched(laid: Laid) -> None:
    def place(p: int, c: int, k: int) -> str:
        split = "train" if p < 4 else ("query" if k else "gallery")
        return f"{split}/{street_or_drone(c)}/{p}/{c}/{k}.jpg"

    data = catalogue.open(laid(place))
    assert {r.person for r in data.train().records} == {"1", "2", "3"}
    test = data.test()
    counts = {t.name: (len(t.query), len(t.gallery)) for t in test.trials}
    assert counts == {
        "ALL": (12, 12), "A-A": (6, 6), "G-G": (6, 6),
        "A<->G": (12, 12), "A->G": (6, 6), "G->A": (6, 6),
    }  # fmt: skip
    assert {test.records[i].view for i in test.trials[4].query} == {"aerial"}
    assert {test.records[i].path.stem for i in test.trials[0].gallery} == {"0"}


def test_without_splits_every_picture_asks_and_is_searched(laid: Laid) -> None:
    test = catalogue.open(laid(lambda p, c, k: f"street/{p}/{c}/{k}.jpg")).test()
    (trial,) = test.trials  # one view: no protocol across views
    assert (trial.name, len(test.records)) == ("ALL", 48)
    assert trial.query.tolist() == trial.gallery.tolist() == list(range(48))


def written(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(root: Path) -> list[dict[str, str]]:
    return [
        {
            "path": path.relative_to(root.parent).as_posix(),
            "person": path.parts[-3],
            "camera": path.parts[-2],
            "view": "UAV" if path.parts[-2] in "12" else "cctv",
            "altitude_m": "40.5" if path.parts[-2] in "12" else "",
            "note": "x",
        }
        for path in sorted(root.rglob("*.jpg"))
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_as_a_data_set(laid: Laid, delimiter: str) -> None:
    root = laid(lambda p, c, k: f"{p}/{c}/{k}.jpg")
    data = catalogue.open(written(root.parent / "people.csv", rows_of(root), delimiter))
    records = data.train().records
    assert len(records) == 48
    assert {(r.camera, r.view, r.altitude_m) for r in records} == {
        (1, "aerial", 40.5), (2, "aerial", 40.5), (6, "ground", None), (7, "ground", None),
    }  # fmt: skip
    assert data.unused == ("note",)


def test_a_cell_may_hold_the_end_of_a_line(laid: Laid) -> None:
    """Its row was torn in two: the rest of the note was another picture without a person."""
    root = laid(lambda p, c, k: f"{p}/{c}/{k}.jpg")
    rows = [{**row, "note": "at the gate,\nlater\x0bgone"} for row in rows_of(root)]
    found = catalogue.open(written(root.parent / "people.csv", rows)).train()
    assert len(found.records) == 48


def test_a_parquet_table_is_read_as_the_same_data_set(laid: Laid) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="an extra of its own")
    from pyarrow import parquet

    root = laid(lambda p, c, k: f"{p}/{c}/{k}.jpg")
    rows = rows_of(root)
    typed = [
        {**row, "person": int(row["person"]), "altitude_m": float(row["altitude_m"] or "nan")}
        for row in rows
    ]
    for row in typed:
        row["altitude_m"] = None if np.isnan(row["altitude_m"]) else row["altitude_m"]  # type: ignore[arg-type]
    parquet.write_table(pyarrow.Table.from_pylist(typed), root.parent / "people.parquet")
    found = catalogue.open(root.parent / "people.parquet").train()
    assert found == catalogue.open(written(root.parent / "people.csv", rows)).train()
    typed[0] |= {"person": float("nan")}  # as some write a missing number
    parquet.write_table(
        pyarrow.table({name: [row[name] for row in typed] for name in typed[0]}),
        root.parent / "people.parquet",
    )
    with pytest.raises(InputError, match="1 by person, which is empty"):
        catalogue.open(root.parent / "people.parquet")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name, cells in (  # words as old writers have them, and a column that nobody asks for
        ("path", [row["path"].encode() for row in rows]),
        ("note", [[b"\xff"] for _ in rows]),
    ):
        columns[name] = cells  # type: ignore[assignment]
        parquet.write_table(pyarrow.table(columns), root.parent / "people.parquet")
        assert catalogue.open(root.parent / "people.parquet").train() == found
    for spoilt in ([row["person"]] for row in rows), (b"\xff" for _ in rows):
        table = pyarrow.table({**columns, "person": list(spoilt)})
        parquet.write_table(table, root.parent / "people.parquet")
        with pytest.raises(InputError, match=r"column person is of .* and not of words or numbers"):
            catalogue.open(root.parent / "people.parquet")
    (root.parent / "people.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"cannot read .*people\.parquet"):
        catalogue.open(root.parent / "people.parquet")


def test_what_is_wrong_with_a_table_is_named(laid: Laid) -> None:
    root = laid(lambda p, c, k: f"{p}/{c}/{k}.jpg")
    rows, table = rows_of(root), root.parent / "people.csv"
    for spoilt, said in (
        ([{k: v for k, v in r.items() if k != "person"} for r in rows], "lacks the column person"),
        ([{**r, "path": f"no/{r['path']}"} for r in rows], "48 by missing file"),
        ([{**r, "view": "sky"} for r in rows], "48 by view 'sky'"),
        ([{**r, "altitude_m": "high"} for r in rows], "48 by altitude_m 'high'"),
        ([{**r, "altitude_m": "-5"} for r in rows], "48 by altitude_m '-5'"),
        ([{**r, "altitude_m": "nan"} for r in rows], "48 by altitude_m 'nan'"),
        ([{**r, "person": ""} for r in rows], "48 by person, which is empty"),
        ([*rows, {**rows[0], "person": "9"}], "1 of 49 .*1 by two rows that differ"),
        ([{**rows[0], "view": ""}, *rows[1:]], "47 of 48 pictures have a view, .* has none"),
    ):
        with pytest.raises(InputError, match=said):
            catalogue.open(written(table, spoilt))
    table.write_text("path,person,camera\na,b,c,d\n")
    with pytest.raises(InputError, match="row 2 has more cells"):
        catalogue.open(table)
    table.write_text("path,person,camera,person\na,b,c,d\n")
    with pytest.raises(InputError, match="has the column person twice"):
        catalogue.open(table)
    table.write_text('path,person,camera\n"a,b,c\nd,e,f\n')
    with pytest.raises(InputError, match=r"cannot read .*unexpected end of data; is a quote"):
        catalogue.open(table)
    table.write_text("")
    with pytest.raises(InputError, match="its first row has to name them and has nothing"):
        catalogue.open(table)
    for encoding in ("utf-16", "latin-1"):
        table.write_text("path,person,camera\na,Jürgen,c\n", encoding)
        with pytest.raises(InputError, match=r"people\.csv: it is not UTF-8; save it as that"):
            catalogue.open(table)
    with pytest.raises(InputError, match=r"cannot read .*none\.csv: No such file or directory$"):
        catalogue.open(root.parent / "none.csv")


def test_what_is_neither_folder_nor_table_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "people.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"no table, which ends in one of \.csv, \.tsv, \.parquet"):
        catalogue.open(tmp_path / "people.xlsx")
    with pytest.raises(InputError, match="fields in braces"):
        catalogue.open(tmp_path / "*" / "*")
    with pytest.raises(InputError, match=r"no folder .*none$"):
        catalogue.open(tmp_path / "none")


def test_columns_may_be_named_in_capitals(laid: Laid) -> None:
    root = laid(lambda p, c, k: f"{p}/{c}/{k}.jpg")
    rows, table = rows_of(root), root.parent / "people.csv"
    expected = catalogue.open(written(table, rows)).train()
    loud = [{name.title(): cell for name, cell in row.items()} for row in rows]
    data = catalogue.open(written(table, loud))
    assert data.train() == expected
    assert data.unused == ("Note",)
    table.write_text("path,Person,camera,person\na,b,c,d\n")
    with pytest.raises(InputError, match="has the column person twice"):
        catalogue.open(table)


def test_a_tracklet_is_searched_for_as_one() -> None:
    def record(person: str, camera: int, tracklet: str | None) -> Record:
        return Record(Path(f"{person}{camera}"), person, camera, "ground", tracklet=tracklet)

    records = (
        record("a", 1, "q"), record("b", 2, None), record("a", 2, "g"), record("a", 1, "q"),
        record("a", 2, "g"),
    )  # fmt: skip
    rows = np.asarray([[1, 0], [0, 1], [0.6, 0.8], [0, 1], [0.8, 0.6]], np.float32)
    everything = Embedded(
        rows, np.asarray([0, 1, 0, 0, 0]), np.asarray([1, 2, 2, 1, 2]), np.zeros(5, np.bool_)
    )
    trial = Trial("ALL", np.asarray([0, 3]), np.asarray([1, 2, 4]), False)
    found, test = pooled(everything, TestSet(records, (trial,)))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found.embeddings, [[half, half], [0, 1], [half, half]], atol=1e-6)
    assert (found.people.tolist(), found.cameras.tolist()) == ([0, 1, 0], [1, 2, 2])
    assert test.trials[0].query.tolist() == [0]
    assert test.trials[0].gallery.tolist() == [1, 2]
    torn = Trial("ALL", np.asarray([0]), np.asarray([1, 2, 3, 4]), False)
    with pytest.raises(InputError, match="tracklet q is in the query and in the gallery of ALL"):
        pooled(everything, TestSet(records, (torn,)))


def test_the_report_names_what_is_there_twice_or_called_alike(laid: Laid) -> None:
    root = laid(lambda p, c, k: f"{street_or_drone(c)}/{p:02d}/{c}/{k}.jpg")
    shutil.copy(root / "drone/01/1/0.jpg", root / "drone/01/1/again.jpg")
    shutil.copy(root / "drone/01/1/0.jpg", root / "drone/02/1/other.jpg")
    shutil.move(root / "street/06", root / "street/6")
    data = catalogue.open(root)
    said = "\n".join(summary.lines(data.train().records, data.cameras))
    assert "7 people in 50 pictures, 4 to 9 each (median 8)" in said
    assert "6 seen from the air, 6 from the ground, 5 from both; 7 by more than one" in said
    assert "camera 1 aerial: 14 pictures of 6 people" in said
    assert "40x20 to 40x20, median 40x20; 0 of the 50 looked at lie across" in said
    assert f"2 pictures are there again under another name, as {root}/drone/01/1/0.jpg (01)" in said
    assert "WARNING: 1 pictures are of two people at once" in said
    assert "WARNING: people are called nearly alike: '06' and '6'" in said


def test_fit_and_evaluate_take_a_table_and_two_data_sets_at_once(
    laid: Laid, tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = laid(lambda p, c, k: f"{street_or_drone(c)}/{p}/{c}/{k}.jpg")
    for path in root.rglob("*.jpg"):
        path.write_bytes(path.read_bytes() + b"other people")
    rows = [{"path": f"own/{p.relative_to(root)}", "person": p.parts[-3], "camera": p.parts[-2],
             "tracklet": p.parts[-2]} for p in sorted(root.rglob("*.jpg"))]  # fmt: skip
    table = written(tmp_path / "people.csv", rows)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    folders = f"{root}/{{view}}/{{person}}/{{camera}}/*"
    for number, data in enumerate(([str(table), "--aerial", "1", "2"], [folders, str(tiny_tree)])):
        out = tmp_path / f"out{number}"
        assert main(["fit", str(recipe), "--out", str(out), "--data", *data]) == 0
        said = capsys.readouterr().err
        assert "6 people in 48 pictures, 8 to 8 each" in said
        assert ("CARGO in" in said) == (number == 1)
    best = str(tmp_path / "out1" / "best.safetensors")
    assert main(["evaluate", best, "--data", str(table), "--aerial", "1", "2"]) == 0
    said = capsys.readouterr().out
    assert "means of 48 pictures in 24 tracklets" in said
    assert "24 query and 24 gallery pictures of own people, read as the rows of people.csv" in said
