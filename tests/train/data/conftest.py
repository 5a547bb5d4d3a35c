"""Small trees that follow the data sets' file grammars to the letter; pictures without content."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def write_list(path: Path, lines: Iterable[str], ending: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + ending for line in lines).encode())
    return path


def agreid(root: Path) -> None:
    """Two people to train on, and two to find; C0 flies, C3 stands.

    P0003 T02140 A0 and P0003 T02141 A2 are two people: P counts within one video.
    """
    for name in ("P0001T04041A0C0F31", "P0001T04041A0C3F61", "P0002T04041A1C0F91"):
        touch(root / "bounding_box_train" / f"{name}.jpg")
    for name in ("P0003T02140A0C0F1", "P0003T02141A2C0F1"):
        touch(root / "query_all_c0" / f"{name}.jpg")
    for name in ("P0003T02140A0C3F2", "P0003T02141A2C3F2", "P0003T02141A2C3F3"):
        touch(root / "bounding_box_test_all_c3" / f"{name}.jpg")
    touch(root / "query_all_c3" / "P0003T02140A0C3F4.jpg")
    for name in ("P0003T02140A0C0F5", "P0003T02141A2C0F5", "P0003T02141A2C0F6"):
        touch(root / "bounding_box_test_all_c0" / f"{name}.jpg")
    (root / "qut_attribute_v4_88_attributes.mat").write_bytes(b"")


V2_LISTS = {
    "exp1_aerial_to_cctv.txt": (
        "query/P0003T02140A0/P0003T02140A0C0F1.jpg",
        "query/P0004T02140A2/P0004T02140A2C0F1.jpg",
        "gallery/P0003T02140A0/P0003T02140A0C3F2.jpg",
        "gallery/P0004T02140A2/P0004T02140A2C3F2.jpg",
        "gallery/P0004T02140A2/P0004T02140A2C3F3.jpg",
    ),
    "exp2_aerial_to_wearable.txt": (
        "query/P0003T02140A0/P0003T02140A0C0F1.jpg",
        "gallery/P0003T02140A0/P0003T02140A0C2F2.jpg",
        "gallery/P0004T02140A2/P0004T02140A2C2F2.jpg",
    ),
    "exp4_cctv_to_aerial.txt": (
        "query/P0003T02140A0/P0003T02140A0C3F9.jpg",
        "gallery/P0003T02140A0/P0003T02140A0C0F8.jpg",
        "gallery/P0004T02140A2/P0004T02140A2C0F8.jpg",
    ),
    "exp5_wearable_to_aerial.txt": (
        "query/P0003T02140A0/P0003T02140A0C2F9.jpg",
        "query/P0004T02140A2/P0004T02140A2C2F9.jpg",
        "gallery/P0003T02140A0/P0003T02140A0C0F8.jpg",
    ),
}


def agreid_v2(pictures: Path, lists: Path | None = None) -> None:
    """The official archive has both in one folder, the forks have the lists one level up."""
    lists = lists or pictures
    for name in ("P0001T04041A0C0F31", "P0001T04041A0C2F61", "P0001T04041A0C3F61"):
        touch(pictures / "train_all" / "P0001T04041A0" / f"{name}.jpg")
    for file, lines in V2_LISTS.items():
        write_list(lists / file, lines)
        for line in lines:
            touch(pictures / line)
    (lists / "qut_attribute_v8.mat").write_bytes(b"")


LAGPER_LISTS = {
    "exp3_A2G+.txt": (
        "query_c3/0101/0101_c16_0001.jpg",
        "bounding_box_test_c1/0101/0101_c17_0002.jpg",
        "bounding_box_test_c1/0101/0101_c17_0003.jpg",
        "bounding_box_test_c1/0102/0102_c18_0001.jpg",
    ),
    "exp4_G2A+.txt": (
        "query_c1/0101/0101_c17_0003.jpg",
        "query_c1/0102/0102_c18_0001.jpg",
        "bounding_box_test_c3/0101/0101_c16_0001.jpg",
        "bounding_box_test_c3/0102/0102_c16_0005.jpg",
    ),
    "exp5_G2A+G.txt": (
        "query_c1/0101/0101_c17_0003.jpg",
        "query_c1/0102/0102_c18_0001.jpg",
        "bounding_box_test_c3/0101/0101_c16_0001.jpg",
        "bounding_box_test_c1/0101/0101_c17_0002.jpg",
        "bounding_box_test_c1/0102/0102_c18_0009.jpg",
    ),
}


def lagper(root: Path) -> None:
    """Cameras 1 to 22 without 10; in exp5 0102 is found by his own camera only."""
    for name in ("0001_c01_0001", "0001_c03_0001", "0002_c11_0001", "0002_c13_0007", "-1_c02_0001"):
        touch(root / "bounding_box_train" / name.split("_")[0] / f"{name}.jpg")
    for file, lines in LAGPER_LISTS.items():
        write_list(root / file, lines)
        for line in lines:
            touch(root / line)


G2APS_LISTS = {
    "exp3_A2G+.txt": (
        "query_c0/7/7_c0v3_17.jpg",
        "bounding_box_test_c3/7/7_c3v3_18.jpg",
        "bounding_box_test_c3/8/8_c3v3_18.jpg",
        "bounding_box_gallery/5555_c3v1_2.jpg",
    ),
    "exp4_G2A+.txt": (
        "query_c3/7/7_c3v3_19.jpg",
        "query_c3/8/8_c3v3_19.jpg",
        "bounding_box_test_c0/7/7_c0v3_20.jpg",
        "bounding_box_gallery/5555_c0v1_3.jpg",
    ),
}


def g2aps(root: Path, ending: str = "\n") -> None:
    for name in ("1_c0v1_1", "1_c3v1_1", "2_c3v2_9"):
        touch(root / "bounding_box_train" / name.split("_")[0] / f"{name}.jpg")
    for file, lines in G2APS_LISTS.items():
        write_list(root / file, lines, ending)
        for line in lines:
            touch(root / line)


def market(root: Path) -> None:
    for name in ("0002_c1s1_000451_03", "0002_c6s1_000776_01", "0007_c2s3_070952_01"):
        touch(root / "bounding_box_train" / f"{name}.jpg")
    for name in ("0001_c1s1_001051_00", "0003_c4s6_015641_00"):
        touch(root / "query" / f"{name}.jpg")
    for name in (
        "-1_c1s1_000401_03",
        "0000_c1s1_000151_01",
        "0000_c3s2_107653_05",
        "0001_c1s1_001051_03",
        "0001_c2s1_000301_00",
        "0003_c1s6_015971_02",
    ):
        touch(root / "bounding_box_test" / f"{name}.jpg")
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        touch(root / split / "Thumbs.db")


MSMT_LISTS = {
    "train": ("0000/0000_000_01_0303morning_0015_0.jpg 0",),
    "val": ("0000/0000_004_15_0303noon_0025_1.jpg 0", "0001/0001_000_03_0113noon_0033_0.jpg 1"),
    "query": ("0000/0000_005_14_0303morning_0036_2.jpg 0",),
    "gallery": (
        "0000/0000_000_14_0303morning_0012_0.jpg 0",
        "0000/0000_001_02_0303morning_0015_0.jpg 0",
        "0009/0009_001_02_0303morning_0015_0.jpg 9",
    ),
}


def msmt(root: Path, folders: tuple[str, str] = ("train", "test")) -> None:
    """Version 1 has train/ and test/, version 2 mask_train_v2/ and mask_test_v2/."""
    for split, lines in MSMT_LISTS.items():
        write_list(root / f"list_{split}.txt", lines)
        for line in lines:
            touch(root / folders[split in ("query", "gallery")] / line.split()[0])


BUILDERS: dict[str, Callable[..., None]] = {
    "AG-ReID": agreid,
    "AG-ReID.v2": agreid_v2,
    "LAGPeR": lagper,
    "G2APS-ReID": g2aps,
    "Market-1501": market,
    "MSMT17": msmt,
}


@pytest.fixture
def grow() -> Callable[..., Path]:
    """Builds the tree of a data set, by its name in the catalogue, in a folder; returns that."""

    def at(name: str, root: Path, **options: object) -> Path:
        BUILDERS[name](root, **options)
        return root

    return at


@pytest.fixture
def listed() -> Callable[[Path, Iterable[str]], None]:
    """Writes a list and the files it names, which lie beside it."""

    def at(path: Path, lines: Iterable[str]) -> None:
        lines = list(lines)
        write_list(path, lines)
        for line in lines:
            touch(path.parent / line)

    return at
