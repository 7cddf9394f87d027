"""From files of papers to a dataset: contract, duplicates, splits, manifest, and the generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classmark.dataset.build.build import Origin, build_dataset
    from classmark.dataset.build.cluster import ReadOnCluster
    from classmark.dataset.build.extend import NewLabels, NewPapers, count_new, extend_dataset
    from classmark.dataset.build.writing import check_leaks, count_leaks
    from classmark.dataset.config import (
        DatasetConfig,
        DownloadConfig,
        ExtendConfig,
        FeedbackPolicy,
        HarvestConfig,
        SampleConfig,
    )
    from classmark.dataset.download.download import Download, fetch_dataset
    from classmark.dataset.download.harvest import Harvest, harvest
    from classmark.dataset.folder import (
        MANIFEST_FILE,
        DatasetSplit,
        iter_authors,
        iter_texts,
        load_manifest,
        read_split,
    )
    from classmark.dataset.sample.sample import (
        sample_csv,
        sample_dataset,
        sample_dump,
        sample_papers,
    )
    from classmark.dataset.sample.wording import category_sentences

_HOMES = {
    "MANIFEST_FILE": "folder",
    "DatasetConfig": "config",
    "DatasetSplit": "folder",
    "Download": "download.download",
    "DownloadConfig": "config",
    "ExtendConfig": "config",
    "FeedbackPolicy": "config",
    "Harvest": "download.harvest",
    "HarvestConfig": "config",
    "NewLabels": "build.extend",
    "NewPapers": "build.extend",
    "Origin": "build.build",
    "ReadOnCluster": "build.cluster",
    "SampleConfig": "config",
    "build_dataset": "build.build",
    "category_sentences": "sample.wording",
    "check_leaks": "build.writing",
    "count_leaks": "build.writing",
    "count_new": "build.extend",
    "extend_dataset": "build.extend",
    "fetch_dataset": "download.download",
    "harvest": "download.harvest",
    "iter_authors": "folder",
    "iter_texts": "folder",
    "load_manifest": "folder",
    "read_split": "folder",
    "sample_csv": "sample.sample",
    "sample_dataset": "sample.sample",
    "sample_dump": "sample.sample",
    "sample_papers": "sample.sample",
}

__all__ = [
    "MANIFEST_FILE",
    "DatasetConfig",
    "DatasetSplit",
    "Download",
    "DownloadConfig",
    "ExtendConfig",
    "FeedbackPolicy",
    "Harvest",
    "HarvestConfig",
    "NewLabels",
    "NewPapers",
    "Origin",
    "ReadOnCluster",
    "SampleConfig",
    "build_dataset",
    "category_sentences",
    "check_leaks",
    "count_leaks",
    "count_new",
    "extend_dataset",
    "fetch_dataset",
    "harvest",
    "iter_authors",
    "iter_texts",
    "load_manifest",
    "read_split",
    "sample_csv",
    "sample_dataset",
    "sample_dump",
    "sample_papers",
]


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: the options are wanted where polars is not installed."""
    if name not in _HOMES:
        raise AttributeError(f"module 'classmark.dataset' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"classmark.dataset.{_HOMES[name]}"), name)
