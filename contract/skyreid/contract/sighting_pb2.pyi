from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class View(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIEW_UNSPECIFIED: _ClassVar[View]
    AERIAL: _ClassVar[View]
    GROUND: _ClassVar[View]

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    NEW: _ClassVar[Kind]
    UPDATE: _ClassVar[Kind]
    END: _ClassVar[Kind]

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_UNSPECIFIED: _ClassVar[Lane]
    LIVE: _ClassVar[Lane]
    BACKFILL: _ClassVar[Lane]

class Clock(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_UNSPECIFIED: _ClassVar[Clock]
    NTP: _ClassVar[Clock]
    RTCP: _ClassVar[Clock]
    KLV: _ClassVar[Clock]
    FILE: _ClassVar[Clock]
    ARRIVAL: _ClassVar[Clock]

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    COLOUR: _ClassVar[Modality]
    GREY: _ClassVar[Modality]
    INFRARED: _ClassVar[Modality]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STORED: _ClassVar[Status]
    REJECTED: _ClassVar[Status]
VIEW_UNSPECIFIED: View
AERIAL: View
GROUND: View
KIND_UNSPECIFIED: Kind
NEW: Kind
UPDATE: Kind
END: Kind
LANE_UNSPECIFIED: Lane
LIVE: Lane
BACKFILL: Lane
CLOCK_UNSPECIFIED: Clock
NTP: Clock
RTCP: Clock
KLV: Clock
FILE: Clock
ARRIVAL: Clock
MODALITY_UNSPECIFIED: Modality
COLOUR: Modality
GREY: Modality
INFRARED: Modality
STATUS_UNSPECIFIED: Status
STORED: Status
REJECTED: Status

class SightingBatch(_message.Message):
    __slots__ = ("schema", "site", "device", "boot", "lane", "sent_at_ns", "model", "sightings", "watermark_ns")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_NS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SIGHTINGS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_NS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    site: str
    device: str
    boot: str
    lane: Lane
    sent_at_ns: int
    model: Model
    sightings: _containers.RepeatedCompositeFieldContainer[Sighting]
    watermark_ns: int
    def __init__(self, schema: _Optional[int] = ..., site: _Optional[str] = ..., device: _Optional[str] = ..., boot: _Optional[str] = ..., lane: _Optional[_Union[Lane, str]] = ..., sent_at_ns: _Optional[int] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., sightings: _Optional[_Iterable[_Union[Sighting, _Mapping]]] = ..., watermark_ns: _Optional[int] = ...) -> None: ...

class RawSightingBatch(_message.Message):
    __slots__ = ("schema", "site", "device", "boot", "lane", "sent_at_ns", "model", "sightings", "watermark_ns")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_NS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SIGHTINGS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_NS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    site: str
    device: str
    boot: str
    lane: Lane
    sent_at_ns: int
    model: Model
    sightings: _containers.RepeatedScalarFieldContainer[bytes]
    watermark_ns: int
    def __init__(self, schema: _Optional[int] = ..., site: _Optional[str] = ..., device: _Optional[str] = ..., boot: _Optional[str] = ..., lane: _Optional[_Union[Lane, str]] = ..., sent_at_ns: _Optional[int] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., sightings: _Optional[_Iterable[bytes]] = ..., watermark_ns: _Optional[int] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("key", "dim", "bundle_sha256", "name")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    key: str
    dim: int
    bundle_sha256: str
    name: str
    def __init__(self, key: _Optional[str] = ..., dim: _Optional[int] = ..., bundle_sha256: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Sighting(_message.Message):
    __slots__ = ("seq", "camera", "view", "track", "revision", "kind", "first_seen_ns", "captured_at_ns", "clock", "clock_error_ms", "box", "quality", "crops", "embedding", "spread", "ground", "modality", "pauses_ms")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_NS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ERROR_MS_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    CROPS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    GROUND_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    PAUSES_MS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    camera: str
    view: View
    track: int
    revision: int
    kind: Kind
    first_seen_ns: int
    captured_at_ns: int
    clock: Clock
    clock_error_ms: int
    box: Box
    quality: float
    crops: int
    embedding: bytes
    spread: float
    ground: Ground
    modality: Modality
    pauses_ms: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, seq: _Optional[int] = ..., camera: _Optional[str] = ..., view: _Optional[_Union[View, str]] = ..., track: _Optional[int] = ..., revision: _Optional[int] = ..., kind: _Optional[_Union[Kind, str]] = ..., first_seen_ns: _Optional[int] = ..., captured_at_ns: _Optional[int] = ..., clock: _Optional[_Union[Clock, str]] = ..., clock_error_ms: _Optional[int] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., quality: _Optional[float] = ..., crops: _Optional[int] = ..., embedding: _Optional[bytes] = ..., spread: _Optional[float] = ..., ground: _Optional[_Union[Ground, _Mapping]] = ..., modality: _Optional[_Union[Modality, str]] = ..., pauses_ms: _Optional[_Iterable[int]] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1", "frame_width", "frame_height")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    FRAME_WIDTH_FIELD_NUMBER: _ClassVar[int]
    FRAME_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    frame_width: int
    frame_height: int
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ..., frame_width: _Optional[int] = ..., frame_height: _Optional[int] = ...) -> None: ...

class Ground(_message.Message):
    __slots__ = ("east_m", "north_m", "cov_ee_m2", "cov_en_m2", "cov_nn_m2")
    EAST_M_FIELD_NUMBER: _ClassVar[int]
    NORTH_M_FIELD_NUMBER: _ClassVar[int]
    COV_EE_M2_FIELD_NUMBER: _ClassVar[int]
    COV_EN_M2_FIELD_NUMBER: _ClassVar[int]
    COV_NN_M2_FIELD_NUMBER: _ClassVar[int]
    east_m: float
    north_m: float
    cov_ee_m2: float
    cov_en_m2: float
    cov_nn_m2: float
    def __init__(self, east_m: _Optional[float] = ..., north_m: _Optional[float] = ..., cov_ee_m2: _Optional[float] = ..., cov_en_m2: _Optional[float] = ..., cov_nn_m2: _Optional[float] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("boot", "ranges")
    BOOT_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    boot: str
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    def __init__(self, boot: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[Range, _Mapping]]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("first", "last", "status", "reason")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    status: Status
    reason: str
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ...) -> None: ...
