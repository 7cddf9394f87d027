"""New papers join a dataset: those of archives, and those of a journal that were given feedback."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import polars as pl

from classmark.dataset.build.build import SCRATCH, is_generated, sizes_of
from classmark.dataset.build.cleaning import (
    drop_duplicates,
    drop_known,
    drop_unusable,
    settle_small,
)
from classmark.dataset.build.feedback import (
    FedBack,
    ReadPredictions,
    distrusted,
    drop_refused,
    label,
    over_share,
    read_feedback,
)
from classmark.dataset.build.intake import Intake, read_here, read_sources
from classmark.dataset.build.ledger import ADVICE_TO_EXTEND, Ledger
from classmark.dataset.build.parent import Parent, ends_of
from classmark.dataset.build.splits import assign_periods, split_by_date, split_newest
from classmark.dataset.build.writing import append_splits, check_leaks, write_splits
from classmark.dataset.config import DatasetConfig, ExtendConfig, LabelSpace, close_periods
from classmark.dataset.digest import dataset_digest
from classmark.dataset.folder import (
    MANIFEST_FILE,
    SPLITS,
    categories_separator,
)
from classmark.errors import InvalidConfig, InvalidDataset, UnreadableSource, unreadable
from classmark.papers import RECIPE_VERSION
from classmark.records import SILENT, DatasetManifest, Progress, SplitFile
from classmark.storage import (
    atomic_folder,
    check_apart,
    is_remote,
    scratch_folder,
    sha256_file,
    write_json,
)

_PREFIX_CHARS = 8
_NEW = "new"
_ANY_DAY = "2000-12-31"  # with periods, a paper needs a date; the names are made later


@dataclass(frozen=True, kw_only=True)
class NewLabels:
    """What would join a dataset.

    Attributes:
        papers: with a label, which the dataset lacks.
        newest: day of the newest of them, "" without any date.
        fitted_until: day of the newest paper of the dataset.
    """

    papers: int
    newest: str
    fitted_until: str


@dataclass(frozen=True, kw_only=True)
class NewPapers:
    """Where new papers come from.

    Attributes:
        sources: files that ``papers.read_papers`` reads.
        feedback: reads the predictions of journals; None without any.
        command: the command line, for the manifest.
    """

    sources: Sequence[Path] = ()
    feedback: ReadPredictions | None = None
    command: str = ""


def extend_dataset(
    parent: Path,
    new: NewPapers,
    output: Path,
    config: ExtendConfig,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> DatasetManifest:
    """Write the dataset that new papers make of another; it is whole, or it is not there.

    The papers of the other one keep their splits. The same dataset and the same new papers give the
    same digest, in whatever order the files are named.

    Args:
        parent: folder of the dataset that is extended, which stays as it is.
        new: the new papers.
        output: the folder to write.
        config: what is held out, and when feedback is a label.
        overwrite: replace what is in the folder.
        progress: of the steps, and of the records read.

    Raises:
        InvalidDataset: the dataset is incomplete, has changed, or is of another taxonomy; or no new
            paper is left.
        InvalidJournal: a journal with feedback has no text, or cannot be read.
        UnreadableSource: a source cannot be read.
        ContractViolation: a record is bad, and the command is strict.
        LeakFound: a paper is in two splits.
        StorageFailed: the folder cannot be written, or it holds an input.
    """
    if not new.sources and new.feedback is None:
        raise InvalidConfig("there is nothing to add. Name files of papers, or give --journal.")
    check_apart((output,), (parent, *(s for s in new.sources if not is_remote(s))))
    progress.step(f"checking {parent.name}")
    before = Parent.of(parent)
    with atomic_folder(output, overwrite=overwrite) as folder:
        return _Extension(before, new, config, progress).write(folder)


def _build_config(manifest: DatasetManifest, config: ExtendConfig) -> DatasetConfig:
    """Return how a dataset was built, as far as it is about papers that join it."""
    names = ("min_papers", "small", "seed")
    return DatasetConfig(
        labels=cast("LabelSpace", manifest.label_space),
        **{name: manifest.config[name] for name in names if name in manifest.config},
        periods=(_ANY_DAY,),
        columns=config.columns,
        format=config.format,
        strict=config.strict,
    )


def count_new(
    parent: Path, new: NewPapers, config: ExtendConfig, progress: Progress = SILENT
) -> NewLabels:
    """Return what ``extend_dataset`` would add; nothing is written.

    Raises:
        InvalidDataset, InvalidJournal, UnreadableSource, ContractViolation: as ``extend_dataset``.
    """
    progress.step(f"checking {parent.name}")
    before = Parent.of(parent)
    if not new.sources and new.feedback is None:
        return NewLabels(papers=0, newest="", fitted_until=before.newest)
    with scratch_folder() as scratch:
        papers = _Extension(before, new, config, progress).take(scratch / SCRATCH)[-1]
    newest = str(papers["published_date"].max() or "")
    return NewLabels(papers=papers.height, newest=newest, fitted_until=before.newest)


class _Extension:
    """The work of one command."""

    def __init__(
        self, before: Parent, new: NewPapers, config: ExtendConfig, progress: Progress
    ) -> None:
        self._before, self._new, self._config, self._progress = before, new, config, progress
        self._build = _build_config(before.manifest, config)
        self._unheard: tuple[str, ...] = ()

    def write(self, folder: Path) -> DatasetManifest:
        """Read, clean, split and write; return the manifest that was written."""
        intake, said, ledger, papers = self.take(folder / SCRATCH)
        drops = ledger.large_drops(_places(intake), intake.first_bad, ADVICE_TO_EXTEND)
        ledger.notes["large_drops"] = drops
        self._check_new(papers, ledger)
        papers, ends, names = self._split(papers)
        self._progress.step("writing")
        (folder / SCRATCH / _NEW).mkdir()
        write_splits(folder / SCRATCH / _NEW, papers, intake.texts, self._build)
        period = _period_of_old(self._before.manifest.periods, names, ends)
        splits = append_splits(folder, self._before.files, folder / SCRATCH / _NEW, period)
        shutil.rmtree(folder / SCRATCH)
        self._progress.step("looking for leaks")
        check_leaks({name: folder / file.file for name, file in splits.items()})
        changes = self._changes(papers, said, ledger)
        manifest = self._manifest(intake, papers, splits, ledger, (ends, names, changes))
        write_json(folder / MANIFEST_FILE, manifest.to_dict())
        return manifest

    def take(self, scratch: Path) -> tuple[Intake, FedBack, Ledger, pl.DataFrame]:
        """Read and clean; return what was read, what was dropped, and the papers that join."""
        intake = self._read(scratch)
        said = self._read_feedback(intake)
        ledger = Ledger(intake.read + said.n_papers, intake.bad_records)
        self._progress.step("cleaning")
        papers = self._clean(intake, said, ledger)
        ledger.check(papers.height)
        return intake, said, ledger, papers

    def _read(self, scratch: Path) -> Intake:
        """Read the sources; neither their order nor which others there are decides an id."""
        digests = [(_digest_of(source), source) for source in self._new.sources]
        digests.sort(key=lambda pair: (pair[0], pair[1].name))
        prefixes = [f"{digest[:_PREFIX_CHARS]}-" for digest, _ in digests]
        sources = [source for _, source in digests]
        return read_sources(sources, scratch, self._build, self._progress, read_here(prefixes))

    def _read_feedback(self, intake: Intake) -> FedBack:
        if self._new.feedback is not None:
            self._progress.step("reading feedback")
        read: ReadPredictions = self._new.feedback or tuple
        return read_feedback(read, intake.texts, intake.frame.height)

    def _clean(self, intake: Intake, said: FedBack, ledger: Ledger) -> pl.DataFrame:
        """Return the new papers, with ``clients``: those that their label rests on."""
        known = self._before.papers
        papers = drop_unusable(intake.frame, self._build, ledger)
        papers = drop_duplicates(drop_known(papers, known, ledger), ledger)
        papers = papers.with_columns(clients=pl.lit([], pl.List(pl.String)))
        if lost := said.n_papers - said.frame.height:
            ledger.dropped["feedback_without_text"] += lost
        separator, policy = categories_separator(self._build.labels), self._config.feedback
        listed = pl.col("categories").list.join(separator)
        archived = papers.select("id", "fingerprint", categories=listed)
        self._unheard = distrusted(said, pl.concat([known, archived]), separator, policy)
        fed_back = label(said, policy, self._unheard)
        fed_back = drop_known(fed_back, known, ledger)
        fed_back = drop_known(fed_back, papers, ledger, "duplicate")
        fed_back = drop_refused(fed_back, ledger).drop("refused")
        fed_back = drop_duplicates(drop_unusable(fed_back, self._build, ledger), ledger)
        return self._settle(pl.concat([papers, fed_back.select(papers.columns)]), ledger)

    def _settle(self, papers: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
        """Drop small categories and what exceeds a client's share, until nothing does."""
        manifest, policy = self._before.manifest, self._config.feedback
        while True:
            papers = settle_small(papers, self._build, ledger, manifest.labels)
            over = over_share(papers, self._before.sizes, policy, self._build.seed)
            if not any(over.values()):
                return papers
            for reason, rows in over.items():
                papers = ledger.drop(papers, pl.col("row").is_in(rows), reason)

    def _check_new(self, papers: pl.DataFrame, ledger: Ledger) -> None:
        manifest = self._before.manifest
        if papers.is_empty():
            raise InvalidDataset(
                f"no new paper is left to join the dataset. {ledger.account(0)} {_advice(ledger)}"
            )
        codes = set(papers["category_code"])
        if manifest.label_space == "free" and not codes & set(manifest.labels):
            raise InvalidDataset(
                f"none of the {papers.height} new papers has a label of the dataset: theirs are "
                f"such as {min(codes)!r}, its are such as {manifest.labels[0]!r}. Name papers with "
                "the labels of the dataset, or build another dataset."
            )

    def _split(self, papers: pl.DataFrame) -> tuple[pl.DataFrame, list[str], tuple[str, ...]]:
        """Return the papers with period and split, and last days and names of all periods.

        Held out are papers of archives: a label that rests on feedback measures nothing while
        there are others.
        """
        manifest = self._before.manifest
        ends, names = ends_of(manifest), manifest.periods
        newest = self._before.newest or _day_before(str(papers["published_date"].min()))
        is_new = pl.col("published_date") > newest
        if papers.filter(is_new).height:
            closed = close_periods(names, newest)
            ends, names = ends if closed == names else [*ends, newest], closed
        papers = assign_periods(papers, ends, names)
        latest, older = papers.filter(is_new), papers.filter(~is_new)
        is_archived = pl.col("clients").list.len() == 0
        if latest.filter(is_archived).height:
            fitted, latest = latest.filter(~is_archived), latest.filter(is_archived)
        else:
            fitted = latest.clear()
        shares = self._config.test_share, self._config.valid_share
        parts = [
            self._as_before(older),
            fitted.with_columns(split=pl.lit("train")),
            split_newest(latest, shares, self._build.seed),
        ]
        order = ["published_date", "id", "fingerprint"]
        return pl.concat(parts).sort(order), ends, names

    def _as_before(self, older: pl.DataFrame) -> pl.DataFrame:
        """Split papers that are as old as the dataset: for the fit, or where its dates say."""
        config = self._before.manifest.config
        if config.get("split") != "time":
            return older.with_columns(split=pl.lit("train"))
        dates = {name: config[name] for name in ("train_until", "valid_until")}
        return split_by_date(older, DatasetConfig(split="time", **dates))

    def _changes(self, papers: pl.DataFrame, said: FedBack, ledger: Ledger) -> dict[str, Any]:
        """Return what the extension did, as JSON values; counts add up with those of the ledger."""
        sizes, new = self._before.sizes, sizes_of(papers)
        added = {split: sum(codes.values()) for split, codes in new.items()}
        by_code = {
            code: {"before": n, "after": n + sum(codes.get(code, 0) for codes in new.values())}
            for code, n in {**dict.fromkeys(papers["category_code"].unique(), 0), **sizes}.items()
        }
        with_feedback = papers.filter(pl.col("clients").list.len() > 0)
        return {
            "read": ledger.read,
            "new": added,
            "categories": dict(sorted(by_code.items())),
            "feedback": {
                "papers": said.n_papers,
                "labels": with_feedback.height,
                "clients": len(said.clients()),
                "distrusted": len(self._unheard),
            },
            "test_share": self._config.test_share,
            "valid_share": self._config.valid_share,
            "policy": self._config.feedback.to_dict(),
        }

    def _manifest(
        self,
        intake: Intake,
        papers: pl.DataFrame,
        splits: dict[str, SplitFile],
        ledger: Ledger,
        facts: tuple[list[str], tuple[str, ...], dict[str, Any]],
    ) -> DatasetManifest:
        before, new = self._before.manifest, sizes_of(papers)
        ends, names, changes = facts
        labels = tuple(sorted({*before.labels, *papers["category_code"]}))
        counts = {
            split: {
                code: n
                for code in labels
                if (n := before.counts[split].get(code, 0) + new[split].get(code, 0))
            }
            for split in SPLITS
        }
        missing = sorted(set(labels) - counts["train"].keys())
        notes = {**ledger.notes, "labels_without_training_papers": missing}
        return DatasetManifest(
            label_space=before.label_space,
            labels=labels,
            splits=splits,
            periods=names,
            sources=intake.sources,
            read=before.kept + ledger.read,
            kept=before.kept + papers.height,
            dropped=dict(sorted(ledger.dropped.items())),
            counts=counts,
            generated=before.generated or is_generated(papers),
            text_recipe=RECIPE_VERSION,
            taxonomy=before.taxonomy,
            config={**before.config, "periods": ends, "notes": notes, "extension": changes},
            command=self._new.command,
            digest=dataset_digest(splits, labels),
            lineage=(*before.lineage, before.digest),
        )


def _digest_of(source: Path) -> str:
    try:
        return sha256_file(source)
    except OSError as error:
        advice = "Give a file of papers that can be read"
        raise UnreadableSource(f"{source} {unreadable(error, advice)}") from error


def _advice(ledger: Ledger) -> str:
    """Return what to do where no paper is left: about the rows that could have joined, if any."""
    faulty = ADVICE_TO_EXTEND.keys() | {"no_category", "bad_date", "empty_abstract"}
    for drop in ledger.notes["large_drops"]:
        if drop["reason"] in faulty:
            return f"For example {drop['example']} {drop['advice']}"
    return (
        "Harvest again later, or relax the policy of feedback: see `classmark dataset extend "
        "--help`."
    )


def _places(intake: Intake) -> Callable[[int, int], str]:
    """Return what says where a row is: in a source, or in the journal."""
    n = intake.frame.height
    return lambda row, place: intake.where(row, place) if row < n else f"the journal:{row - n + 1}"


def _period_of_old(before: tuple[str, ...], names: tuple[str, ...], ends: Sequence[str]) -> pl.Expr:
    """Return the period of papers of the dataset before: that of the open one may have ended."""
    if before == names:
        return pl.col("period")
    if not before:
        is_dated = pl.col("published_date").is_between(pl.lit("0"), pl.lit(ends[-1]))
        return pl.when(is_dated).then(pl.lit(names[0])).otherwise(pl.lit(""))
    return pl.col("period").replace({before[-1]: names[-2]})


def _day_before(day: str) -> str:
    return date.fromordinal(date.fromisoformat(day).toordinal() - 1).isoformat()
