"""Lists of answers over arrays: an ``Answer`` is made when it is asked for, JSON without any."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Generic, TypeVar, overload

from msgspec.structs import replace

from classmark.records import BadRecord
from classmark.runtime.decisions import ACCEPTED, REASONS, Decisions
from classmark.runtime.levels import levels_of
from classmark.runtime.lines import Form, json_of
from classmark.wire import Answer, Levels, to_json

Result = TypeVar("Result", bound="Answer | BadRecord", covariant=True)


@dataclass(frozen=True, eq=False)
class Part:
    """The answers to the papers of one batch.

    Attributes:
        form: what the answers of the model have in common.
        decisions: on n papers.
        ids: of the papers.
        top: how many categories to rank, at most k.
        extra: further fields of ``Answer``, n values each.
    """

    form: Form
    decisions: Decisions
    ids: Sequence[str | None]
    top: int
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def with_extra(self, extra: Mapping[str, Sequence[Any]]) -> Part:
        """Return the same answers with further fields."""
        return Part(self.form, self.decisions, self.ids, self.top, {**self.extra, **extra})

    @cached_property
    def answers(self) -> list[Answer]:
        """The answers, made once."""
        answers = list(self._made())
        names = tuple(self.extra)
        rows = zip(answers, zip(*self.extra.values(), strict=True), strict=True) if names else ()
        return [
            replace(answer, **dict(zip(names, values, strict=True))) for answer, values in rows
        ] or answers

    def json_objects(self) -> list[bytes]:
        """Return the JSON object of each answer, without the answers being made."""
        return json_of(self.form, self.decisions, self.ids, self.top, self.extra)

    def _made(self) -> Iterator[Answer]:
        form, decisions, labels = self.form, self.decisions, self.form.labels
        # Lists, because reading single array elements is many times slower.
        ranked = decisions.ranked(self.top)
        rows = zip(
            self.ids,
            decisions.columns[ranked].tolist(),
            decisions.falling[ranked].tolist(),
            decisions.reasons.tolist(),
            _runs(*decisions.selected(decisions.cross_listed)),
            _runs(*decisions.selected(decisions.in_set)),
            decisions.no_set_reasons(),
            levels_of(decisions.archives, form.archives),
            levels_of(decisions.groups, form.groups),
            strict=True,
        )
        for id, columns, values, reason, cross, in_set, no_set, archives, groups in rows:
            yield Answer(
                id=id,
                primary=labels[columns[0]] if reason == ACCEPTED else None,
                reason=REASONS[reason],
                probability=values[0],
                ranked=form.ranked(columns, values),
                cross_lists=tuple([labels[i] for i in cross]),
                set=tuple([labels[i] for i in in_set]) if no_set is None else None,
                set_reason=no_set,
                levels=Levels(archives, groups),
                model=form.model,
            )


@dataclass(frozen=True, eq=False)
class Mixed:
    """The results of a batch in which some records could not be read.

    Attributes:
        answered: the answers to the others, in order.
        records: what was asked; of each ``BadRecord`` that is the result too.
    """

    answered: Part | Made
    records: Sequence[object]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def n_bad(self) -> int:
        """How many there are that could not be read."""
        return len(self.records) - len(self.answered)

    @cached_property
    def answers(self) -> list[Answer | BadRecord]:
        """The results, made once."""
        rest = iter(self.answered.answers)
        return [r if isinstance(r, BadRecord) else next(rest) for r in self.records]

    def json_objects(self) -> list[bytes]:
        """Return the JSON object of each result."""
        rest = iter(self.answered.json_objects())
        return [
            to_json(r.published()) if isinstance(r, BadRecord) else next(rest) for r in self.records
        ]


@dataclass(frozen=True, eq=False)
class Made:
    """Answers that were made before."""

    answers: Sequence[Answer]

    def __len__(self) -> int:
        return len(self.answers)

    def json_objects(self) -> list[bytes]:
        """Return the JSON object of each answer."""
        return list(map(to_json, self.answers))


class Answers(Sequence[Result], Generic[Result]):
    """The results of many papers: as a list of them, but that none is made before it is asked for.

    It equals a list of the same results, and is copied and pickled as one. ``list(answers)`` is one
    that can be changed. The first look at a result makes those of its batch.
    """

    def __init__(self, parts: Iterable[Part | Mixed | Made] = ()) -> None:
        self._parts = list(parts)
        self._length = sum(map(len, self._parts))

    @property
    def n_bad(self) -> int:
        """How many of the results are of records that could not be read."""
        return sum(part.n_bad for part in self._parts if isinstance(part, Mixed))

    def json_objects(self) -> Iterator[bytes]:
        """Yield the published JSON object of each result, as ``to_json`` writes it."""
        return chain.from_iterable(part.json_objects() for part in self._parts)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Result]:
        for part in self._parts:
            yield from part.answers  # type: ignore[misc]

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...

    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(self._length))]
        try:
            return self._at(range(self._length)[index])
        except IndexError:
            raise IndexError(f"there are {self._length} answers, none at {index}") from None

    def _at(self, index: int) -> Result:
        for part in self._parts:
            if index < len(part):
                return part.answers[index]  # type: ignore[return-value]
            index -= len(part)
        raise IndexError(index)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, list | Answers):
            return len(self) == len(other) and all(map(_equal, self, other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Iterable[Any]) -> list[Any]:
        return [*other, *self]

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def _equal(one: object, other: object) -> bool:
    return one is other or one == other


def _runs(columns: Any, ends: Any) -> list[list[int]]:  # noqa: ANN401 - arrays
    """Return columns, row after row, as a list for each row."""
    values, bounds = columns.tolist(), ends.tolist()
    return [values[start:end] for start, end in zip([0, *bounds], bounds, strict=False)]
