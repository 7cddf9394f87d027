"""JSON of answers from arrays: the bytes that encoding each ``Answer`` gives, without making it.

An object is a row of pieces: texts that are encoded once for a model, and numbers and identifiers
that are encoded once for a batch. Arrays say which pieces follow each other. A test holds the bytes
to those of ``to_json``; a new field of ``Answer`` is a field of ``extra`` and needs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from msgspec.structs import fields
from numpy.typing import NDArray

from classmark.runtime.decisions import ACCEPTED, REASONS, Decisions, Floats, why_no_set
from classmark.runtime.levels import likely_levels
from classmark.wire import Answer, ModelRef, Ranked, Reliability, to_json

Ints = NDArray[np.intp]
Segment = tuple[Ints | int, Ints]
"""Of each paper some pieces: how many (for all papers, or for each), and which."""

_FIELDS = tuple(f.name for f in fields(Answer))
_DEFAULTS = {f.name: f.default for f in fields(Answer)}
_BEFORE_MODEL = frozenset(_FIELDS[: _FIELDS.index("model")])


class Pieces:
    """Encoded texts, each at a number."""

    def __init__(self, texts: Iterable[bytes] = ()) -> None:
        self.texts = list(texts)

    def add(self, texts: Iterable[bytes]) -> int:
        """Add texts, and return the number of the first."""
        first = len(self.texts)
        self.texts += texts
        return first


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the answers of one model have in common.

    Attributes:
        labels: k codes.
        names: k names.
        reliability: how each label fared on test papers; None if it was not measured.
        archives: a codes.
        groups: g codes.
        model: who answers.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    reliability: tuple[Reliability | None, ...]
    archives: tuple[str, ...]
    groups: tuple[str, ...]
    model: ModelRef

    def ranked(self, columns: Iterable[int], values: Iterable[float]) -> tuple[Ranked, ...]:
        """Return labels with their probabilities; there may be more values than labels."""
        labels, names, measured = self.labels, self.names, self.reliability
        pairs = zip(columns, values, strict=False)
        return tuple([Ranked(labels[i], names[i], p, measured[i]) for i, p in pairs])

    @cached_property
    def fragments(self) -> Fragments:
        """The pieces of its JSON that never change."""
        return Fragments(self)


class Fragments:
    """Pieces that all answers of a model are made of; each attribute is the number of the first.

    Of those with a separator, the first ones begin a list, and as many that follow continue it.
    """

    def __init__(self, form: Form) -> None:
        pieces = Pieces()
        codes = [to_json(label) for label in form.labels]
        why = b',"reason":"%s","probability":'
        self.accepted = pieces.add(
            b',"primary":' + code + why % REASONS[ACCEPTED].encode() for code in codes
        )
        self.refused = pieces.add(b',"primary":null' + why % reason.encode() for reason in REASONS)
        heads = [
            b'{"code":%s,"name":%s,"probability":' % (code, to_json(name))
            for code, name in zip(codes, form.names, strict=True)
        ]
        self.ranked = pieces.add([*_after(b',"ranked":[', heads), *_after(b",", heads)])
        self.reliability = pieces.add(
            b',"reliability":%s}' % to_json(measured) for measured in form.reliability
        )
        self.codes = pieces.add([*codes, *_after(b",", codes)])
        self.cross_lists = pieces.add([b'],"cross_lists":['])
        no_set = [
            b'],"set":null,"set_reason":"%s"' % why_no_set(i).encode() for i in range(len(REASONS))
        ]
        self.set = pieces.add([b'],"set":[', *no_set])
        self.levels = pieces.add([b'],"levels":{"archive":[', b',"levels":{"archive":['])
        self.archives = pieces.add(_levels(form.archives))
        self.between = pieces.add([b'],"group":[', b'}],"group":['])
        self.groups = pieces.add(_levels(form.groups))
        model = b',"model":' + to_json(form.model)
        self.ends = pieces.add([b"]}", b"}]}"])
        self.model = pieces.add([model])
        self.closing = pieces.add([b"}"])
        self.texts = pieces.texts


def json_of(
    form: Form,
    decisions: Decisions,
    ids: Sequence[str | None],
    top: int,
    extra: Mapping[str, Sequence[Any]],
) -> list[bytes]:
    """Return the JSON object of each of n answers.

    Args:
        form: what they have in common.
        decisions: on n papers.
        ids: of the papers.
        top: how many categories to rank, at most k.
        extra: further fields of ``Answer``, n values each.
    """
    f, d, n = form.fragments, decisions, len(ids)
    archives, groups = likely_levels(d.archives), likely_levels(d.groups)
    pieces = Pieces(f.texts)
    first_id = pieces.add(b'{"id":' + to_json(id) for id in ids)
    rows, firsts = np.arange(n), d.starts[:-1]
    named, of_archives, of_groups = _add_numbers(pieces, d.falling, archives[2], groups[2])
    shown = d.ranked(top)
    columns, numbers = d.columns[shown], named + shown
    heads = columns + f.ranked
    heads[:, 1:] += len(form.labels)
    ranked = np.stack([heads, numbers, columns + f.reliability], axis=2)
    reason = d.reasons.astype(np.intp)
    reasons = np.where(d.accepted, f.accepted + d.first, f.refused + reason)
    segments: list[Segment] = [
        (1, first_id + rows),
        (1, reasons),
        (1, named + firsts),
        (3 * top, ranked.ravel()),
        (1, np.full(n, f.cross_lists)),
        _codes(f.codes, len(form.labels), *d.selected(d.cross_listed)),
        (1, np.where(d.has_set, f.set, f.set + 1 + reason)),
        _codes(f.codes, len(form.labels), *d.selected(d.published_set)),
        (1, np.where(d.has_set, f.levels, f.levels + 1)),
        _level_segment(f.archives, len(form.archives), of_archives, archives),
        (1, f.between + (archives[0] > 0)),
        _level_segment(f.groups, len(form.groups), of_groups, groups),
        (1, f.ends + (groups[0] > 0)),
        *_extra(pieces, extra, n, before_model=True),
        (1, np.full(n, f.model)),
        *_extra(pieces, extra, n, before_model=False),
        (1, np.full(n, f.closing)),
    ]
    return _joined(pieces.texts, segments, n)


def _after(separator: bytes, texts: Iterable[bytes]) -> list[bytes]:
    return [separator + text for text in texts]


def _levels(codes: Iterable[str]) -> list[bytes]:
    texts = [b'{"code":%s,"probability":' % to_json(code) for code in codes]
    return [*texts, *_after(b"},", texts)]


def _add_numbers(pieces: Pieces, *numbers: Floats) -> list[int]:
    """Add arrays of numbers, and return where the pieces of each begin."""
    flat = np.concatenate(numbers).tolist()
    first = pieces.add(to_json(flat)[1:-1].split(b",") if flat else ())
    return [first + sum(map(len, numbers[:i])) for i in range(len(numbers))]


def _is_first(counts: Ints, m: int) -> NDArray[np.bool_]:
    """Return which of m items, row after row, are the first ones of their rows."""
    is_first = np.zeros(m, dtype=np.bool_)
    is_first[(np.cumsum(counts) - counts)[counts > 0]] = True
    return is_first


def _codes(first: int, k: int, columns: Ints, ends: Ints) -> Segment:
    counts = np.diff(ends, prepend=0)
    return counts, columns + np.where(_is_first(counts, len(columns)), first, first + k)


def _level_segment(
    first: int, k: int, first_number: int, levels: tuple[Ints, Ints, Floats]
) -> Segment:
    counts, columns, falling = levels
    heads = columns + np.where(_is_first(counts, len(columns)), first, first + k)
    return 2 * counts, np.stack([heads, first_number + np.arange(len(falling))], axis=1).ravel()


def _extra(
    pieces: Pieces, extra: Mapping[str, Sequence[Any]], n: int, *, before_model: bool
) -> Iterable[Segment]:
    """Yield the fields that not all answers have, in their order, left out where they have none."""
    for name in _FIELDS:
        if name in extra and (name in _BEFORE_MODEL) == before_model:
            key, default = b',"%s":' % name.encode(), _DEFAULTS[name]
            once: dict[int, bytes] = {}  # most papers share one object
            for value in extra[name]:
                if id(value) not in once:
                    once[id(value)] = b"" if value == default else key + to_json(value)
            first = pieces.add(once[id(value)] for value in extra[name])
            yield 1, first + np.arange(n)


def _joined(texts: list[bytes], segments: Sequence[Segment], n: int) -> list[bytes]:
    """Return n rows: of each the pieces of the segments, one segment after the other."""
    sizes = np.zeros(n, dtype=np.intp)
    for counts, _ in segments:
        sizes += counts
    ends = np.cumsum(sizes)
    order = np.empty(int(sizes.sum()), dtype=np.intp)
    at = ends - sizes
    for counts, numbers in segments:
        if isinstance(counts, int):
            order[(at[:, None] + np.arange(counts)).ravel()] = numbers
        else:
            order[np.repeat(at - np.cumsum(counts) + counts, counts) + np.arange(len(numbers))] = (
                numbers
            )
        at = at + counts
    row = [texts[i] for i in order.tolist()]
    bounds = ends.tolist()
    return [b"".join(row[a:b]) for a, b in zip([0, *bounds], bounds, strict=False)]
