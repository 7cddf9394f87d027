"""Raw scores of many papers with their truth: what evaluation reads instead of a model."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidScores
from classmark.wire import ModelRef

FORMAT_VERSION = 1
UNKNOWN = -1
# What numpy, zipfile, zlib and json raise on a file that is cut off, changed, or another format; of
# memory there is too little where a header claims more numbers than there are.
_DAMAGED = (
    MemoryError,
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores of n papers over k labels, and what is known of each paper.

    Attributes:
        labels: k codes, the columns of ``scores``.
        ids: n identifiers.
        scores: float32 [n, k], uncalibrated logits.
        primary: int16 [n], column of the true label, -1 if it is unknown or not a column.
        listed: bool [n, k], every category the paper is listed in (primary included).
        listed_count: int16 [n], how many categories it is listed in, columns or not.
        years: int16 [n], year of the first version, 0 if unknown.
        periods: n names of the period (e.g. ``2018-19``), "" if there is none.
        known_share: float32 [n], share of the text's terms that the model knows, 0..1.
        temperature: softmax(scores / temperature) is the calibrated probability.
        set_threshold: a label is in the prediction set if its probability reaches this.
        set_coverage: coverage the sets were built for, 0..1.
        thresholds: k probabilities in label order; below its own, the top label is not accepted.
            Empty if the model has none.
        model: who scored.
        dataset_digest: digest of the dataset manifest, "" if there is none.
        split: name of the split, "" if there is none.
        used_authors: bool [n], for which papers authors were used; None if for none.
        author_set_threshold: ``set_threshold`` of these papers; None if it is the same.
        generated: the papers were invented by the sample generator; reports must say so.
    """

    labels: tuple[str, ...]
    ids: tuple[str, ...]
    scores: NDArray[np.float32]
    primary: NDArray[np.int16]
    listed: NDArray[np.bool_]
    listed_count: NDArray[np.int16]
    years: NDArray[np.int16]
    periods: tuple[str, ...]
    known_share: NDArray[np.float32]
    temperature: float = 1.0
    set_threshold: float = 0.0
    set_coverage: float = 0.9
    thresholds: tuple[float, ...] = ()
    model: ModelRef = field(default_factory=lambda: ModelRef("unnamed", "0", ""))
    dataset_digest: str = ""
    split: str = ""
    generated: bool = False
    used_authors: NDArray[np.bool_] | None = None
    author_set_threshold: float | None = None

    def __post_init__(self) -> None:
        n, k = len(self.ids), len(self.labels)
        shapes = {
            "scores": (self.scores.shape, (n, k)),
            "primary": (self.primary.shape, (n,)),
            "listed": (self.listed.shape, (n, k)),
            "listed_count": (self.listed_count.shape, (n,)),
            "years": (self.years.shape, (n,)),
            "periods": ((len(self.periods),), (n,)),
            "known_share": (self.known_share.shape, (n,)),
            "thresholds": ((len(self.thresholds) or k,), (k,)),
        }
        if self.used_authors is not None:
            shapes["used_authors"] = (self.used_authors.shape, (n,))
        for name, (seen, wanted) in shapes.items():
            if seen != wanted:
                raise InvalidScores(
                    f"score table: {name} has shape {seen}, expected {wanted} "
                    f"for {n} papers and {k} labels"
                )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def set_thresholds(self) -> NDArray[np.float64]:
        """Return the probability from which a label is in each paper's set: float64 [n]."""
        thresholds = np.full(len(self), self.set_threshold, dtype=np.float64)
        if self.used_authors is not None and self.author_set_threshold is not None:
            thresholds[self.used_authors] = self.author_set_threshold
        return thresholds

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> ScoreTable:
        """Return the table of some rows: a mask [n] or indices, in that order."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        values = {**self.__dict__}
        for name in ("scores", "primary", "listed", "listed_count", "years", "known_share"):
            values[name] = values[name][index]
        if self.used_authors is not None:
            values["used_authors"] = self.used_authors[index]
        values["ids"] = tuple(self.ids[i] for i in index)
        values["periods"] = tuple(self.periods[i] for i in index)
        return ScoreTable(**values)

    def to_bytes(self) -> bytes:
        """Serialise as an ``.npz`` of plain arrays (no pickle) with its metadata as JSON."""
        meta = {
            "format_version": FORMAT_VERSION,
            "temperature": self.temperature,
            "set_threshold": self.set_threshold,
            "set_coverage": self.set_coverage,
            "thresholds": self.thresholds,
            "model": self.model.to_dict(),
            "dataset_digest": self.dataset_digest,
            "split": self.split,
            "generated": self.generated,
        }
        extra: dict[str, Any] = {}
        if self.used_authors is not None:
            meta["author_set_threshold"] = self.author_set_threshold
            extra["used_authors"] = self.used_authors
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            meta=np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8),
            scores=self.scores,
            primary=self.primary,
            listed=np.packbits(self.listed, axis=1),
            listed_count=self.listed_count,
            years=self.years,
            known_share=self.known_share,
            labels=_pack_texts(self.labels),
            ids=_pack_texts(self.ids),
            periods=_pack_texts(self.periods),
            **extra,
        )
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> ScoreTable:
        """Read a table that was written with ``to_bytes``.

        Raises:
            InvalidScores: the file is missing, damaged, or of another format version.
        """
        try:
            # numpy leaves a file open that it opened itself and cannot read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                table = cls._from_arrays({name: arrays[name] for name in arrays.files})
        except FileNotFoundError as error:
            raise InvalidScores(
                f"no score table at {path}. Write one with `evaluate --model`."
            ) from error
        except _DAMAGED as error:
            is_npz = zipfile.is_zipfile(path)
            reason = (
                "it is a folder" if path.is_dir() else error if is_npz else "no whole .npz file"
            )
            raise InvalidScores(
                f"{path} is not a readable score table ({reason}). Write one with "
                "`evaluate --model`, --dataset and --write-scores."
            ) from error
        problem = next(table._problems(), None)
        if problem is not None:
            raise InvalidScores(
                f"{path} is not a sound score table: {problem}. Write it again with "
                "`evaluate --model`."
            )
        return table

    def _problems(self) -> Iterator[str]:
        """Yield what evaluation could not count with, or would count wrongly."""
        k = len(self.labels)
        if len(set(self.labels)) != k:
            yield f"only {len(set(self.labels))} of its {k} labels are different"
        if len(self) and not UNKNOWN <= self.primary.min() <= self.primary.max() < k:
            yield (
                f"primary has columns from {self.primary.min()} to {self.primary.max()}, there are "
                f"{k} labels"
            )
        if not (np.isfinite(self.scores).all() and np.isfinite(self.known_share).all()):
            yield "it has scores that are not finite numbers"
        own = () if self.author_set_threshold is None else (self.author_set_threshold,)
        numbers = (self.temperature, self.set_threshold, self.set_coverage, *own, *self.thresholds)
        if not all(type(v) in (int, float) and 0 <= v < math.inf for v in numbers):
            yield f"temperature, thresholds and coverage are {numbers[:3]}, not numbers from 0"
        if not self.temperature > 0:
            yield f"its temperature is {self.temperature}, it must be above 0"

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> ScoreTable:
        meta = json.loads(arrays["meta"].tobytes())
        meta["thresholds"] = tuple(meta.get("thresholds", ()))
        if meta.pop("format_version") != FORMAT_VERSION:
            raise ValueError(f"format version is not {FORMAT_VERSION}")
        labels = _unpack_texts(arrays["labels"])
        listed = np.unpackbits(arrays["listed"].astype(np.uint8), axis=1, count=len(labels))
        used = arrays.get("used_authors")
        return cls(
            labels=labels,
            ids=_unpack_texts(arrays["ids"]),
            periods=_unpack_texts(arrays["periods"]),
            scores=arrays["scores"].astype(np.float32),
            primary=arrays["primary"].astype(np.int16),
            listed=listed.astype(np.bool_),
            listed_count=arrays["listed_count"].astype(np.int16),
            years=arrays["years"].astype(np.int16),
            known_share=arrays["known_share"].astype(np.float32),
            used_authors=None if used is None else used.astype(np.bool_),
            **{**meta, "model": ModelRef(**meta["model"])},
        )


def _pack_texts(texts: tuple[str, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(texts, ensure_ascii=False).encode(), np.uint8)


def _unpack_texts(packed: NDArray[np.generic]) -> tuple[str, ...]:
    return tuple(json.loads(packed.tobytes()))
