"""Decides everything that a journal holds anew, returns too."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import Return
from skyreid.contract.site import read_site
from skyreid.server.app import readable, score_priors
from skyreid.server.audit.local import note
from skyreid.server.config import ServerSettings
from skyreid.server.matching.identity import Applied
from skyreid.server.matching.matcher import Matcher
from skyreid.server.owner import as_owner
from skyreid.server.people.asking import People
from skyreid.server.store.gallery import Gallery, gallery_of
from skyreid.server.store.journal import Journal
from skyreid.server.store.rebuild import Ask, rebuild
from skyreid.server.store.spans import Spans


def rebuild_log(settings: ServerSettings) -> str:
    """Decide everything that a journal holds anew; what was done, in one line.

    What an operator undid stays undone.

    Raises:
        SkyreidError: it cannot be done, and nothing was changed.
    """
    options, path = settings.matching, settings.journal.path
    if not path.is_file():
        raise InputError(f"journal {path} does not exist")
    note(path, settings.audit, "rebuild", "who is who, decided anew")
    priors = score_priors(options.bundle, settings.trust)
    matcher = Matcher(options, priors=priors)
    site = read_site(settings.site).id
    with as_owner(path.parent), readable(path):
        gallery = _whole_gallery(settings, site)

        def asking(db: sqlite3.Connection, undone: Sequence[Return]) -> Ask:
            made: list[Applied] = []
            people = People(
                gallery,
                lambda: matcher.state,
                lambda decision: made.append(Applied(decision, matcher.apply(decision))),
                Spans(lambda read: read(db)),
                settings.people,
                priors,
                undone=undone,
            )
            return partial(_ask, matcher, people, made)

        sightings, decisions, kept = rebuild(path, site, matcher, options.batch_s, asking)
    return (
        f"{path}: {len(matcher.state.identities)} identities from {sightings} sightings by "
        f"{decisions} decisions; as it was: {kept}"
    )


def _whole_gallery(settings: ServerSettings, site: str) -> Gallery:
    path = settings.journal.path
    journal = Journal(path, site, pictures_max_bytes=1 << 62)
    try:
        gallery = Gallery(gallery_of(path), last=journal.last[0])
        gallery.take(journal.sightings_after(gallery.through, ()))
    finally:
        journal.close()
    return gallery


def _ask(
    matcher: Matcher, people: People, made: list[Applied], decided: Sequence[Applied], end: bool
) -> list[Applied]:
    """What ``people`` makes of what was decided."""
    people.note(applied.decision for applied in decided)
    people.turn(matcher.decided_ns, everything=end, live=False)
    told = list(made)
    made.clear()
    return told
