"""The fast tier: a linear model over hashed terms, in integers from the text to the logits.

A known feature has a step and a row of 128 two-bit numbers, which stand for -3, -1, 1 and 3 half
steps. The hidden vector is the sum of the rows, each weighted by its step and 1 + log(count), over
the root of the summed squares of 1 + log(count). A head of 128 x k gives the logits. All sums are
of integers, hence exact in any order: the numpy path and the C kernel give the same bits on every
platform.

A feature finds its slot by a perfect hash: ``displacements`` sends each bucket of keys to free
slots (Belazzougui et al. 2009, "Hash, displace, and compress"); ``fingerprints`` exposes others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle
from classmark.bundle.check import shown
from classmark.errors import BundleIncompatible
from classmark.kernels.calibration import CalibrationCurve
from classmark.kernels.checks import MOST_SCALE, BundleReader
from classmark.kernels.explanation import BIAS, EXACT_LINEAR
from classmark.kernels.featuriser import (
    FEATURISER_VERSION,
    KERNEL,
    Folded,
    fold_all,
    keys_in_numpy,
    terms,
)
from classmark.kernels.scorer import RawScores

DIM = 128
ROW_BITS = 2
ROW_BYTES = DIM * ROW_BITS // 8
MAX_COUNT = 16
MAX_WEIGHT = 8191
MAX_NORM = 1 << 20
LEAST_SCALE = 1e-30
N_SCALES = 256
NORM_UNIT = 1024
NUMPY_BATCH = 128  # papers whose rows fit into the second-level cache
HIDDEN_LIMIT = 8191
MOST_HALF_STEPS = 3
ROUNDING = "(rounding)"
_SLOT_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_EXACT_FLOAT32 = 1 << 24
_LOW_32 = np.uint64(0xFFFFFFFF)


def count_weights() -> NDArray[np.float64]:
    """Return 1 + log(count) for counts 1..16: float64 [16]; greater counts weigh as 16."""
    return 1.0 + np.log(np.arange(1, MAX_COUNT + 1, dtype=np.float64))


def fingerprint(keys: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return the 16 bits that a slot keeps of its key; 0 is a slot without one."""
    low = keys.astype(np.uint16)
    return np.where(low == 0, np.uint16(1), low)


def bucket_of(keys: NDArray[np.uint64], n_buckets: int) -> NDArray[np.intp]:
    """Return the bucket of each key, 0 .. n_buckets - 1."""
    return (((keys >> np.uint64(32)) * np.uint64(n_buckets)) >> np.uint64(32)).astype(np.intp)


def slot_of(
    keys: NDArray[np.uint64], displacement: NDArray[np.uint16], n_slots: int
) -> NDArray[np.intp]:
    """Return the slot of each key, given the displacement of its bucket."""
    g = keys * _SLOT_FACTOR
    step = (g & _LOW_32) | np.uint64(1)
    place = ((g >> np.uint64(32)) + displacement.astype(np.uint64) * step) & _LOW_32
    return ((place * np.uint64(n_slots)) >> np.uint64(32)).astype(np.intp)


@dataclass(frozen=True, eq=False)
class LinearArrays:
    """The arrays of a fast bundle, for s slots, b buckets and k labels.

    Attributes:
        displacements: uint16 [b].
        fingerprints: uint16 [s], 0 for a free slot.
        rows: uint8 [s, 32], (half steps + 3) / 2: dims 4 j to 4 j + 3 in byte j, the first in its
            lowest two bits.
        scale_codes: uint8 [s].
        weights: int16 [16, 256], multiplier of a count and a scale code, at most 8191.
        norms: int32 [16], squared weight of a count, in 1/1024.
        head: int16 [k, 128].
        bias: float64 [k], logits.
        hidden_scale: hidden = round(sum of rows * hidden_scale / sqrt(sum of norms)).
        logit_scale: logits = hidden . head * logit_scale + bias.
        curve: from logits to scores; None leaves them.
    """

    displacements: NDArray[np.uint16]
    fingerprints: NDArray[np.uint16]
    rows: NDArray[np.uint8]
    scale_codes: NDArray[np.uint8]
    weights: NDArray[np.int16]
    norms: NDArray[np.int32]
    head: NDArray[np.int16]
    bias: NDArray[np.float64]
    hidden_scale: float
    logit_scale: float
    curve: CalibrationCurve | None = None

    ARRAYS = (
        "displacements",
        "fingerprints",
        "rows",
        "scale_codes",
        "weights",
        "norms",
        "head",
        "bias",
    )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a bundle keeps as arrays, by name."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    def parameters(self) -> dict[str, Any]:
        """Return what a bundle keeps in its manifest."""
        return {
            "row_bits": ROW_BITS,
            "hidden_scale": self.hidden_scale,
            "logit_scale": self.logit_scale,
            "curve": asdict(self.curve) if self.curve else None,
        }


class LinearScorer:
    """Scores papers with the arrays of a fast bundle; may be shared by threads."""

    explanation_method = EXACT_LINEAR

    def __init__(self, arrays: LinearArrays, *, use_kernel: bool = True) -> None:
        self._arrays = arrays
        self._kernel: Any = KERNEL if use_kernel else None

    @property
    def kernel(self) -> str:
        """Name of the code path: ``numpy``, ``c`` or ``c-avx2``."""
        return "numpy" if self._kernel is None else str(self._kernel.variant())

    def in_numpy(self) -> LinearScorer:
        """Return a scorer of the same arrays that leaves the C kernel out: the reference."""
        return LinearScorer(self._arrays, use_kernel=False)

    @cached_property
    def _hidden_scorer(self) -> LinearScorer:
        """The same sums with a head that changes nothing, so that its logits are the vector."""
        a = self._arrays
        unchanged = replace(
            a, head=np.eye(DIM, dtype=np.int16), bias=np.zeros(DIM), logit_scale=1.0, curve=None
        )
        return LinearScorer(unchanged, use_kernel=self._kernel is not None)

    def vectors(self, papers: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the hidden vectors of raw (title, abstract) pairs, float32 [n, 128].

        The numbers are whole. A text without a known term gives zeros.
        """
        return self._hidden_scorer.score(papers).scores

    @staticmethod
    def best_kernel() -> str:
        """Name of the code path that a new scorer, and a fit, take here."""
        return "numpy" if KERNEL is None else str(KERNEL.variant())

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        """Return the logits and known-word shares of raw (title, abstract) pairs."""
        raw = self._logits(papers)
        if self._arrays.curve is None:
            return raw
        return RawScores(self._arrays.curve.apply(raw.scores), raw.known_share)

    def contributions(
        self, title: str, abstract: str, top: int, other: int
    ) -> list[tuple[str, float]]:
        """Return what each term adds to ``score[top] - score[other]``; they sum to it.

        A term's entry holds its share of the title too. The curve stretches all of a paper's terms
        alike. What rounding to integers changes is listed as ``(rounding)``.
        """
        a = self._arrays
        spelled, keys = _columns(terms(title, abstract))
        slots, known = self._look_up(keys)
        unique, inverse, counts = np.unique(slots[known], return_inverse=True, return_counts=True)
        capped = np.minimum(counts, MAX_COUNT) - 1
        weight = a.weights[capped, a.scale_codes[unique]].astype(np.float64)
        scale = a.hidden_scale / np.sqrt(max(1, a.norms[capped].sum()))
        direction = (a.head[top].astype(np.float64) - a.head[other]) * a.logit_scale
        added = (_unpack(a.rows, unique) @ direction) * weight * scale
        by_term: dict[str, float] = {}
        for term, feature in zip(np.array(spelled, dtype=object)[known], inverse, strict=True):
            by_term[term] = by_term.get(term, 0.0) + added[feature] / counts[feature]
        logits = self._logits([(title, abstract)]).scores[0].astype(np.float64)
        scores = self.score([(title, abstract)]).scores[0].astype(np.float64)
        raw, wanted = logits[top] - logits[other], float(scores[top] - scores[other])
        stretch = wanted / raw if raw else 1.0
        by_term = {term: weight * stretch for term, weight in by_term.items()}
        bias = float(a.bias[top] - a.bias[other]) * stretch
        rounding = wanted - bias - sum(by_term.values())
        return [*by_term.items(), (ROUNDING, rounding), (BIAS, bias)]

    def _logits(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        if self._kernel is not None:
            return self._score_in_c(fold_all(papers))
        starts = range(0, max(1, len(papers)), NUMPY_BATCH)
        parts = [self._score_in_numpy(fold_all(papers[i : i + NUMPY_BATCH])) for i in starts]
        return RawScores(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.known_share for part in parts]),
        )

    def _score_in_c(self, folded: Folded) -> RawScores:
        a = self._arrays
        scores = np.empty((len(folded), len(a.bias)), dtype=np.float32)
        known_share = np.empty(len(folded), dtype=np.float32)
        self._kernel.score(
            folded.buffer,
            folded.offsets,
            *a.arrays().values(),
            scores,
            known_share,
            a.hidden_scale,
            a.logit_scale,
        )
        return RawScores(scores, known_share)

    def _score_in_numpy(self, folded: Folded) -> RawScores:
        a = self._arrays
        keys = keys_in_numpy(folded)
        slots, known = self._look_up(keys.key)
        n = len(folded)
        words = np.bincount(keys.text[keys.is_word], minlength=n)
        known_words = np.bincount(keys.text[keys.is_word & known], minlength=n)
        share = known_words / np.maximum(words, 1)
        owner, slot, count = _count(keys.text[known], slots[known], len(a.fingerprints))
        sums, norms = self._sum_rows(owner, slot, count, n)
        scale = np.where(norms > 0, a.hidden_scale / np.sqrt(np.maximum(norms, 1)), 0.0)
        hidden = np.rint(np.clip(sums * scale[:, None], -HIDDEN_LIMIT, HIDDEN_LIMIT))
        logits = (hidden @ a.head.T.astype(np.float64)) * a.logit_scale + a.bias
        return RawScores(logits.astype(np.float32), share.astype(np.float32))

    def _look_up(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        a = self._arrays
        displacement = a.displacements[bucket_of(keys, len(a.displacements))]
        slots = slot_of(keys, displacement, len(a.fingerprints))
        return slots, a.fingerprints[slots] == fingerprint(keys)

    def _sum_rows(
        self, owner: NDArray[np.intp], slot: NDArray[np.intp], count: NDArray[np.intp], n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        a = self._arrays
        capped = np.minimum(count, MAX_COUNT) - 1
        multiplier = a.weights.ravel().take(capped * N_SCALES + a.scale_codes.take(slot))
        weight = multiplier.astype(np.float32)
        norms = np.bincount(owner, a.norms.take(capped), minlength=n).astype(np.int64)
        totals = np.bincount(owner, weight, minlength=n)
        starts = np.searchsorted(owner, np.arange(n + 1)).tolist()
        half_steps = _unpack(a.rows, slot)
        sums = np.empty((n, DIM), dtype=np.float64)
        for i, (first, end) in enumerate(pairwise(starts)):
            part = weight[first:end]
            if totals[i] * MOST_HALF_STEPS >= _EXACT_FLOAT32:
                part = part.astype(np.float64)
            sums[i] = part.dot(half_steps[first:end])
        return sums, norms


def load_scorer(bundle: Bundle) -> LinearScorer:
    """Return the scorer of a bundle of kind ``linear``.

    Raises:
        BundleIncompatible: it was made for another featuriser, or its arrays or parameters are not
            what the kernel can count with.
    """
    manifest = bundle.manifest
    if manifest.featuriser != FEATURISER_VERSION:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} needs featuriser {manifest.featuriser!r}, "
            f"this classmark has {FEATURISER_VERSION!r}. Install the classmark that it was made "
            "for, or train and export it again."
        )
    row_bits = manifest.parameters.get("row_bits")
    if row_bits != ROW_BITS:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} has rows of {shown(row_bits or 4)} bits, "
            f"this classmark reads {ROW_BITS}. Install the classmark that it was made for, or "
            "train and export it again."
        )
    return LinearScorer(_read_arrays(BundleReader(bundle), len(manifest.labels)))


def _read_arrays(bundle: BundleReader, k: int) -> LinearArrays:
    """Return the arrays of a bundle of k labels, after checking all that the sums rely on.

    Rows, fingerprints, displacements and codes may hold anything: every value has a meaning.
    """
    bundle.keys("row_bits", "hidden_scale", "logit_scale", "curve")
    fingerprints = bundle.array("fingerprints", np.uint16, (None,))
    s = len(fingerprints)
    arrays = LinearArrays(
        displacements=bundle.array("displacements", np.uint16, (None,)),
        fingerprints=fingerprints,
        rows=bundle.array("rows", np.uint8, (s, ROW_BYTES)),
        scale_codes=bundle.array("scale_codes", np.uint8, (s,)),
        weights=bundle.array("weights", np.int16, (MAX_COUNT, N_SCALES)),
        norms=bundle.array("norms", np.int32, (MAX_COUNT,)),
        head=bundle.array("head", np.int16, (k, DIM)),
        bias=bundle.array("bias", np.float64, (k,)),
        hidden_scale=bundle.number("hidden_scale", LEAST_SCALE, MOST_SCALE),
        logit_scale=bundle.number("logit_scale", LEAST_SCALE, MOST_SCALE),
        curve=bundle.curve(),
    )
    bundle.array_within("weights", arrays.weights, 0, MAX_WEIGHT)
    bundle.array_within("norms", arrays.norms, 1, MAX_NORM)
    bundle.array_within("bias", arrays.bias, -MOST_SCALE, MOST_SCALE)
    reach = int(np.abs(arrays.head.astype(np.int64)).sum(axis=1).max()) * HIDDEN_LIMIT
    if reach >= 1 << 31:
        bundle.refuse(f"has an array head whose sums reach {reach:,}, more than 32 bits hold")
    if reach * arrays.logit_scale > MOST_SCALE:
        bundle.refuse(
            f"has logits that reach {reach * arrays.logit_scale:g}, more than {MOST_SCALE:g}"
        )
    return arrays


def _columns(pairs: list[tuple[str, int]]) -> tuple[list[str], NDArray[np.uint64]]:
    return [term for term, _ in pairs], np.array([key for _, key in pairs], dtype=np.uint64)


def _count(
    owner: NDArray[np.int64], slot: NDArray[np.intp], n_slots: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return (owner, slot, count) of each distinct feature of each text, sorted by owner."""
    if not len(owner):
        return owner, slot, slot
    # NUMPY_BATCH texts, so that 32 bits nearly always do: they sort twice as fast as 64.
    width = np.uint32 if (int(owner[-1]) + 1) * n_slots < 1 << 32 else np.uint64
    pair = np.sort((owner * n_slots + slot).astype(width))
    first = np.flatnonzero(np.concatenate(([True], pair[1:] != pair[:-1])))
    counts = np.diff(np.append(first, len(pair)))
    owners, slots = np.divmod(pair[first], width(n_slots))
    return owners.astype(np.intp), slots.astype(np.intp), counts


def _unpack(rows: NDArray[np.uint8], slots: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the half steps of some rows: float32 [len(slots), 128], -3, -1, 1 or 3."""
    # Rows are fetched as words of 8 bytes, and a byte's four numbers as one of 16: that is faster.
    packed = rows.view(np.uint64).take(slots, axis=0).view(np.uint8)
    return _numbers_of_bytes().take(packed).view(np.float32)


@cache
def _numbers_of_bytes() -> NDArray[np.complex128]:
    """Return the four float32 half steps that each byte of a row holds, as one item: [256]."""
    shifts = np.arange(0, 8, ROW_BITS, dtype=np.uint8)
    numbers = (np.arange(256, dtype=np.uint8)[:, None] >> shifts) & MOST_HALF_STEPS
    half_steps = 2 * numbers.astype(np.float32) - MOST_HALF_STEPS
    return half_steps.view(np.complex128).ravel()
