"""The papers that every peer gets: a fixed sample of a dataset, built as any dataset is.

The draw ranks a keyed hash of the id inside each stratum (period and category), so it depends on
neither the order of the files nor a library's random numbers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from classmark.dataset import DatasetSplit, iter_authors, load_manifest, read_split
from classmark.records import DatasetManifest

SEED = b"classmark peers 1"
SPLITS = ("train", "valid", "test")
SOURCES = ("arxiv-train", "arxiv-recent", "arxiv-2020s")
HOLDOUT = Path(__file__).parent / "holdout"
FIVE_SHARE = 0.15
# Where the papers of a benchmark come from.
FLAGS: dict[str, dict[str, Any]] = {
    "--data": {"type": Path, "help": "folder of the Parquet files of papers"},
    "--dataset": {"type": Path, "help": "dataset folder instead, if it is built"},
    "--work": {"type": Path, "required": True, "help": "folder of samples, fits and models"},
}


def rank(identifier: str) -> bytes:
    """Return the key that orders a paper in every draw."""
    return blake2b(identifier.encode(), digest_size=8, key=SEED).digest()


def draw_stratified(frame: pl.DataFrame, n: int, strata: tuple[str, ...]) -> pl.DataFrame:
    """Return n papers, each stratum in proportion (largest remainders) and at least one of each."""
    if n >= len(frame):
        return frame
    groups = frame.partition_by(*strata, maintain_order=True)
    exact = [len(group) * n / len(frame) for group in groups]
    sizes = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(groups)), key=lambda i: sizes[i] - exact[i])
    for i in by_remainder[: max(0, n - sum(sizes))]:
        sizes[i] += 1
    return pl.concat(first_ranked(g, size) for g, size in zip(groups, sizes, strict=True))


def first_ranked(frame: pl.DataFrame, n: int) -> pl.DataFrame:
    """Return the n papers that the draw ranks first."""
    ranks = pl.Series("rank", [rank(identifier) for identifier in frame["id"]])
    return frame.with_columns(ranks).sort("rank").drop("rank").head(n)


class Row(NamedTuple):
    """What a peer may read of a paper; ``year`` is 0 if it is unknown."""

    title: str
    abstract: str
    authors: tuple[str, ...] = ()
    year: int = 0


@dataclass(frozen=True)
class Papers:
    """A dataset folder with its manifest; splits are read when they are asked for."""

    folder: Path

    @property
    def manifest(self) -> DatasetManifest:
        """Return the manifest."""
        return load_manifest(self.folder, verify=False)

    def split(self, name: str) -> DatasetSplit:
        """Return the papers of a split."""
        return read_split(self.folder, name, self.manifest)

    def rows(self, name: str) -> list[Row]:
        """Return what a peer may read of the papers of a split."""
        split = self.split(name)
        authors = iter_authors(self.folder, name, self.manifest)
        fields = (split.titles, split.abstracts, authors, split.years.tolist())
        return [Row(*values) for values in zip(*fields, strict=True)]

    def texts(self, name: str) -> list[str]:
        """Return title and abstract of each paper of a split, a line each."""
        split = self.split(name)
        return [f"{t}\n{a}" for t, a in zip(split.titles, split.abstracts, strict=True)]


def build_dataset(splits: dict[str, pl.DataFrame], folder: Path, *options: str) -> Papers:
    """Write papers as a dataset with `classmark dataset build`, or return the existing one.

    Args:
        splits: frames in the columns of a dataset, by name of the split.
        folder: where the dataset goes.
        options: further options of the command.
    """
    if folder.is_dir():
        return Papers(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        source = Path(temporary)
        pl.concat(splits.values()).drop("period", strict=False).write_parquet(source / "p.parquet")
        command = [sys.executable, "-m", "classmark", "dataset", "build", source / "p.parquet"]
        for name in ("test", "valid"):
            (source / f"{name}-ids.txt").write_text("\n".join(splits[name]["id"]) + "\n")
            command += [f"--{name}-ids", source / f"{name}-ids.txt"]
        command += ["--split", "ids", "--min-papers", "1", "--output", folder, *options]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return Papers(folder)


def read_frames(dataset: Path) -> dict[str, pl.DataFrame]:
    """Return the splits of a dataset folder as they were written."""
    manifest = load_manifest(dataset)
    return {name: pl.read_parquet(dataset / manifest.splits[name].file) for name in SPLITS}


def draw_peers_dataset(dataset: Path, folder: Path, sizes: dict[str, int]) -> Papers:
    """Return the dataset of all peers: so many papers of each split, by period and category."""
    if folder.is_dir():
        return Papers(folder)
    drawn = {
        name: draw_stratified(frame, sizes[name], ("period", "category_code"))
        for name, frame in read_frames(dataset).items()
    }
    ends = [str(end) for end in load_manifest(dataset, verify=False).config["periods"]]
    space = load_manifest(dataset, verify=False).label_space
    return build_dataset(
        drawn, folder, "--labels", space, *(["--periods", ",".join(ends)] if ends else [])
    )


def draw_capped(frame: pl.DataFrame, cap: int, share: float) -> pl.DataFrame:
    """Return at most ``cap`` papers of each category, and at most that share of it."""
    groups = frame.partition_by("category_code", maintain_order=True)
    chosen = [first_ranked(group, min(cap, int(len(group) * share))) for group in groups]
    return pl.concat(chosen) if chosen else frame


def find_dataset(dataset: Path | None, data: Path | None, work: Path) -> Path:
    """Return a dataset folder: the one given, or the shipped model's, built from its sources.

    Raises:
        SystemExit: neither is given.
    """
    if dataset is not None:
        return dataset
    if data is None:
        sys.exit("there are no papers: give --data FOLDER (sources) or --dataset FOLDER (built)")
    folder = work / "whole"
    if not folder.is_dir():
        sources = [data / f"{name}.parquet" for name in SOURCES]
        command = [sys.executable, "-m", "classmark", "dataset", "build", *sources]
        for name in ("test", "valid"):
            command += [f"--{name}-ids", HOLDOUT / f"{name}-ids.txt"]
        command += ["--split", "ids", "--periods", "2017-12-31,2019-12-31", "--output", folder]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return folder


def build_five(dataset: Path, folder: Path) -> Papers:
    """Return the five most frequent categories of the oldest period, split 70/15/15."""
    if folder.is_dir():
        return Papers(folder)
    manifest = load_manifest(dataset, verify=False)
    whole = pl.concat(read_frames(dataset).values())
    if manifest.periods:
        whole = whole.filter(pl.col("period") == manifest.periods[0])
    counts = whole["category_code"].value_counts().sort("count", "category_code", descending=True)
    five = whole.filter(pl.col("category_code").is_in(counts["category_code"][:5].to_list()))
    splits: dict[str, list[pl.DataFrame]] = {name: [] for name in SPLITS}
    for group in five.partition_by("category_code", maintain_order=True):
        n = round(len(group) * FIVE_SHARE)
        ranked = first_ranked(group, len(group))
        splits["test"].append(ranked[:n])
        splits["valid"].append(ranked[n : 2 * n])
        splits["train"].append(ranked[2 * n :])
    frames = {name: pl.concat(parts) for name, parts in splits.items()}
    return build_dataset(frames, folder, "--labels", manifest.label_space)
