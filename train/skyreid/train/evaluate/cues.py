"""Who is set apart from his look-alikes by what, as the rendered world's ids.json tells.

`skyreid-train synth crops` makes families of look-alikes. A member differs from the first of its
family in cues that show from the air only, from the street only, or from both. Across views only
the last kind can decide, so results by cue tell a model that sees them from one that does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skyreid.contract.errors import InputError, reason
from skyreid.synth.closets import EVERYDAY, VIVID
from skyreid.synth.wardrobe import PRIVATE_CUES

KINDS: Mapping[str, tuple[str, ...]] = {
    "air only": tuple(dict.fromkeys(VIVID.air_cues + EVERYDAY.air_cues)),
    "ground only": tuple(dict.fromkeys(VIVID.ground_cues + EVERYDAY.ground_cues)),
    "both views": tuple(dict.fromkeys(VIVID.common_cues + EVERYDAY.common_cues)),
}
FIRST = "first of a family"
_NOT_WORN = ("pid", "seed", "family", "cues", *PRIVATE_CUES)  # and never equal in a family

Row = Mapping[str, Any]


def read(root: Path) -> dict[str, frozenset[str]]:
    """People by kind and name of cue; empty where no ids.json tells of people and their looks.

    Keys are "both views: pattern" and so on, in the order of `KINDS`, a kind as a whole where
    some have none of it, and `FIRST`, of whom the others were drawn. Where people have no `cues`,
    as in trees of the first generator, they are what differs from the first of the family, and a
    family are those who agree in everything that is no cue.

    Args:
        root: of a CARGO-shaped tree.

    Raises:
        InputError: when ids.json is there and cannot be read.
    """
    path = root / "ids.json"
    if not path.is_file():
        return {}
    try:
        rows: Sequence[Row] = json.loads(path.read_text()).get("ids", [])
        cues = {str(int(row["pid"])): frozenset(cue) for row, cue in _with_cues(rows)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not what `skyreid-train synth crops` writes ({reason(error, path)}); "
            "move it away to do without results by cue"
        ) from error
    found: dict[str, frozenset[str]] = {}
    for kind, names in KINDS.items():
        of_kind = frozenset(person for person, mine in cues.items() if mine & set(names))
        others = frozenset(person for person, mine in cues.items() if mine) - of_kind
        if others:
            found[kind] = of_kind
        for name in names:
            found[f"{kind}: {name}"] = frozenset(p for p, mine in cues.items() if name in mine)
    found[FIRST] = frozenset(person for person, mine in cues.items() if not mine)
    return {name: people for name, people in found.items() if people}


def _with_cues(rows: Sequence[Row]) -> list[tuple[Row, Sequence[str]]]:
    if all("cues" in row for row in rows):
        return [(row, row["cues"]) for row in rows]
    every = (*VIVID.air_cues, *VIVID.ground_cues, *VIVID.common_cues)  # they knew no others
    family_of: dict[tuple[str, ...], Row] = {}
    found: list[tuple[Row, Sequence[str]]] = []
    for row in sorted(rows, key=lambda row: int(row["pid"])):
        kept = tuple(
            f"{k}={v}" for k, v in sorted(row.items()) if k not in every and k not in _NOT_WORN
        )
        first = family_of.setdefault(kept, row)
        found.append((row, [name for name in every if row[name] != first[name]]))
    return found
