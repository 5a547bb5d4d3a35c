"""SIGHUP: the settings and the site file are read anew, and hold all together or not at all.

Everything that can be wrong is found before anything changes. What a running server cannot change
(its broker, its journal, its address, its site, the length of a micro-batch) is refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from threading import Event
from typing import Any

from skyreid.contract.errors import SettingsError, SkyreidError
from skyreid.contract.site import Site, read_site
from skyreid.server.config import ServerSettings
from skyreid.server.counters import Metrics
from skyreid.server.matching.identity import State
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.priors import Normals
from skyreid.server.rules import Rules
from skyreid.server.web.answers import Lookup, ShownSite
from skyreid.server.writer import Writer

_log = logging.getLogger(__name__)

LIVE = ("site", "a camera's poses", "matching.", "people.", "devices.", "trust.")
"""What may change while the server runs, by the beginnings of its keys."""
FIXED = frozenset(("matching.batch_s", "site file: id"))
"""What may not all the same: decisions are numbered by micro-batches, a journal is a site's."""
Priors = Mapping[str, Normals]


class Reload:
    """Reads anew when it is called; use from one thread."""

    def __init__(
        self,
        settings: ServerSettings,
        site: Site,
        read: Callable[[], ServerSettings],
        priors_of: Callable[[ServerSettings], Priors],
        writer: Writer,
        lookup: Lookup,
        metrics: Metrics,
        renew: Callable[[], None],
        note: Callable[[str, str], None],
    ) -> None:
        """``settings`` and ``site`` are in force; ``read`` and ``priors_of`` read new ones.

        ``renew`` takes the certificate of the API anew, ``note`` is told an act and what of it.
        """
        self._settings, self._site = settings, site
        self._read, self._priors_of = read, priors_of
        self._priors = priors_of(settings)
        self._writer, self._lookup, self._metrics = writer, lookup, metrics
        self._renew, self._note = renew, note

    def __call__(self, stopped: Event) -> bool:
        """Whether the new settings hold now; where they do not, the old ones do, and it is said.

        Waits until the writer goes by them, or until ``stopped``.
        """
        try:
            settings = self._read()
            site = read_site(settings.site)
            shown = ShownSite.of(site)
            changed = _differences(self._settings, settings, self._site, site)
            if shown.json != self._lookup.shown.json and "site file: camera" not in changed:
                changed.append("a camera's poses")
            fixed = [key for key in changed if key in FIXED or not key.startswith(LIVE)]
            if fixed:
                raise SettingsError(f"{', '.join(fixed)}: a change of this needs a restart")
            priors = self._priors_of(settings)
            self._renew()
        except SkyreidError as error:
            _log.error("not reloaded, the settings stay as they were: %s", error)
            return self._refused()
        except Exception:  # a defect of reading them must not end what runs
            _log.exception("not reloaded, the settings stay as they were")
            return self._refused()
        taken = self._writer.follow(_rules(settings, site, priors, self._begin(settings, priors)))
        while not taken.wait(0.05):
            if stopped.is_set():
                return False
        self._lookup.shown = shown
        self._settings, self._site, self._priors = settings, site, priors
        self._metrics.reloads.labels("done").inc()
        _log.info("reloaded changed=%s", ",".join(changed) or "nothing")
        self._note("reload", f"changed {', '.join(changed) or 'nothing'}")
        if site.pictures != "never" and "site file: pictures" in changed:
            _log.warning(
                "pictures of people are kept and shown: the site's policy is %s", site.pictures
            )
        return True

    def _refused(self) -> bool:
        self._metrics.reloads.labels("refused").inc()
        self._note("reload", "refused, everything stays as it was")
        return False

    def _begin(self, settings: ServerSettings, priors: Priors) -> Callable[[State], Matcher] | None:
        options, before = settings.matching, self._settings.matching
        if priors == self._priors and all(
            getattr(options, key) == getattr(before, key) for key in MatchingOptions.model_fields
        ):
            return None
        return partial(Matcher, options, priors=priors)


def _rules(
    settings: ServerSettings,
    site: Site,
    priors: Priors,
    begin: Callable[[State], Matcher] | None,
) -> Rules:
    return Rules(
        site=site,
        period_s=settings.matching.period_s,
        stall_s=settings.matching.stall_s,
        hold_s=settings.matching.hold_s,
        is_open=settings.devices.admission == "open",
        max_devices=settings.devices.max,
        messages_per_s=settings.devices.messages_per_s,
        people=settings.people,
        priors=priors,
        begin=begin,
    )


def _differences(
    old: ServerSettings, new: ServerSettings, old_site: Site, new_site: Site
) -> list[str]:
    """Keys whose values differ, as a user writes them; never their values."""
    before, after = _flat(old), _flat(new)
    said = [key for key in sorted(before) if before[key] != after[key]]
    site = [key for key in Site.model_fields if getattr(old_site, key) != getattr(new_site, key)]
    return said + [f"site file: {key}" for key in site]


def _flat(settings: ServerSettings) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name in ServerSettings.model_fields:
        section = getattr(settings, name)
        inner = getattr(type(section), "model_fields", None)
        if inner is None:
            flat[name] = section
        else:
            flat |= {f"{name}.{key}": getattr(section, key) for key in inner}
    return flat
