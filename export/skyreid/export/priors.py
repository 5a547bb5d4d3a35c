"""Score priors of a bundle that is there: how alike one person and two look to it, put anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from skyreid.bundle.archive import open_bundle, replace_file
from skyreid.bundle.manifest import ScorePrior
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import BundleError, InputError, reason
from skyreid.train.data import catalogue
from skyreid.train.evaluate.embedding import in_grey, open_model, read_and_embed
from skyreid.train.fit.score_priors import measure


def read(path: Path) -> dict[str, ScorePrior]:
    """Those of a JSON file, by pair of views, as a manifest has them.

    Raises:
        InputError: the file cannot be read, or says something else.
    """
    try:
        return dict(TypeAdapter(dict[str, ScorePrior]).validate_json(path.read_bytes()))
    except OSError as error:
        raise InputError(f"score priors {path}: {reason(error, path)}") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"])
        raise InputError(f"score priors {path}: {where or 'it'}: {wrong['msg']}") from error


def put(bundle: Path, data: Path, trust: Trust = ANYONE) -> dict[str, ScorePrior]:
    """Measure on a data set's test people, and write what came out into the manifest.

    Args:
        bundle: an embedder's directory, not signed: its sums change.
        data: whose people the model was not fitted on; all pictures of the test split.
        trust: whose bundles are accepted.

    Raises:
        BundleError: the bundle is no embedder of both its views, is signed, or is no directory.
        InputError: the data set cannot be read, or the manifest cannot be written.
    """
    held = open_bundle(bundle, trust)
    if held.manifest.kind != "embedder":
        raise BundleError(f"bundle {bundle} is a {held.manifest.kind}: it has no score priors")
    test = catalogue.open(data).test()
    records = [r for r in test.records if held.manifest.view in (r.view, "any")]
    opened = open_model([bundle], {r.view for r in records})
    found = measure(
        *(
            read_and_embed(replace(opened, embed=way), records, test.refused)[0]
            for way in (opened.embed, in_grey(opened.embed))
        )
    )
    priors = {pair: ScorePrior(**prior) for pair, prior in found.items()}
    manifest = held.manifest.model_copy(update={"score_priors": priors})
    replace_file(held, "manifest.json", (manifest.model_dump_json(indent=1) + "\n").encode())
    return priors
