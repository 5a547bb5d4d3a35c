"""The catalogue of detectors: those of others by name, each file pinned by SHA-256 and size.

Nothing without a digest that somebody else published too, beside each: a release's address alone is
what its owner may write over. Licences and what a model was trained on are its makers' words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyreid.contract.errors import InputError

FREE = ("Apache-2.0", "MIT", "BSD-3-Clause")
"""Licences that ask for nothing before a device runs the model."""


@dataclass(frozen=True)
class Pinned:
    """A file on the internet, and what it must be.

    Attributes:
        address: https, of something that is not written over.
        sha256: 64 hex digits.
        size: bytes.
        found_in: the public place that the digest was found in.
    """

    address: str
    sha256: str
    size: int
    found_in: str


@dataclass(frozen=True)
class Entry:
    """A detector.

    Attributes:
        name: that it is asked for by.
        makers: and where their work is.
        licence: SPDX.
        licence_note: what the makers say of it.
        trained_on: data, and what that allows.
        family: see `FAMILIES`.
        size: height and width of its input.
        said: what is declared otherwise than its family's convention, see `Declared`.
        files: the first is fetched; the others are further exports of the same weights, which
            ``--file`` takes as well.
    """

    name: str
    makers: str
    licence: str
    licence_note: str
    trained_on: str
    family: str
    size: tuple[int, int]
    files: tuple[Pinned, ...]
    said: Mapping[str, str | int | None] = field(default_factory=dict)

    @property
    def needs_acceptance(self) -> bool:
        """Whether ``--accept-licence`` must be given."""
        return self.licence not in FREE


_YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
_YOLOX_MAKERS = "Megvii (github.com/Megvii-BaseDetection/YOLOX)"
_YOLOX_LICENCE = "of the makers' repository, whose release it is; none is stated for weights alone"
_COCO = "COCO 2017, 80 classes (annotations CC BY 4.0, pictures from Flickr)"
_ONNX = "https://huggingface.co/onnx-community"


def _yolox(name: str, side: int, *files: Pinned) -> Entry:
    return Entry(
        name=name,
        makers=_YOLOX_MAKERS,
        licence="Apache-2.0",
        licence_note=_YOLOX_LICENCE,
        trained_on=_COCO,
        family="yolox",
        size=(side, side),
        files=files,
    )


def _dfine(name: str, file: Pinned) -> Entry:
    return Entry(
        name=name,
        makers="USTC (github.com/Peterande/D-FINE), exported by onnx-community",
        licence="Apache-2.0",
        licence_note="of the makers' repository and of the export",
        trained_on=_COCO,
        family="detr",
        size=(640, 640),
        files=(file,),
    )


ENTRIES = (
    _yolox(
        "yolox-nano",
        416,
        Pinned(
            f"{_YOLOX}/yolox_nano.onnx",
            "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d",
            3_659_407,
            "bbangert/cairn-nvr@d90a42d plugins/cairn-detect/model/quantize-model.md",
        ),
        Pinned(
            "https://raw.githubusercontent.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample/"
            "3d4f1119d0694200671c08069ecb847aa0d8495a/model/yolox_nano.onnx",
            "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
            3_660_092,
            "that repository: git blob 212becc5e5789d4e934c38561f63eb4f55ed4e54",
        ),
    ),
    _yolox(
        "yolox-tiny",
        416,
        Pinned(
            f"{_YOLOX}/yolox_tiny.onnx",
            "427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7",
            20_219_662,
            "ARGOS, Camera-based person detection and tracking; and other projects' recipes",
        ),
    ),
    _yolox(
        "yolox-s",
        640,
        Pinned(
            f"{_YOLOX}/yolox_s.onnx",
            "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063",
            35_858_002,
            "Git LFS pointer opencv/opencv_zoo@c79d919 "
            "models/object_detection_yolox/object_detection_yolox_2022nov.onnx",
        ),
    ),
    _dfine(
        "dfine-n",
        Pinned(
            f"{_ONNX}/dfine_n_coco-ONNX/resolve/380d2839c327efaf65dd0fe0c2c10ab7fadd5473/"
            "onnx/model.onnx",
            "0f684f409618ee8a822410e754a29caa817d1aa16283ce89cad936d0a48e2f35",
            15_258_358,
            "Eternus-Nox/VigilumeNVR@cb0d330 docs/native-mode-design.md",
        ),
    ),
    _dfine(
        "dfine-s",
        Pinned(
            f"{_ONNX}/dfine_s_coco-ONNX/resolve/a3cf03147a9b86c78475139115c8ac142577352d/"
            "onnx/model.onnx",
            "cd8a49a945feda6d28c6304ae8ae85c2759ba1d78a5a83a22c5ce8db82ef7238",
            41_535_197,
            "kiarina/labs@4bfa7de 2026/07/09/dfine-object-detection/README.md",
        ),
    ),
    Entry(
        name="yolov8n",
        makers="Ultralytics (github.com/ultralytics/ultralytics)",
        licence="AGPL-3.0-only",
        licence_note="or a contract with the makers: whoever offers it over a network opens theirs",
        trained_on=_COCO,
        family="yolov8",
        size=(640, 640),
        files=(
            Pinned(
                "https://media.githubusercontent.com/media/wjzhou2023/model-zoo/"
                "e4261f0ee593d5445fab756139de967a8e8bc2ef/vision/detection/yolov8/yolov8n.onnx",
                "fdcaf9ad94356fe331f201f04b19eb6911c5c076bf07c60cfbb7dd47538704bf",
                12_676_352,
                "Git LFS pointer wjzhou2023/model-zoo@e4261f0 vision/detection/yolov8/yolov8n.onnx",
            ),
        ),
    ),
)


def entry(name: str) -> Entry:
    """The detector of that name.

    Raises:
        InputError: there is none.
    """
    for one in ENTRIES:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in ENTRIES)
    raise InputError(f"{name}: is not in the catalogue; known are {known}")


def as_lines() -> list[str]:
    """The catalogue as a table."""
    head = ("name", "family", "input", "MB", "licence", "trained on")
    rows = [
        (
            one.name,
            one.family,
            f"{one.size[0]}x{one.size[1]}",
            f"{one.files[0].size / 1e6:.1f}",
            one.licence + (" (--accept-licence)" if one.needs_acceptance else ""),
            one.trained_on,
        )
        for one in ENTRIES
    ]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]


def as_facts() -> list[dict[str, object]]:
    """The same with everything, for JSON."""
    return [
        {
            "name": one.name,
            "makers": one.makers,
            "licence": one.licence,
            "licence_note": one.licence_note,
            "needs_acceptance": one.needs_acceptance,
            "trained_on": one.trained_on,
            "family": one.family,
            "input": list(one.size),
            "declared": dict(one.said),
            "files": [
                {
                    "address": file.address,
                    "sha256": file.sha256,
                    "bytes": file.size,
                    "found_in": file.found_in,
                }
                for file in one.files
            ],
        }
        for one in ENTRIES
    ]
