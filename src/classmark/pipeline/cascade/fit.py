"""Joins a fast and a deep bundle: scores both, draws the curve, chooses the point to serve."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import find_bundle, load_bundle
from classmark.bundle.manifest import manifest_digest
from classmark.dataset import DatasetSplit, read_split
from classmark.errors import InvalidConfig
from classmark.evaluation.cascade import (
    LEAST_MIX_GAIN,
    MIX_WEIGHTS,
    Answers,
    cascade_curve,
    cascade_point,
    choose_point,
    choose_thresholds,
    compare_answers,
)
from classmark.kernels import RawScores, make_scorer
from classmark.kernels.cascade import PARTS, Member, make_member, mixed
from classmark.pages import draw_cascade
from classmark.pipeline.config import TrainConfig
from classmark.pipeline.run_folder import (
    path_from_run,
    reserve_run_folder,
    start_record,
    write_config,
    write_record,
    write_tables,
)
from classmark.pipeline.scoring import draw_papers, make_table
from classmark.records import (
    BundleManifest,
    CascadeModel,
    CascadePart,
    CascadePoint,
    DatasetManifest,
    Progress,
    RunRecord,
    ScoreTable,
    Speeds,
)
from classmark.storage import atomic_folder, write_json
from classmark.training.config import CascadeConfig
from classmark.wire import ModelRef

TIMED_PAPERS = 200
_CHUNK = 500


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both models, found and loaded."""

    folders: dict[str, Path]
    manifests: dict[str, BundleManifest]
    members: dict[str, Member]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Scored:
    """Both models' log-probabilities of a split, float64 [n, k], and its truth."""

    fast: NDArray[np.float64]
    deep: NDArray[np.float64]
    tables: dict[str, ScoreTable]

    @property
    def primary(self) -> NDArray[np.int16]:
        return self.tables["fast"].primary


def train(config: TrainConfig, manifest: DatasetManifest, command: str, progress: Progress) -> Path:
    """Return the run folder: threshold and mix chosen on valid, measured on test.

    Raises:
        BundleNotFound: a model is not there.
        LabelMismatch: the models, or the dataset, have other labels.
        InvalidConfig: the two are not a linear model and a transformer.
    """
    options = config.options(CascadeConfig)
    started = time.monotonic()
    pair = _load_pair(options)
    splits = {
        name: draw_papers(
            read_split(config.dataset, name, manifest), options.max_held_out, config.seed
        )
        for name in ("valid", "test")
    }
    progress.step("measuring the speed of both models")
    speeds = _measure(pair, splits["valid"])
    scored = {}
    for name, split in splits.items():
        progress.step(f"scoring {len(split):,} papers of {name} with both models")
        scored[name] = _score(pair, split, name, manifest, progress)
    curves, found = _choose(options, scored, speeds, progress)
    tables = {f"{who}-{name}": t for name, s in scored.items() for who, t in s.tables.items()}
    with reserve_run_folder(config.runs_dir, config.kind) as folder:
        start = start_record(config, manifest, command, folder)
        space = pair.manifests["deep"].label_space
        fast, deep = (_name(pair, part, folder) for part in PARTS)
        record = replace(start, labels=pair.labels, label_space=space).finished(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            fit_seconds=round(time.monotonic() - started, 1),
            part=CascadePart(fast=fast, deep=deep, **found),
        )
        _write(folder, config, record, tables, curves)
    return folder


def _choose(
    options: CascadeConfig, scored: Mapping[str, _Scored], speeds: Speeds, progress: Progress
) -> tuple[dict[str, list[CascadePoint]], dict[str, Any]]:
    """Return the curve of each split, and what was chosen on valid, by the name of its field."""
    mix = _choose_mix(scored["valid"]) if options.mix else None
    answers = {name: _answers(part, mix) for name, part in scored.items()}
    thresholds = choose_thresholds(answers["valid"].confidence)
    curves = {name: cascade_curve(part, speeds, thresholds) for name, part in answers.items()}
    point = (
        choose_point(curves["valid"], options.max_loss)
        if options.threshold is None
        else cascade_point(answers["valid"], options.threshold, speeds)
    )
    progress.step(
        f"chose threshold {point.threshold:g}: asks {point.deep_share:.0%}, {point.cheaper:.1f} "
        f"times cheaper than deep, loses {point.loss:.4f} on valid"
    )
    chosen = {name: cascade_point(part, point.threshold, speeds) for name, part in answers.items()}
    found = {"threshold": point.threshold, "mix": mix, "speeds": speeds, "chosen": chosen}
    return curves, found


def _load_pair(options: CascadeConfig) -> _Pair:
    folders = {"fast": find_bundle(options.fast), "deep": find_bundle(options.deep)}
    bundles = {part: load_bundle(folder) for part, folder in folders.items()}
    manifests = {part: bundle.manifest for part, bundle in bundles.items()}
    labels = manifests["deep"].labels
    members = {part: make_member(bundle, labels, make_scorer) for part, bundle in bundles.items()}
    _check_kinds(manifests)
    return _Pair(folders, manifests, members, labels)


def _check_kinds(manifests: Mapping[str, BundleManifest]) -> None:
    """Refuse two models of which the second is not the dearer one: it would only cost time."""
    for part, kind in (("fast", "linear"), ("deep", "transformer")):
        found = manifests[part]
        if found.kind != kind:
            raise InvalidConfig(
                f"model.{part} is {found.name}@{found.version} of kind {found.kind!r}, it must be "
                f"a bundle of kind {kind!r}. `classmark models show` says the kind of a model; "
                f"`classmark train model={kind}` fits one of this kind."
            )


def _measure(pair: _Pair, split: DatasetSplit) -> Speeds:
    """Return papers a CPU-second of both on the first papers of a split, after a warm-up."""
    papers = list(zip(split.titles, split.abstracts, strict=True))[:TIMED_PAPERS]
    speeds = {}
    for name, member in pair.members.items():
        member.logarithms(papers[:2])
        rounds = 1 if name == "deep" else 20  # the fast one is done before a clock ticks
        started = time.process_time()
        for _ in range(rounds):
            member.logarithms(papers)
        spent_s = max(time.process_time() - started, 1e-6)
        speeds[name] = round(rounds * len(papers) / spent_s, 2)
    return Speeds(**speeds)


def _score(
    pair: _Pair, split: DatasetSplit, name: str, manifest: DatasetManifest, progress: Progress
) -> _Scored:
    papers = list(zip(split.titles, split.abstracts, strict=True))
    logarithms, tables = {}, {}
    for who, member in pair.members.items():
        parts, shares = [np.zeros((0, len(pair.labels)))], [np.zeros(0, np.float32)]
        for first in range(0, len(papers), _CHUNK):
            part, share = member.logarithms(papers[first : first + _CHUNK])
            parts.append(part)
            shares.append(share)
            progress.advance(len(part))
        logarithms[who] = np.concatenate(parts)
        manifest_of = pair.manifests[who]
        ref = ModelRef(manifest_of.name, manifest_of.version, manifest_digest(manifest_of))
        raw = RawScores(logarithms[who].astype(np.float32), np.concatenate(shares))
        tables[who] = make_table(raw, split, name, manifest, pair.labels, ref)
    return _Scored(logarithms["fast"], logarithms["deep"], tables)


def _choose_mix(valid: _Scored) -> float | None:
    """Return the weight of the deep model that is right most often; None if mixing gains nothing.

    Looked at over all papers, because the threshold is not chosen yet.
    """

    def accuracy(weight: float | None) -> float:
        return float(_answers(valid, weight).deep_right.mean())

    best = max(MIX_WEIGHTS, key=accuracy)
    return best if accuracy(best) - accuracy(None) >= LEAST_MIX_GAIN else None


def _answers(scored: _Scored, mix: float | None) -> Answers:
    both = mixed(scored.fast, scored.deep, mix)
    return compare_answers(scored.fast, scored.deep, scored.primary, both)


def _name(pair: _Pair, part: str, run: Path) -> CascadeModel:
    manifest = pair.manifests[part]
    return CascadeModel(
        name=manifest.name,
        version=manifest.version,
        digest=manifest_digest(manifest),
        kind=manifest.kind,
        folder=path_from_run(pair.folders[part], run),
    )


def _write(
    folder: Path,
    config: TrainConfig,
    record: RunRecord,
    tables: dict[str, ScoreTable],
    curves: dict[str, list[CascadePoint]],
) -> None:
    found: Any = record.part
    rows = [{"split": name, **point.to_dict()} for name, curve in curves.items() for point in curve]
    with atomic_folder(folder) as temporary:
        write_config(temporary, config)
        write_record(temporary, record)
        write_json(
            temporary / "curve.json",
            {
                "speeds": asdict(found.speeds),
                "mix": found.mix,
                "chosen": {name: point.to_dict() for name, point in found.chosen.items()},
                "points": rows,
            },
        )
        (temporary / "curve.csv").write_text(_as_csv(rows), encoding="utf-8")
        (temporary / "curve.svg").write_text(draw_cascade(curves, found.chosen), encoding="utf-8")
        write_tables(temporary, tables)


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
