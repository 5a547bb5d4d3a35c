"""``skyreid-export get`` and the list: a detector of others as a bundle that is proved."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skyreid.bundle.archive import Bundle
from skyreid.contract.errors import BundleError, InputError, PlatformError
from skyreid.export.catalogue import Entry, Pinned, as_facts, as_lines, entry


def get(
    name: str,
    out: Path,
    *,
    file: Path | None = None,
    golden: Path | None = None,
    accept_licence: bool = False,
    formats: tuple[str, ...] = (),
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """Fetch a detector of the catalogue, hold it against its digest, wrap it and prove it.

    Args:
        name: of the catalogue.
        out: the bundle directory to make; it must not exist.
        file: one of the entry's files, fetched elsewhere; nothing is fetched then.
        golden: directory of at least eight pictures with people; None = drawn ones.
        accept_licence: of an entry whose licence asks for something.
        formats: numeric formats, fp32 and fp16; none = the file's own.
        cache: folder that files are kept in; None = the user's cache.
        say: receives a line per stage, licence and training data first.

    Raises:
        InputError: no such name, the licence is not accepted, or another file than the catalogue's.
        PlatformError: it cannot be reached, or the export extra is not installed.
        BundleError: `out` exists.
        GateError: it did not prove itself.
    """
    one = entry(name)
    say(f"{one.name}: {one.makers}")
    say(f"licence {one.licence}, {one.licence_note}")
    say(f"trained on {one.trained_on}")
    if one.needs_acceptance and not accept_licence:
        raise InputError(
            f"{one.name}: its licence is {one.licence}, {one.licence_note}: --accept-licence says "
            "that you accept that"
        )
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")
    try:
        from skyreid.export import wrap as wrapping
        from skyreid.export.bare import proof_pictures
    except ImportError as error:
        raise PlatformError(
            f"{error.name} is not installed: pip install 'skyreid[export]'"
        ) from error
    path, pinned = _here(one, file, cache or default_cache(), say)
    return wrapping.wrap(
        path,
        out,
        family=one.family,
        pictures=lambda: proof_pictures(golden),
        name=one.name,
        said=one.said,
        size=one.size,
        formats=formats,
        licence=one.licence,
        notes=f"{one.makers}; trained on {one.trained_on}; {pinned.address}",
        say=say,
    )


def default_cache() -> Path:
    """Of files that were fetched: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "skyreid" / "models"


def _here(
    one: Entry, file: Path | None, cache: Path, say: Callable[[str], None]
) -> tuple[Path, Pinned]:
    """The file of an entry on this machine, whole and the right one."""
    from skyreid.export import download

    if file is None:
        pinned = one.files[0]
        path = cache / f"{one.name}-{pinned.sha256[:16]}.onnx"
        say(f"fetch {pinned.address}")
        download.fetch(pinned, path, say=say)
        return path, pinned
    return file, download.identify(file, one.files, str(file))


def add_verbs(verbs: Any) -> None:
    """``get`` and ``catalogue``."""
    wanted = verbs.add_parser("get", help="fetch a detector of the catalogue and make a bundle")
    wanted.set_defaults(verb=_get)
    wanted.add_argument("name", metavar="NAME", help="of the catalogue")
    wanted.add_argument("-o", "--out", type=Path, help="bundle directory to make (default: NAME)")
    wanted.add_argument(
        "--file", type=Path, help="it was fetched on another machine: nothing is fetched"
    )
    wanted.add_argument(
        "--accept-licence", action="store_true", help="of one that asks for something"
    )
    wanted.add_argument(
        "--golden", type=Path, help="directory of pictures of people (default: drawn ones)"
    )
    wanted.add_argument("--formats", help="of fp32 and fp16, comma separated (default: its own)")
    wanted.add_argument(
        "--cache", type=Path, help="of fetched files (default: skyreid/models in the user's cache)"
    )
    listed = verbs.add_parser("catalogue", help="list the detectors that get knows")
    listed.set_defaults(verb=_catalogue)
    listed.add_argument(
        "--json", action="store_true", help="everything, as one JSON list on stdout"
    )


def _get(options: argparse.Namespace) -> int:
    bundle = get(
        options.name,
        options.out or Path(options.name),
        file=options.file,
        golden=options.golden,
        accept_licence=options.accept_licence,
        formats=() if options.formats is None else tuple(options.formats.split(",")),
        cache=options.cache,
        say=_to_stderr,
    )
    sys.stdout.write(f"{bundle.path}\n")
    return 0


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _catalogue(options: argparse.Namespace) -> int:
    text = json.dumps(as_facts()) if options.json else "\n".join(as_lines())
    sys.stdout.write(f"{text}\n")
    return 0
