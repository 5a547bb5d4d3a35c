"""Readers of LAGPeR and G2APS-ReID: `bounding_box_train/{sub}/{person}_c{camera}...jpg` and lists.

Wang et al., "SeCap: Self-Calibrating and Adaptive Prompts for Cross-view Person Re-Identification
in Aerial-Ground Networks", CVPR 2025 (arXiv:2503.06965). LAGPeR is handed out on request;
G2APS-ReID is rebuilt from G2APS with the authors' scripts.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from skyreid.train.data import lists
from skyreid.train.data.format import Layout
from skyreid.train.data.lists import Protocol
from skyreid.train.data.reading import holds, read_folder
from skyreid.train.data.records import Reading, Record, View
from skyreid.train.data.trials import TestSet

TRAIN = "bounding_box_train"

LAGPER_EXAMPLE = "0001_c03.jpg"
LAGPER_AERIAL = frozenset({3, 6, 9, 13, 16, 19, 22})
LAGPER_CAMERAS = frozenset(range(1, 23)) - {10}
LAGPER_PROTOCOLS = (
    Protocol("A->G", "exp3_A2G+.txt"),
    Protocol("G->A", "exp4_G2A+.txt"),
    Protocol("G->A+G", "exp5_G2A+G.txt"),
    Protocol("A->G exp1", "exp1_A2G.txt", optional=True),  # smaller galleries, printed by nobody
    Protocol("G->A exp2", "exp2_G2A.txt", optional=True),
)
_LAGPER_NAME = re.compile(r"(?P<person>-?\d+)_c(?P<camera>\d+).*")

G2APS_EXAMPLE = "0001_c0v1.jpg"
G2APS_PROTOCOLS = LAGPER_PROTOCOLS[:2]
_G2APS_NAME = re.compile(r"(?P<person>-?\d+)_c(?P<camera>\d)v\d.*")


def parse_lagper(path: Path) -> Record | str:
    """The record of a picture, or `name` or `camera` as the reason why there is none.

    Cameras are 1 to 22 without 10; those beyond it move down by one, so that they are 1 to 21.
    """
    match = _LAGPER_NAME.fullmatch(path.stem)
    if match is None:
        return "name"
    camera = int(match["camera"])
    if camera not in LAGPER_CAMERAS:
        return "camera"
    view: View = "aerial" if camera in LAGPER_AERIAL else "ground"
    return Record(path, str(int(match["person"])), camera - (camera > 10), view)


def parse_g2aps(path: Path) -> Record | str:
    """The record of a picture, or `name` as the reason; camera 0 flies, every other one stands."""
    match = _G2APS_NAME.fullmatch(path.stem)
    if match is None:
        return "name"
    ground = match["camera"] != "0"
    return Record(path, str(int(match["person"])), int(ground), "ground" if ground else "aerial")


def _find_lagper(root: Path) -> Path | None:
    folder = _with_lists(root, "LAGPeR")
    return None if folder is None or _is_g2aps(folder) else folder


def _find_g2aps(root: Path) -> Path | None:
    folder = _with_lists(root, "GA-ReID", "G2APS-ReID")
    return folder if folder is not None and _is_g2aps(folder) else None


def _with_lists(root: Path, *names: str) -> Path | None:
    """The folder with the list of a protocol, or with people's folders of training pictures."""
    for folder in (root, *(root / name for name in names)):
        listed = any((folder / protocol.file).is_file() for protocol in LAGPER_PROTOCOLS)
        if listed or holds(folder, f"{TRAIN}/*/*_c*"):
            return folder
    return None


def _is_g2aps(folder: Path) -> bool:
    """Both data sets have the same folders and lists: their file names tell them apart."""
    if (folder / "exp5_G2A+G.txt").is_file():
        return False
    some = [path.name for path in islice(folder.glob(f"{TRAIN}/*/*_c*"), 1)]
    for protocol in G2APS_PROTOCOLS:
        file = folder / protocol.file
        if file.is_file():
            with file.open(encoding="utf-8-sig", errors="replace") as stream:
                some.append(stream.readline().strip().replace("\\", "/").rsplit("/", 1)[-1])
    return any(_G2APS_NAME.fullmatch(name) for name in some)


def _train_lagper(root: Path) -> Reading:
    return read_folder(root / TRAIN, 2, parse_lagper, LAGPER_EXAMPLE, skip_junk=True)


def _train_g2aps(root: Path) -> Reading:
    return read_folder(root / TRAIN, 2, parse_g2aps, G2APS_EXAMPLE, skip_junk=True)


def _test_lagper(root: Path) -> TestSet:
    """All lists that are there; a person -1 in a gallery is a stranger to everybody."""
    example = f"query_c3/0001/{LAGPER_EXAMPLE}"
    return lists.test_set(root, root, LAGPER_PROTOCOLS, parse_lagper, _asks, example)


def _test_g2aps(root: Path) -> TestSet:
    example = f"query_c0/0001/{G2APS_EXAMPLE}"
    return lists.test_set(root, root, G2APS_PROTOCOLS, parse_g2aps, _asks, example)


def _asks(first: str) -> bool:
    return first.split("_")[0] == "query"


LAGPER = Layout(
    "LAGPeR",
    "bounding_box_train/*/*_c{1..22}*.jpg and exp{3_A2G+,4_G2A+,5_G2A+G}.txt",
    _find_lagper,
    _train_lagper,
    _test_lagper,
)
G2APS = Layout(
    "G2APS-ReID",
    "bounding_box_train/*/*_c{0,3}v*.jpg and exp{3_A2G+,4_G2A+}.txt",
    _find_g2aps,
    _train_g2aps,
    _test_g2aps,
)
