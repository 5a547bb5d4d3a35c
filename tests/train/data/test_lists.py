from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.train.data import lists
from skyreid.train.data.lagper import parse_lagper
from skyreid.train.data.lists import Protocol
from skyreid.train.data.trials import TestSet

PROTOCOLS = (Protocol("A->G", "one.txt"),)


def read(root: Path, protocols: tuple[Protocol, ...] = PROTOCOLS) -> TestSet:
    return lists.test_set(
        root, root, protocols, parse_lagper, lambda first: first == "query", "query/0001_c03.jpg"
    )


def grown(root: Path, gallery: int) -> list[str]:
    """A query and a gallery that are there."""
    names = ["query/0001_c03.jpg", *(f"gallery/0001_c01_{n}.jpg" for n in range(gallery))]
    for name in names:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return names


def test_a_line_that_names_a_missing_file_is_refused(tmp_path: Path) -> None:
    names = grown(tmp_path, 98)
    (tmp_path / "one.txt").write_text("\n".join([*names, "gallery/0001_c01_x.jpg"]))
    test = read(tmp_path)  # 1 of 100
    assert len(test.records) == 99
    assert test.refused == {"missing file": (tmp_path / "gallery/0001_c01_x.jpg",)}


def test_more_than_one_percent_of_a_list_refused_is_an_error(tmp_path: Path) -> None:
    names = grown(tmp_path, 97)
    (tmp_path / "one.txt").write_text("\n".join([*names, "gallery/0001_c01_x.jpg"]))
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/one.txt: 1 of 99 pictures cannot be used, more than 1 %: "
        f"1 by missing file, first {tmp_path}/gallery/0001_c01_x.jpg"
    )


def test_lines_that_lead_elsewhere_or_repeat_or_do_not_parse_are_named(tmp_path: Path) -> None:
    names = grown(tmp_path, 300)
    odd = ["../secret/0001_c01.jpg", "/etc/0001_c01.jpg", "gallery/0001_c10_1.jpg", names[3], ""]
    (tmp_path / "one.txt").write_text("\n".join([*names, *odd]))
    test = read(tmp_path)
    assert len(test.records) == 301
    assert test.refused == {
        "line": (Path(odd[0]), Path(odd[1])),
        "camera": (tmp_path / odd[2],),
    }
    assert test.left_out == {"listed twice": (Path(names[3]),)}


def test_backslashes_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    names = grown(tmp_path, 2)
    text = "\r\n".join(name.replace("/", "\\") for name in names)
    (tmp_path / "one.txt").write_bytes(text.encode("utf-8-sig"))
    (trial,) = read(tmp_path).trials
    assert (len(trial.query), len(trial.gallery)) == (1, 2)


def test_pictures_of_several_lists_are_one_set(tmp_path: Path) -> None:
    names = grown(tmp_path, 3)
    (tmp_path / "one.txt").write_text("\n".join(names[:3]))
    (tmp_path / "two.txt").write_text("\n".join(names))
    test = read(tmp_path, (*PROTOCOLS, Protocol("again", "two.txt")))
    assert len(test.records) == 4
    assert [t.query.tolist() for t in test.trials] == [[0], [0]]
    assert [t.gallery.tolist() for t in test.trials] == [[1, 2], [1, 2, 3]]


def test_a_list_needs_queries_and_a_gallery(tmp_path: Path) -> None:
    names = grown(tmp_path, 2)
    file = tmp_path / "one.txt"
    file.write_text(names[0])
    with pytest.raises(InputError, match=r"one\.txt names no gallery picture"):
        read(tmp_path)
    file.write_text("\n".join(names[1:]))
    with pytest.raises(InputError, match=r"one\.txt names no query picture"):
        read(tmp_path)
    file.write_text("")
    with pytest.raises(InputError, match=r"one\.txt holds no picture named query/0001_c03\.jpg"):
        read(tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read .*one\.txt"):
        read(tmp_path)
