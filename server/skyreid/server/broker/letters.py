"""Dead letters: how a message that could not be used began, set aside on ``rejected/{reason}``."""

from __future__ import annotations

import logging
import time

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

QUIET = frozenset(("device", "rate", "erased"))
"""Reasons of what is neither read nor set aside, but counted and told of now and then."""
PER_S, BURST = 20.0, 200.0
"""Of all others, so many are set aside; of what is more, the count is told."""
TELL_S = 60.0


class DeadLetters:
    """Sets messages aside, so many a second: a flood of them must not become one of ours."""

    def __init__(self, broker: Broker, site: str) -> None:
        self._broker, self._site = broker, site
        self._room, self._since_s = BURST, time.monotonic()
        self._untold, self._told_at_s = 0, float("-inf")

    def set_aside(self, refused: Refused) -> None:
        """Say in the log and on ``rejected/{reason}`` what could not be used, and why."""
        now_s = time.monotonic()
        self._room = min(BURST, self._room + (now_s - self._since_s) * PER_S)
        self._since_s = now_s
        if refused.reason in QUIET or self._room < 1:
            self._count(refused, now_s)
            return
        self._room -= 1
        self._publish(refused)

    def _count(self, refused: Refused, now_s: float) -> None:
        self._untold += 1
        if now_s - self._told_at_s >= TELL_S:
            _log.warning(
                "%d messages refused and not set aside, the latest: %s",
                self._untold,
                refused.detail,
            )
            self._untold, self._told_at_s = 0, now_s

    def _publish(self, refused: Refused) -> None:
        message, reason = refused.message, refused.reason
        level = logging.ERROR if reason == DEFECT else logging.WARNING
        _log.log(level, "message set aside topic=%.200s %s", message.topic, refused.detail)
        said = rejected_properties(
            reason, refused.detail, topic=message.topic, received_at_ns=message.received_at_ns
        )
        payload = b""
        if refused.keep_payload:
            said |= digest_properties(message.payload)
            room = max(0, self._broker.packet_max - PROPERTIES_BYTES)
            payload = message.payload[: min(KEPT_BYTES, room)]
        self._broker.publish(
            topics.rejected(self._site, reason),
            payload,
            properties=said,
            content_type=CONTENT_TYPE,
        )
