"""``events.jsonl``: append-only lines, each naming the SHA-256 of the one before.

The pointer holds the last event, so that a kill between the pointer and the log loses nothing: the
next change appends it first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from classmark.errors import RegistryCorrupt, unreadable
from classmark.records import PromotionEvent
from classmark.records.fields import WrongField
from classmark.records.registry import NO_EVENT
from classmark.registry.documents import damaged
from classmark.storage import append

EVENTS_FILE = "events.jsonl"
_END = b"\n"


def settle(path: Path, last: PromotionEvent) -> int:
    """Append the last event of the pointer if the log lacks it, whole or in part.

    Returns the size of the log, in bytes.

    Raises:
        RegistryCorrupt: the log ends in something else; nothing is written.
        StorageFailed: it cannot be written.
    """
    content, line = _content_of(path), last.line() + _END
    if content.endswith(line) and content[: -len(line)][-1:] in (b"", _END):
        return len(content)
    whole, end, part = content.rpartition(_END)
    before = whole.rpartition(_END)[2] if end else b""
    if not line.startswith(part) or _digest_of(path, content.count(_END), before) != last.previous:
        raise damaged(path, "its end is not the last event of pointer.json")
    after = len(whole) + len(end)
    append(path, line, after=after)
    return after + len(line)


def append_event(path: Path, event: PromotionEvent, *, after: int) -> None:
    """Append an event to a log that ends in a whole line.

    Args:
        path: of the log.
        event: to append.
        after: size of the log, in bytes.

    Raises:
        OutputChanged: the log in a bucket has another size.
        StorageFailed: it cannot be written, or only a part of it.
    """
    append(path, event.line() + _END, after=after)


def read_events(path: Path, last: PromotionEvent) -> list[PromotionEvent]:
    """Return every event, the oldest first; the last one from the pointer if the log lacks it.

    Args:
        path: of the log.
        last: the last event of the pointer.

    Raises:
        RegistryCorrupt: a line is missing, edited or out of order; says which.
    """
    whole, end, part = _content_of(path).rpartition(_END)
    events = list(_chained(path, whole.split(_END) if end else []))
    if not events or events[-1].sequence == last.sequence - 1:
        if not last.line().startswith(part) or last.previous != _previous(events):
            raise damaged(path, f"line {len(events) + 1} is not the last event of pointer.json")
        return [*events, last]
    if part or events[-1] != last:
        raise damaged(path, "its end is not the last event of pointer.json")
    return events


def _chained(path: Path, lines: list[bytes]) -> Iterator[PromotionEvent]:
    previous = NO_EVENT
    for number, line in enumerate(lines, start=1):
        event = _parse(path, number, line)
        if event.previous != previous:
            raise damaged(path, f"line {number} does not follow the line before it")
        if event.sequence != number:
            raise damaged(path, f"line {number} says that it is number {event.sequence}")
        previous = event.digest()
        yield event


def _parse(path: Path, number: int, line: bytes) -> PromotionEvent:
    try:
        event = PromotionEvent.from_dict(json.loads(line))
        is_unchanged = event.line() == line
    except (WrongField, ValueError, RecursionError, AttributeError) as error:
        raise damaged(path, f"line {number} is not an event") from error
    if not is_unchanged:
        raise damaged(path, f"line {number} has been edited")
    return event


def _digest_of(path: Path, number: int, line: bytes) -> str:
    """Return the digest of the last whole line of the log."""
    return _parse(path, number, line).digest() if line else NO_EVENT


def _previous(events: list[PromotionEvent]) -> str:
    return events[-1].digest() if events else NO_EVENT


def _content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        advice = "Restore it from a copy of the registry"
        raise RegistryCorrupt(f"{path} {unreadable(error, advice)}") from error
