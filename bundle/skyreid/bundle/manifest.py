"""``manifest.json``: what a bundle says of itself, and the model key: what compares with what."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import MAX_DIM

SCHEMA = 1
SIDE_MAX_PX = 8192
"""Of an input: no picture that a device cuts or tiles is larger."""

NumericFormat = Literal["fp32", "fp16", "int8"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ScorePrior(_Part):
    """Cosine of same-person and different-person pairs of one view pair, as two normals.

    Measured on people the model was not fitted on; where the server's score calibration starts.
    """

    same_mean: float
    same_std: float = Field(gt=0)
    different_mean: float
    different_std: float = Field(gt=0)
    pairs: int
    """Same-person pairs behind the numbers."""

    @property
    def like_min(self) -> float:
        """From which cosine on two pictures may show one person.

        Half way from the mean of strangers to that of one person: of what was tried, where one
        person is hardly ever taken for two (docs/LOG.md).
        """
        return (self.different_mean + self.same_mean) / 2


Fit = Literal["corner", "centre", "stretch"]
"""How a picture is scaled into an input that has a size: its aspect ratio kept and the rest filled
with grey, with the picture in the top left corner or in the middle, or stretched."""


class WrappedFile(_Part):
    """What was declared of the file that a wrapped graph holds; the graph itself does all of it.

    Mean and deviation are in the manifest's ``input``, the numeric format in ``formats``.
    """

    layout: Literal["nchw", "nhwc"]
    channels: Literal["rgb", "bgr"]
    person: int = Field(ge=0)
    """The person's place among the classes."""
    scores: Literal["sigmoid", "softmax", "plain"] = "plain"
    """What the graph puts behind the file's class scores."""


class DetectorSpec(_Part):
    """How a detector's outputs are read."""

    family: str = "heatmap"
    """See ``family.py``. Bundles of before there was a second family do not say theirs."""
    stride: int = Field(ge=0, le=1024)
    """Pixels of the input per cell of the output; 0 where a family has cells of several sizes."""
    align: int = Field(ge=1, le=1024)
    """The input's height and width must be multiples of this."""
    score_min: float = Field(ge=0, le=1)
    """Default score threshold, chosen on validation clips."""
    half_from_px: int = Field(default=0, ge=0)
    """Pictures at least so wide are looked at again at half their size, and that again, for people
    who are too large for the network; about a third more time. 0 = never."""
    half_height_px: int = Field(default=0, ge=0)
    """Whom such a look finds counts from this height on, in pixels of the smaller picture: the
    others are for the look before it, which sees them larger."""
    fit: Fit = "corner"
    rows: int = Field(default=0, ge=0, le=1_000_000)
    """Boxes that the graph gives for a picture; 0 = one for each cell of the input."""
    file: WrappedFile | None = None
    """None: the graph is this project's own."""

    @property
    def least_side_px(self) -> int:
        """Of the input, where it has no size of its own: an engine takes no smaller picture."""
        return 4 * self.align


class Manifest(_Part):
    """The whole of ``manifest.json``."""

    schema_version: int = SCHEMA
    kind: Literal["embedder", "detector"]
    name: str
    model_key: str = ""
    """Embeddings compare only within one; empty for a detector."""
    view: Literal["aerial", "ground", "any"] = "any"
    input: InputSpec
    embedding_dim: int = 0
    """0 for a detector."""
    formats: tuple[NumericFormat, ...] = Field(min_length=1)
    """Numeric formats present, as ``model.{format}.onnx``."""
    opset: int
    batch_max: int = Field(default=32, ge=1)
    """Largest batch that was held against the checkpoint; engines need to go no further."""
    checkpoint_sha256: str
    tools: dict[str, str] = {}
    """Versions of what made the bundle."""
    licence: str = "Apache-2.0"
    detector: DetectorSpec | None = None
    score_priors: dict[str, ScorePrior] = {}
    """By view pair: ``aerial-aerial``, ``aerial-ground``, ``ground-ground``."""
    notes: str = ""
    version: int = Field(default=0, ge=0, lt=1 << 63)
    """Counted up by who signs, over all bundles of a fleet (a date will do: 20261129), for
    ``trust.min_version`` of the devices; 0 = never said, and not written."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        size = self.input
        if max(size.height, size.width) > SIDE_MAX_PX or bool(size.height) != bool(size.width):
            raise ValueError(f"an input of {size.height} x {size.width} pixels is none")
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"formats name one twice: {', '.join(self.formats)}")
        if self.kind == "detector":
            if self.detector is None or self.embedding_dim or self.model_key:
                raise ValueError("a detector has its spec, and no embedding_dim or model_key")
            return self
        if self.detector is not None or not size.height or not 0 < self.embedding_dim <= MAX_DIM:
            raise ValueError(
                f"an embedder has an input of a size and an embedding_dim of 1 to {MAX_DIM}, it "
                f"says {size.height} x {size.width} pixels and {self.embedding_dim}"
            )
        key = model_key(self.checkpoint_sha256, size, self.embedding_dim)
        if self.model_key != key:
            raise ValueError(
                f"model_key is {self.model_key[:100]!r}, checkpoint, input and embedding_dim make "
                f"{key}"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_was_never_said(
        self, serialise: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        fields: dict[str, Any] = serialise(self)
        if not self.version:  # releases before this key refuse a manifest that has it
            fields.pop("version", None)
        return fields


def model_key(checkpoint_sha256: str, spec: InputSpec, embedding_dim: int) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON of what makes embeddings comparable.

    View, numeric format and wire format are not part of it; the parity gates justify that.
    """
    text = json.dumps(
        {
            "checkpoint_sha256": checkpoint_sha256,
            "input_spec_sha256": spec.sha256(),
            "embedding_dim": embedding_dim,
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
