"""Write what travels to the GPU: papers as token ids, and an encoder in half precision.

    python prepare.py --dataset DIR --output DIR [--encoder packaged] [--max-length 256]

Needs classmark with ``[deep]``. No text leaves the machine. The papers of the training split are
shuffled once, so that each piece is a sample of all of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pieces import PIECE_BYTES, SPLITS, write_arrays, write_weights

from classmark.dataset import DatasetSplit, load_manifest, read_split
from classmark.errors import ClassmarkError
from classmark.kernels.tokens import TOKENS_VERSION, PairTokenizer
from classmark.storage import atomic_folder, sha256_file, write_json
from classmark.training.transformer.encoder import packaged_encoder

PIECE_TOKENS = 8_000_000
"""Tokens of a piece: 16 MB before compression, which halves them."""
CHUNK_PAPERS = 20_000
SEED = 7


def tokenise(
    split: DatasetSplit, rows: NDArray[np.intp], tokenizer: PairTokenizer
) -> Iterator[Any]:
    """Yield (token ids, title length) of some papers, in order."""
    for first in range(0, len(rows), CHUNK_PAPERS):
        chunk = rows[first : first + CHUNK_PAPERS]
        pairs = [(split.titles[row], split.abstracts[row]) for row in chunk]
        for encoded in tokenizer.encode(pairs):
            yield encoded.ids.astype(np.uint16), int((encoded.types == 0).sum())
        show(f"{min(first + CHUNK_PAPERS, len(rows)):,} of {len(rows):,} papers")


def other_listed(split: DatasetSplit, rows: NDArray[np.intp]) -> NDArray[np.int16]:
    """Return the listed labels but the primary one: int16 [n, most], filled up with -1."""
    others = []
    for row in rows:
        listed = split.listed_indices[split.listed_indptr[row] : split.listed_indptr[row + 1]]
        others.append(listed[listed != split.labels[row]])
    table = np.full((len(rows), max([1, *map(len, others)])), -1, dtype=np.int16)
    for i, columns in enumerate(others):
        table[i, : len(columns)] = columns
    return table


class PieceWriter:
    """Collects papers and writes a piece whenever it is full."""

    def __init__(self, folder: Path, name: str, columns: dict[str, NDArray[Any]]) -> None:
        self.files: list[str] = []
        self._folder, self._name, self._columns = folder, name, columns
        self._ids: list[NDArray[np.uint16]] = []
        self._titles: list[int] = []
        self._first = self._n_tokens = 0

    def add(self, ids: NDArray[np.uint16], title_length: int) -> None:
        """Add the next paper."""
        self._ids.append(ids)
        self._titles.append(title_length)
        self._n_tokens += len(ids)
        if self._n_tokens >= PIECE_TOKENS:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        if not self._ids:
            return
        rows = slice(self._first, self._first + len(self._ids))
        path = self._folder / f"{self._name}-{len(self.files):02d}.npz.xz"
        lengths = np.array([len(ids) for ids in self._ids], dtype=np.int16)
        arrays = {
            "tokens": np.concatenate(self._ids),
            "lengths": lengths,
            "title_lengths": np.array(self._titles, dtype=np.int16),
            **{key: values[rows] for key, values in self._columns.items()},
        }
        write_arrays(path, arrays)
        if path.stat().st_size > PIECE_BYTES:
            raise SystemExit(f"{path.name} has {path.stat().st_size:,} bytes. Lower PIECE_TOKENS.")
        self.files.append(path.name)
        self._first += len(self._ids)
        self._ids, self._titles, self._n_tokens = [], [], 0


def write_split(
    folder: Path, name: str, split: DatasetSplit, tokenizer: PairTokenizer, periods: list[str]
) -> dict[str, Any]:
    """Write a split in pieces; return what ``meta.json`` says of it."""
    rows = np.arange(len(split))
    if name == "train":
        np.random.default_rng(SEED).shuffle(rows)
    period_of = {period: i for i, period in enumerate(periods)}
    columns: dict[str, NDArray[Any]] = {
        "labels": split.labels[rows],
        "listed": other_listed(split, rows),
        "periods": np.array([period_of[split.periods[row]] for row in rows], dtype=np.int8),
    }
    writer = PieceWriter(folder, name, columns)
    for ids, title_length in tokenise(split, rows, tokenizer):
        writer.add(ids, title_length)
    writer.flush()
    return {"papers": len(split), "files": writer.files}


def prepare(dataset: Path, encoder: Path, output: Path, max_length: int) -> None:
    """Write the folder that ``job.py`` reads; it is whole, or it is not there."""
    from transformers import AutoModel

    manifest = load_manifest(dataset)
    tokenizer = PairTokenizer(encoder / "tokenizer.json", max_length)
    periods = [*manifest.periods] or [""]
    with atomic_folder(output, overwrite=True) as folder:
        splits = {
            name: write_split(folder, name, read_split(dataset, name, manifest), tokenizer, periods)
            for name in SPLITS
        }
        write_weights(folder, AutoModel.from_pretrained(encoder).state_dict())
        for file in ("config.json", "tokenizer.json"):
            shutil.copyfile(encoder / file, folder / file)
        meta = {
            "labels": list(manifest.labels),
            "periods": periods,
            "dataset_digest": manifest.digest,
            "encoder": "packaged" if encoder == packaged_encoder() else encoder.name,
            "tokens": TOKENS_VERSION,
            "max_length": max_length,
            "splits": splits,
            "digests": {path.name: sha256_file(path) for path in sorted(folder.iterdir())},
        }
        write_json(folder / "meta.json", meta)


def show(text: str) -> None:
    """Print how far it is, on stderr."""
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """Prepare what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="folder of `dataset build`")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--encoder", default="packaged", help="`packaged`, or a folder")
    parser.add_argument("--max-length", type=int, default=256, help="maximum tokens of a paper")
    given = parser.parse_args()
    encoder = packaged_encoder() if given.encoder == "packaged" else Path(given.encoder)
    try:
        prepare(given.dataset, encoder, given.output, given.max_length)
    except ClassmarkError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
