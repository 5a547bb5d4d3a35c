"""Dead letters: how a message that could not be used began, set aside on ``rejected/{reason}``."""

from __future__ import annotations

import logging

from skyreid.contract import topics
from skyreid.contract.rejected import (
    CONTENT_TYPE,
    KEPT_BYTES,
    PROPERTIES_BYTES,
    digest_properties,
    rejected_properties,
)
from skyreid.server.broker.decoding import DEFECT, Refused
from skyreid.server.broker.ingest import Broker

_log = logging.getLogger(__name__)


def set_aside(refused: Refused, broker: Broker, site: str) -> None:
    """Say in the log and on ``rejected/{reason}`` what could not be used, and why."""
    message, reason = refused.message, refused.reason
    level = logging.ERROR if reason == DEFECT else logging.WARNING
    _log.log(level, "message set aside topic=%.200s %s", message.topic, refused.detail)
    said = rejected_properties(
        reason, refused.detail, topic=message.topic, received_at_ns=message.received_at_ns
    )
    payload = b""
    if refused.keep_payload:
        said |= digest_properties(message.payload)
        room = max(0, broker.packet_max - PROPERTIES_BYTES)
        payload = message.payload[: min(KEPT_BYTES, room)]
    broker.publish(
        topics.rejected(site, reason), payload, properties=said, content_type=CONTENT_TYPE
    )
