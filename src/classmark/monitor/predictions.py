"""What the journal holds of a model that is watched: its predictions and their features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classmark.bundle import Bundle, find_bundle, load_bundle
from classmark.errors import InvalidWindow
from classmark.journal.place import Place
from classmark.journal.reading import PredictionFilter, read_predictions
from classmark.monitor.window import MOST_PAPERS
from classmark.records import PredictionEvent
from classmark.records.drift import Counts
from classmark.registry.reading import RegistryReader
from classmark.runtime import Decider
from classmark.runtime.features import FeatureTable, has_scores, watched
from classmark.runtime.reference import Axes, Reference
from classmark.wire import ModelRef


@dataclass(frozen=True, eq=False)
class WatchedModel:
    """A model that is watched, how its predictions are read, and its own reference."""

    decider: Decider
    axes: Axes
    ref: ModelRef
    reference: Reference

    def features(self, events: Sequence[PredictionEvent]) -> FeatureTable:
        """Return the features of its predictions.

        Raises:
            InvalidEvent: one keeps none, or those of other labels.
        """
        rows = [{name: getattr(event, name) for name in _READ} for event in events]
        papers = watched(rows, len(self.decider.labels))
        return papers.features(self.decider, self.axes.project)


_READ = ("features", "known_share", "latex_share", "n_words", "used_authors")


def watched_model(model: str | None, registry: Path | None = None) -> WatchedModel:
    """Return a model by its name, which in a registry may mean another one later.

    Args:
        model: as for ``Classifier``; of a registry, as its commands name bundles, and its champion
            if none is named.
        registry: its folder, None for none.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible, SignatureRefused: it cannot be loaded.
        RegistryNotFound, RegistryCorrupt, RegistryTooNew: the registry cannot be read.
        InvalidWindow: the model has no reference.
    """
    if registry is None:
        return open_model(load_bundle(find_bundle(model)))
    opened = RegistryReader.open(registry)
    return open_model(opened.load(opened.find(model or "champion")))


def open_model(bundle: Bundle) -> WatchedModel:
    """Return a model with what is needed to watch it.

    Raises:
        BundleIncompatible: its reference is damaged.
        InvalidWindow: it has none.
    """
    manifest = bundle.manifest
    reference = Reference.of_bundle(bundle)
    if reference is None:
        raise InvalidWindow(
            f"model {manifest.name} {manifest.version} carries no reference, so there is nothing "
            "to compare with. Export it again with this classmark."
        )
    ref = ModelRef(manifest.name, manifest.version, bundle.digest)
    return WatchedModel(Decider(manifest, ref), reference.axes, ref, reference)


def papers_of(journal: Place, wanted: PredictionFilter) -> tuple[list[PredictionEvent], Counts]:
    """Return predictions with features, each paper once, and how many there were."""
    seen: set[str] = set()
    counted: Counter[str] = Counter()
    kept = []
    for prediction in read_predictions(journal, wanted):
        event = prediction.event
        counted["read"] += 1
        if event.text_fingerprint in seen:
            counted["repeated"] += 1
        elif not has_scores(event.features):
            counted["without_features"] += 1
        else:
            seen.add(event.text_fingerprint)
            kept.append(event)
    return kept, Counts(
        read=counted["read"],
        compared=len(kept),
        repeated=counted["repeated"],
        without_features=counted["without_features"],
        left_out=0,
    )


def sample_of(events: list[PredictionEvent]) -> list[PredictionEvent]:
    """Return at most as many papers as are compared: a random share, the same every time."""
    if len(events) <= MOST_PAPERS:
        return events
    chosen = np.random.default_rng(0).permutation(len(events))[:MOST_PAPERS]
    return [events[i] for i in np.sort(chosen)]
