"""One change after the other: the lock, the pointer that makes a change happen, its event."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from classmark.errors import (
    OutputChanged,
    RegistryConflict,
    RegistryCorrupt,
    StorageFailed,
    UsageError,
)
from classmark.records import Pointer, PromotionEvent, utc_text
from classmark.registry.changes import Change
from classmark.registry.documents import (
    POINTER_FILE,
    REGISTRY_FILE,
    read_document,
    read_pointer,
    write_pointer,
)
from classmark.registry.log import EVENTS_FILE, append_event, settle
from classmark.storage import replaceable

LOCK_WAIT_S = 10.0
_MOST_TEXT_CHARS = 500
_log = logging.getLogger("classmark.registry")


def commit(
    folder: Path,
    make: Callable[[Pointer], Change | None],
    *,
    who: str,
    why: str,
    seen: int | None = None,
) -> Pointer:
    """Change a registry while no other process does; returns the state after it.

    A kill leaves the state before or after, whole: replacing the pointer is one step, and what
    follows it is done again by the next change. Where no process can hold the registry, as in a
    bucket, that step fails if another one was faster, and the change is made again of the new
    state.

    Args:
        folder: of the registry.
        make: returns the change of the state that it is given, None for none.
        who: is doing it.
        why: the reason, or "".
        seen: sequence of the state that the change was decided on; another one is refused.

    Raises:
        RegistryConflict: another process changed it since; says which.
        StorageFailed, OutputBusy, OutputChanged: it cannot be written.
        UsageError: a text is too long, or not one line.
    """
    check_texts(who, why)
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        with held(folder) as (place, before):
            if seen is not None and before.sequence != seen:
                raise _conflict(before.last_event)
            try:
                return _change(place, before, make, who=who, why=why)
            except OutputChanged:
                if time.monotonic() > until:
                    raise
            except RegistryCorrupt:  # the log may be ahead of what was read of the pointer
                if read_pointer(folder / POINTER_FILE).sequence == before.sequence:
                    raise


def _change(
    place: Path,
    before: Pointer,
    make: Callable[[Pointer], Change | None],
    *,
    who: str,
    why: str,
) -> Pointer:
    log = place.parent / EVENTS_FILE
    n_bytes = settle(log, before.last_event)
    change = make(before)
    if change is None:
        return before
    event = _event_of(change, before.last_event, who=who, why=why)
    after = replace(change.after, sequence=event.sequence, last_event=event)
    write_pointer(place, after)
    try:
        append_event(log, event, after=n_bytes)
    except OutputChanged:
        pass  # the next change, which another process made, has appended it
    except StorageFailed as error:  # the change has happened, and the next one appends it
        _log.warning("the event of a change is in %s only: %s", POINTER_FILE, error)
    return after


@contextmanager
def held(folder: Path) -> Iterator[tuple[Path, Pointer]]:
    """Yield the pointer's file and the state, which no other process changes during the block.

    Raises:
        OutputBusy: another process holds it.
        RegistryCorrupt: the state cannot be read.
    """
    lock = folder / REGISTRY_FILE  # never replaced, so that it is held to the end of the block
    read_document(lock)  # a lock would make a file where there is none
    with replaceable(folder / POINTER_FILE, lock=lock, wait_s=LOCK_WAIT_S) as place:
        yield place, read_pointer(place)


def check_texts(who: str, why: str) -> None:
    """Refuse texts of an event that are not one line of some length.

    Raises:
        UsageError: says which.
    """
    for option, text, least in (("--who", who.strip(), 1), ("--why", why.strip(), 0)):
        if not least <= len(text) <= _MOST_TEXT_CHARS or not text.isprintable():
            raise UsageError(
                f"{option} must be {least} to {_MOST_TEXT_CHARS} printable characters, got "
                f"{text[:40]!r}."
            )


def _event_of(change: Change, previous: PromotionEvent, *, who: str, why: str) -> PromotionEvent:
    return PromotionEvent(
        sequence=previous.sequence + 1,
        at_utc=utc_text(),
        who=who.strip(),
        action=change.action,
        why=why.strip(),
        from_digest=change.from_digest,
        to_digest=change.to_digest,
        report=change.report,
        numbers=_finite(change.numbers),
        previous=previous.digest(),
    )


def _finite(value: Any) -> Any:  # noqa: ANN401 - any value of JSON
    """Return a value of JSON; a number that JSON lacks, such as an infinite ratio, as text."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _conflict(event: PromotionEvent) -> RegistryConflict:
    return RegistryConflict(
        f"nothing was changed: {event.who} changed the registry at {event.at_utc} "
        f"({event.action}, number {event.sequence}), after it was read for this. Look at "
        "`classmark registry list`, then try again if you still want to."
    )
