"""The way in over HTTP, put together: tokens, audit log, TLS, gate, connections."""

from __future__ import annotations

import logging
from collections.abc import Callable

from skyreid.contract.errors import InputError, SettingsError, SkyreidError
from skyreid.server.access.tokens import SERVER, Tokens, file_of
from skyreid.server.audit.heads import Heads, sender
from skyreid.server.audit.line import Entry
from skyreid.server.audit.log import AuditLog
from skyreid.server.config import ServerSettings
from skyreid.server.counters import Metrics
from skyreid.server.live import Hub
from skyreid.server.own_time import OwnTime
from skyreid.server.store.beside import had_tokens, note_tokens
from skyreid.server.web.answers import Lookup
from skyreid.server.web.api import make_api
from skyreid.server.web.connections import (
    Connections,
    connections_within,
    descriptors,
    make_http,
)
from skyreid.server.web.gate import Access
from skyreid.server.web.guard import Guard
from skyreid.server.web.session import protect
from skyreid.server.writer import Writer

_log = logging.getLogger(__name__)


def check_entrance(settings: ServerSettings) -> None:
    """What can be known to be wrong with the way in.

    Raises:
        SettingsError: something is.
    """
    settings.http.tls()
    connections_within(settings.http.connections, descriptors())
    needs = ""
    if settings.http.public:
        needs = f"http.host {settings.http.host!r} can be reached from other machines"
    elif settings.audit.purpose_required:
        needs = "audit.purpose_required asks who looks what for"
    if needs and not Tokens(file_of(settings.journal.path)).made:
        raise SettingsError(
            f"{needs} and nobody has a token: make one first (skyreid-server token create "
            "SERVER.TOML NAME --role admin)"
        )


class Entrance:
    """The HTTP server with everything before it, and the audit log's thread."""

    def __init__(
        self,
        settings: ServerSettings,
        site: str,
        writer: Writer,
        lookup: Lookup,
        hub: Hub,
        metrics: Metrics,
        publish: Callable[[str, str], bool],
    ) -> None:
        """``publish`` hands a topic and a body to the broker, and says whether it is there.

        Raises:
            SkyreidError: it cannot be used as it is set.
        """
        self._http, self._tls = settings.http, settings.http.tls()
        self._metrics = metrics
        self._journal, self._time = settings.journal.path, OwnTime("the audit log and who may ask")
        self._noted = had_tokens(self._journal)
        self.tokens = Tokens(file_of(self._journal), made=self._noted, now_ns=self._time.least_ns)
        self.audit = AuditLog.of(self._journal, settings.audit, self._time.now_ns)
        limit = connections_within(settings.http.connections, descriptors())
        connections = Connections(limit, metrics)
        api = make_api(writer, lookup, hub, metrics, listeners=limit // 2)
        access = Access(
            self.tokens,
            self.audit,
            metrics,
            settings.access,
            settings.audit.purpose_required,
            self._tls is not None,
        )
        gate = protect(api, access)
        guard = Guard(gate, settings.http.names, gate.refused)
        self.http = make_http(guard, connections, tls=self._tls)
        send = sender(settings.audit, site, publish)
        self._heads = Heads(self.audit, site, send, metrics, before=self._look_at_tokens)

    def start(self, settings: str) -> None:
        """Begin the audit log's thread, with a line that says which settings are in force.

        Raises:
            SkyreidError: the log cannot be written.
        """
        try:
            self.audit.append(Entry("start", SERVER, what=settings), durable=True)
        except OSError as error:
            raise SkyreidError(f"the audit log cannot be written: {error.strerror}") from error
        self._look_at_tokens()
        self._heads.start()
        if self.tokens.lost:
            _log.error(
                "there were tokens and their file is gone: nobody is let in; "
                "skyreid-server token create makes a new one"
            )
        elif not self.tokens.made:
            _log.warning(
                "no token was made: whoever is on this machine as this user may do everything; "
                "skyreid-server token create ends that"
            )

    def stop(self) -> None:
        """Write the last line, and send the last head."""
        self.note("stop", "")
        if self._heads.is_alive():
            self._heads.stop()
        self.audit.close()

    def _look_at_tokens(self) -> None:
        """What may not be forgotten: that there was a token, and which are over."""
        if not self.tokens.made:
            return
        try:
            if not self._noted:
                note_tokens(self._journal)
                self._noted = True
            for name in self.tokens.end_those_over(self._time.now_ns()):
                self.note("token", f"{name} is over")
        except InputError as error:
            _log.error("%s", error)

    def note(self, act: str, what: str) -> None:
        """Write down what the server itself did, or was told to by a signal."""
        try:
            self.audit.append(Entry(act, SERVER, what=what), durable=True)
        except OSError as error:
            self._metrics.audit_failures.inc()
            _log.error("audit log: %s", error.strerror or error)

    def renew(self) -> None:
        """Take certificate and key as they are now.

        Raises:
            SettingsError: they cannot be used.
        """
        if self._tls is not None:
            self._http.renew(self._tls)
