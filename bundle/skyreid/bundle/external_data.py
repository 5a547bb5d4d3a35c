"""Refuses ONNX models whose weights lie in other files: no digest and no signature covers those.

ONNX lets a tensor say "my data is in file F", which every runtime reads from wherever the process
happens to stand. Found on the wire form itself (protobuf), for a device has no ``onnx``; only the
fields of onnx.proto behind which a tensor can lie are followed, weights are stepped over.
"""

from __future__ import annotations

from collections.abc import Iterator

from skyreid.contract.errors import BundleError

_DEPTH = 32
"""Messages within messages: graphs in If and Loop; real models nest two graphs."""

_TENSOR, _SPARSE, _ATTRIBUTE, _NODE, _GRAPH = "tensor", "sparse", "attribute", "node", "graph"
# Fields of onnx.proto (opset 1 to 23) that lead to a tensor: message, field number, message.
_LEADS: dict[str, dict[int, str]] = {
    "model": {7: _GRAPH, 20: "training", 25: "function"},
    "training": {1: _GRAPH, 2: _GRAPH},
    "function": {7: _NODE, 11: _ATTRIBUTE},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14  # of a tensor


def require_own_data(model: bytes, name: str) -> None:
    """Refuse an ONNX model that needs other files.

    Args:
        model: serialised.
        name: what to call it in messages.

    Raises:
        BundleError: a tensor lies elsewhere, or the bytes are no message of protobuf.
    """
    try:
        _follow(memoryview(model), "model", 0)
    except _External as found:
        raise BundleError(
            f"{name}: weights {found} lie in another file (external data), which nothing in the "
            "bundle vouches for: save the model with its weights inside"
        ) from None
    except ValueError as error:
        raise BundleError(f"{name} does not load: it is no ONNX model ({error})") from error


class _External(Exception):
    pass


def _follow(data: memoryview, kind: str, depth: int) -> None:
    if depth > _DEPTH:
        raise ValueError("graphs nested too deeply")
    leads = _LEADS[kind]
    external, name = False, ""
    for field, value in _fields(data):
        if kind == _TENSOR:
            if field == _NAME and isinstance(value, memoryview):
                name = bytes(value[:100]).decode("utf-8", "replace")
            external |= field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)
        elif field in leads and isinstance(value, memoryview):
            _follow(value, leads[field], depth + 1)
    if external:
        raise _External(repr(name))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; what is not a varint or bytes has the value 0."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            number, at = _varint(data, at)
            yield field, number
        elif wire == 2:
            size, at = _varint(data, at)
            if size > end - at:
                raise ValueError("it is cut short")
            yield field, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
            if at > end:
                raise ValueError("it is cut short")
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number of more than ten bytes")
