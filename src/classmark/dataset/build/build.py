"""Papers in, dataset folder out: clean, split, write, check, account."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from classmark import taxonomy
from classmark.dataset.build.cleaning import clean
from classmark.dataset.build.intake import Intake, Read, read_sources
from classmark.dataset.build.ledger import Ledger
from classmark.dataset.build.splits import assign_periods, assign_splits
from classmark.dataset.build.writing import check_leaks, write_splits
from classmark.dataset.config import DatasetConfig
from classmark.dataset.digest import dataset_digest
from classmark.dataset.folder import INVENTED_ID_PREFIX, MANIFEST_FILE, SPLITS
from classmark.errors import InvalidConfig, InvalidDataset, UnknownCategory
from classmark.papers import RECIPE_VERSION
from classmark.records import SILENT, DatasetManifest, Progress, SplitFile
from classmark.storage import atomic_folder, check_apart, is_remote, write_json

SCRATCH = "scratch"
"""Folder in a dataset that is being built: texts wait there until they are written."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a dataset comes from.

    Attributes:
        command: the command line that writes it.
        options: further options for the manifest's ``config``, e.g. those of the generator.
        read: who reads the sources, which decides nothing about the dataset; None: this process.
    """

    command: str = ""
    options: dict[str, Any] | None = None
    read: Read | None = None


def build_dataset(
    sources: Sequence[Path],
    output: Path,
    config: DatasetConfig,
    *,
    origin: Origin | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> DatasetManifest:
    """Write a dataset folder from files of papers; it is whole, or it is not there.

    Args:
        sources: files that ``papers.read_papers`` reads.
        output: the folder.
        config: how the papers become a dataset.
        origin: what the manifest should say of it.
        overwrite: replace what is in the folder.
        progress: of the steps, and of the records read.

    Raises:
        UnreadableSource: a source cannot be read.
        ContractViolation: a record is bad, and the build is strict.
        InvalidDataset: fewer than two categories, or an empty split, are left.
        LeakFound: a paper is in two splits.
        StorageFailed: the folder cannot be written, or it holds a source.
    """
    if not sources:
        raise InvalidConfig("there is nothing to build from. Name one or more files of papers.")
    local = [source for source in sources if not is_remote(source)]
    check_apart((output,), (*local, config.test_ids, config.valid_ids))
    with atomic_folder(output, overwrite=overwrite) as folder:
        origin = origin or Origin()
        intake = read_sources(sources, folder / SCRATCH, config, progress, origin.read)
        return write_dataset(folder, intake, config, origin, progress)


def write_dataset(
    folder: Path,
    intake: Intake,
    config: DatasetConfig,
    origin: Origin,
    progress: Progress = SILENT,
) -> DatasetManifest:
    """Clean, split, write and check what came in; return the manifest that was written.

    The intake's texts are in ``folder / SCRATCH``, which is removed.
    """
    ledger = Ledger(intake.read, intake.bad_records)
    progress.step("cleaning")
    papers = clean(intake.frame, config, ledger)
    _check_categories(papers, ledger, intake, config.labels)
    papers = assign_splits(assign_periods(papers, config.periods), config, ledger)
    ledger.check(papers.height)
    _note_untrained_labels(papers, ledger)
    ledger.notes["large_drops"] = ledger.large_drops(intake.where, intake.first_bad)
    progress.step("writing")
    splits = write_splits(folder, papers, intake.texts, config)
    shutil.rmtree(folder / SCRATCH)
    progress.step("looking for leaks")
    check_leaks({name: folder / file.file for name, file in splits.items()})
    manifest = _manifest(intake, papers, splits, config, origin, ledger)
    write_json(folder / MANIFEST_FILE, manifest.to_dict())
    return manifest


def _check_categories(papers: pl.DataFrame, ledger: Ledger, intake: Intake, space: str) -> None:
    labels = papers["category_code"].unique()
    if len(labels) >= 2:
        return
    found = f"one category ({labels[0]!r})" if len(labels) else "no category"
    raise InvalidDataset(
        f"the dataset has {found}, a classifier needs two or more. {ledger.account(papers.height)} "
        f"{_what_to_do(ledger, intake, space)}"
    )


def _what_to_do(ledger: Ledger, intake: Intake, space: str) -> str:
    """Return an example of what dropped most rows, with the advice about it."""
    drops = ledger.large_drops(intake.where, intake.first_bad)
    if not drops:
        other = "" if space == "free" else ", or give --labels free for labels of your own"
        return f"Add papers, or lower --min-papers{other}."
    reason, example, advice = (drops[0][name] for name in ("reason", "example", "advice"))
    if reason in intake.first_bad:
        return f"{example} {advice}"
    if reason != "unknown_category":
        return f"For example {example} {advice}"
    unknown: dict[str, int] = ledger.notes["unknown_categories"]
    try:
        taxonomy.canonical(max(unknown, key=lambda label: unknown[label]))
    except UnknownCategory as error:
        example = error
    return f"{example} {advice}"


def _note_untrained_labels(papers: pl.DataFrame, ledger: Ledger) -> None:
    trained = papers.filter(pl.col("split") == "train")["category_code"].unique()
    missing = set(papers["category_code"].unique()) - set(trained)
    ledger.notes["labels_without_training_papers"] = sorted(missing)


def _manifest(
    intake: Intake,
    papers: pl.DataFrame,
    splits: dict[str, SplitFile],
    config: DatasetConfig,
    origin: Origin,
    ledger: Ledger,
) -> DatasetManifest:
    labels = tuple(sorted(papers["category_code"].unique()))
    return DatasetManifest(
        label_space=config.labels,
        labels=labels,
        splits=splits,
        periods=config.period_names,
        sources=intake.sources,
        read=ledger.read,
        kept=papers.height,
        dropped=dict(sorted(ledger.dropped.items())),
        counts=sizes_of(papers),
        generated=is_generated(papers),
        text_recipe=RECIPE_VERSION,
        taxonomy=taxonomy.VERSION if config.labels == "arxiv" else "",
        config={**config.to_dict(), **(origin.options or {}), "notes": ledger.notes},
        command=origin.command,
        digest=dataset_digest(splits, labels),
    )


def is_generated(papers: pl.DataFrame) -> bool:
    """Tell whether any paper is invented, also when it came through a file of the generator."""
    return bool(papers["id"].str.starts_with(INVENTED_ID_PREFIX).any())


def sizes_of(papers: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return how many papers each category has, by split."""
    sizes = papers.group_by("split", "category_code").len().sort("category_code")
    return {
        split: dict(
            sizes.filter(pl.col("split") == split).select("category_code", "len").iter_rows()
        )
        for split in SPLITS
    }
