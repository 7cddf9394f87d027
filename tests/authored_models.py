"""A model with an author table for tests: the weights of the packaged one, and invented people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classmark.bundle import find_bundle, load_bundle, write_bundle
from classmark.export.authors import CountedPapers, count_authors
from classmark.kernels.authors import AuthorTable
from classmark.kernels.joining import AuthorJoin, JoinWeights
from classmark.kernels.votes import N_FEATURES

KNOWN = {"Ada Sieve": "hep-ex", "Bo Graph": "q-bio.NC", "Émile Léger-Müller": "cs.CR"}
"""Who wrote before, and about what."""
PAPERS_EACH = 12
YEAR = 2012
BRANES = {"title": "Dualities of branes", "abstract": "We study branes in string theory. " * 5}
SCALE = 0.5 / 1024


def write_authored_model(folder: Path) -> Path:
    """Write a bundle that answers as the packaged model, except where it knows the authors."""
    packaged = load_bundle(find_bundle("fast"))
    labels = packaged.manifest.labels
    people = [(name, code) for name, code in KNOWN.items() for _ in range(PAPERS_EACH)]
    counted = count_authors(
        CountedPapers(
            authors=[[name] for name, _ in people],
            years=np.full(len(people), YEAR, dtype=np.int16),
            listed_indptr=np.arange(len(people) + 1),
            listed_indices=np.array([labels.index(code) for _, code in people], dtype=np.int16),
            n_labels=len(labels),
        ),
        max_entries=100,
    )
    assert counted is not None
    arrays, first_year = counted
    own = np.tile(np.eye(len(labels), dtype=np.int16) * 8, (N_FEATURES, 1))
    arrays = replace(arrays, profile=own)
    weights = JoinWeights.none()
    weights.context[1] = 1.0
    weights.sides[-1] = 0.6, 0.8, 0.0
    join = AuthorJoin(AuthorTable(arrays, first_year), SCALE, weights)
    manifest = replace(packaged.manifest, name="authored", version="1.0", authors=join.to_dict())
    files = {**packaged.arrays, **join.bundle_arrays()}
    write_bundle(folder, manifest, files, {"CARD.md": "# authored 1.0\n"})
    return folder


@pytest.fixture(scope="session")
def authored_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model that knows the authors in ``KNOWN``."""
    return write_authored_model(tmp_path_factory.mktemp("models") / "authored-1.0")
