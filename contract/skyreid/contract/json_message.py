"""Messages that are JSON objects: how any of them is written, read and checked.

Versions: ``schema_version`` is 1, and absent in what devices sent before it had one. Within it keys
are only ever added: a reader passes over those it does not know, and what a message does not say
has a default. A message of another one is refused whole, with the reason ``schema``.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from skyreid.contract.errors import MessageError
from skyreid.contract.sighting import MAX_INTEGER
from skyreid.contract.topics import check_identifier

CONTENT_TYPE = "application/json"
MAX_JSON_BYTES = 64 << 10

Name = Annotated[str, AfterValidator(check_identifier)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Word = Annotated[str, Field(max_length=200)]


class Part(BaseModel):
    """A JSON object inside a message: frozen, keys of later releases passed over."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )


class JsonMessage(Part):
    """A whole message."""

    schema_version: int = Field(1, ge=1, le=1)


M = TypeVar("M", bound=JsonMessage)


def encode_json(message: JsonMessage) -> bytes:
    """A message's bytes: keys in the order of its class, without what it does not say."""
    return message.model_dump_json(exclude_none=True).encode()


def decode_json(reason: str, kind: type[M], data: bytes) -> M:
    """Parse and check a message; nothing of it is shown in an error, which may go anywhere.

    Args:
        reason: what a message that is JSON and not a ``kind`` is set aside for.
        kind: what it should be.
        data: as it came.

    Raises:
        MessageError: ``reason``, or ``size``, ``json`` or ``schema``.
    """
    if len(data) > MAX_JSON_BYTES:
        raise MessageError("size", f"JSON of {len(data)} bytes, at most {MAX_JSON_BYTES}")
    try:
        return kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        first, *_ = found = error.errors(include_url=False, include_input=False)
        if not first["loc"]:
            raise MessageError("json", f"{len(data)} bytes are not a JSON object") from error
        if any(item["loc"] == ("schema_version",) for item in found):
            detail = f"{reason} of another schema_version than this release reads, which is 1"
            raise MessageError("schema", detail) from error
        path = ".".join(repr(str(part))[1:-1] for part in first["loc"])
        raise MessageError(reason, f"{path:.80}: {first['msg']:.120}") from error
