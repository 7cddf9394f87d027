"""Whether everything in a registry is what its changes wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from classmark.errors import ClassmarkError, RegistryCorrupt
from classmark.records import Pointer, PromotionEvent
from classmark.registry.log import EVENTS_FILE
from classmark.registry.shelf import BUNDLES, REPORTS

if TYPE_CHECKING:
    from classmark.registry.reading import RegistryReader


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        file: below the folder of the registry.
        problem: what, and what to do.
    """

    file: str
    problem: str


def find_problems(registry: RegistryReader) -> tuple[Finding, ...]:
    """Return what is wrong with the events, bundles, signatures and reports of a registry."""
    pointer = registry.pointer()
    return (
        *_of_events(registry, pointer),
        *_of_bundles(registry, pointer),
        *_of_reports(registry.path / REPORTS),
    )


def _of_events(registry: RegistryReader, pointer: Pointer) -> Iterator[Finding]:
    try:
        events = registry.events()
    except RegistryCorrupt as error:
        yield Finding(file=EVENTS_FILE, problem=str(error))
        return
    if _champion_of(events) != pointer.channels.champion:
        problem = "the events lead to another champion than pointer.json names: one was edited."
        yield Finding(file=EVENTS_FILE, problem=problem)
    seals = {e.to_digest: e.numbers.get("seal") for e in events if e.action == "add"}
    for digest, known in pointer.bundles.items():
        if seals.get(digest) != known.seal:
            problem = f"no event added {known.spec} as pointer.json has it: one was edited."
            yield Finding(file=EVENTS_FILE, problem=problem)


def _champion_of(events: list[PromotionEvent]) -> str | None:
    return next((e.made_champion for e in reversed(events) if e.made_champion), None)


def _of_bundles(registry: RegistryReader, pointer: Pointer) -> Iterator[Finding]:
    for digest in pointer.bundles:
        try:
            registry.load(digest)
        except ClassmarkError as error:
            yield Finding(file=f"{BUNDLES}/{digest}", problem=str(error))


def _of_reports(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.glob("*.json")):
        if sha256(path.read_bytes()).hexdigest() != path.stem:
            problem = "it is not the report of that name: it was edited. Delete it."
            yield Finding(file=f"{REPORTS}/{path.name}", problem=problem)
