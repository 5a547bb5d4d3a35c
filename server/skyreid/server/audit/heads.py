"""The head of the audit log leaves the machine each minute: by the broker, to a file, or to syslog.

Whoever may change the log may change all of it; what has left is out of reach. It goes each minute
whether anything happened or not, so that silence is noticed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from skyreid.contract import topics
from skyreid.server.audit.log import AuditLog
from skyreid.server.audit.options import AuditOptions
from skyreid.server.counters import Metrics

_log = logging.getLogger(__name__)
EVERY_S = 60.0
SYNC_S = 1.0
Send = Callable[[str], bool]
"""Takes a head, a line of JSON, and says whether it has left; an OSError where it cannot."""


def sender(options: AuditOptions, site: str, publish: Callable[[str, str], bool]) -> Send:
    """Where heads of a site go; ``publish`` takes a topic and a body, and says the same."""
    if options.head_to == "topic":
        return lambda text: publish(topics.audit_head(site), text)
    if options.head_to == "syslog":
        return _to_syslog
    assert options.head_file is not None
    return _ToFile(options.head_file)


class Heads(threading.Thread):
    """Brings the log to the disk each second, and its head away each minute."""

    def __init__(
        self,
        log: AuditLog,
        site: str,
        send: Send,
        metrics: Metrics,
        *,
        every_s: float = EVERY_S,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins with `start`, ends with `stop`, which sends the last head.

        ``before`` is done each time before a head leaves, for what it may have to say in the log.
        """
        super().__init__(name="audit")
        self._audit, self._site, self._send, self._metrics = log, site, send, metrics
        self._every_s, self._stop_asked = every_s, threading.Event()
        self._failed, self._before = False, before

    def run(self) -> None:
        """Until `stop`."""
        due_s = time.monotonic()
        while not self._stop_asked.wait(min(SYNC_S, self._every_s)):
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + self._every_s
                self._try(self._before)
                self.tell()
            else:
                self._try(self._audit.sync)
        self.tell()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop_asked.set()
        self.join()

    def tell(self) -> None:
        """Send the head of now."""
        self._try(self._tell)

    def _tell(self) -> None:
        self._audit.sync()  # nothing that a power cut takes is vouched for
        head, now_s = self._audit.head(), time.time()
        at = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s)) + f".{int(now_s % 1 * 1e6):06d}Z"
        )
        said = {"site": self._site, "n": head.n, "hash": head.hash, "at": at}
        if self._send(json.dumps(said)):
            self._metrics.audit_head_at.set(now_s)
            self._metrics.audit_lines.set(head.n)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
            self._failed = False
        except OSError as error:
            self._metrics.audit_failures.inc()
            if not self._failed:
                _log.error("audit log: %s; tried again", error.strerror or error)
            self._failed = True


class _ToFile:
    """Appends to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, text: str) -> bool:
        with open(self._path, "ab") as file:
            file.write(text.encode() + b"\n")
        return True


def _to_syslog(text: str) -> bool:
    import syslog

    syslog.openlog("skyreid-audit", 0, syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_NOTICE, text)
    return True
