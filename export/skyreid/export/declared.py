"""What is declared of a bare detector file: the words, and what each means. Needs no ONNX."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from skyreid.bundle.manifest import Fit
from skyreid.contract.errors import InputError

Layout = Literal["nchw", "nhwc"]
Channels = Literal["rgb", "bgr"]
Range = Literal["255", "1", "imagenet"]
Scores = Literal["plain", "sigmoid", "softmax"]

CHOICES: dict[str, tuple[str, ...]] = {
    "layout": get_args(Layout),
    "channels": get_args(Channels),
    "range": get_args(Range),
    "fit": get_args(Fit),
    "scores": get_args(Scores),
}
"""What each of `Declared`'s words may be."""

Triple = tuple[float, float, float]
RANGES: dict[Range, tuple[Triple, Triple]] = {
    "255": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "1": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Mean and deviation of the red, green and blue of 0..255 that a file wants to have taken out."""


@dataclass(frozen=True)
class Declared:
    """What somebody says of a file. Nothing of it is guessed; all of it is held against pictures.

    Attributes:
        layout: order of the input's axes.
        channels: order of its planes.
        range: what pixels of 0..255 become, a key of `RANGES`.
        fit: how a picture is scaled into the input.
        person: the person's place among the classes.
        scores: what has yet to be done to class scores so that they are probabilities.
    """

    layout: Layout = "nchw"
    channels: Channels = "rgb"
    range: Range = "255"
    fit: Fit = "corner"
    person: int = 0
    scores: Scores = "plain"

    def changed(self, **said: str | int | None) -> Declared:
        """The same with what was said otherwise; None = not said.

        Raises:
            InputError: a word is none of `CHOICES`, or there is no such class.
        """
        given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        for name, value in given.items():
            if name == "person":
                if not 0 <= value < 10_000:
                    raise InputError(f"--person {value}: a place among the classes, from 0 on")
            elif value not in CHOICES[name]:
                raise InputError(f"--{name} {value}: known are {', '.join(CHOICES[name])}")
        return replace(self, **given)
