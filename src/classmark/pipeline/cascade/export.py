"""A cascade on its way to a bundle: both models found, checked and joined."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from classmark.bundle import load_bundle, read_digest
from classmark.kernels import make_scorer
from classmark.kernels.cascade import CASCADE_VERSION, CascadeScorer, find_member, make_member
from classmark.pipeline.authors import authors_of
from classmark.pipeline.export import Candidate, RunToExport
from classmark.records import CascadeModel, CascadePart


def make_candidate(run: RunToExport) -> Candidate:
    """Return what the run of a cascade contributes to its bundle.

    Raises:
        BundleNotFound, BundleIncompatible: a model that it joins is not there, or has changed.
    """
    part, asked = run.record.part_as(CascadePart), run.options.threshold
    threshold = part.threshold if asked is None else asked
    models = {"fast": part.fast, "deep": part.deep}
    folders = [_find_part(run.folder, model) for model in models.values()]
    run.progress.step(f"joining {' and '.join(folder.name for folder in folders)} at {threshold:g}")
    labels = run.record.labels
    bundles = [load_bundle(folder) for folder in folders]
    fast, deep = (make_member(bundle, labels, make_scorer) for bundle in bundles)
    tables = (authors_of(bundle, labels) for bundle in bundles)
    named = {name: _reference(model) for name, model in models.items()}
    parameters = {**named, "threshold": threshold, "mix": part.mix}
    return Candidate(
        what=f"{part.fast.spec} first, {part.deep.spec} below a probability of {threshold:g}",
        featuriser=CASCADE_VERSION,
        scorer=CascadeScorer(fast, deep, threshold, part.mix),
        parameters=lambda _: parameters,
        facts=_cascade_facts(part, threshold),
        provenance={"speeds": asdict(part.speeds)},
        wants_curve=False,
        authors=next((table for table in tables if table), None),
    )


def _reference(model: CascadeModel) -> dict[str, str]:
    """Return how a bundle names a model that it joins."""
    return {"name": model.name, "version": model.version, "digest": model.digest}


def _find_part(run_folder: Path, model: CascadeModel) -> Path:
    """Return the folder of a model that a run of a cascade names: where it was, or by name.

    Raises:
        BundleNotFound, BundleIncompatible: as ``find_member`` says.
    """
    place = Path(os.path.normpath(run_folder.resolve() / model.folder))
    if (place / "bundle.json").is_file() and read_digest(place) == model.digest:
        return place
    return find_member(run_folder, _reference(model))


def _cascade_facts(part: CascadePart, threshold: float) -> dict[str, str]:
    facts = {
        "mix": "none" if part.mix is None else f"{part.mix:g} of the deep model",
        "papers a CPU-second": f"fast {part.speeds.fast:,.0f}, deep {part.speeds.deep:.1f}",
    }
    if threshold != part.threshold:
        return facts
    for split, point in part.chosen.items():
        facts[f"on {split}"] = (
            f"asks the deep model about {point.deep_share:.1%}, {point.cheaper:.1f} times "
            f"cheaper than it, loses {point.loss:.4f} of its top-1"
        )
    return facts
