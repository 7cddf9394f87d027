"""Random sequences of changes: the chain stays valid, the pointer whole, and a model agrees."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classmark.errors import ChangeRefused, UsageError
from classmark.records import PromotionEvent, Registered
from classmark.records.registry import Pointer
from classmark.registry import Registry, changes
from classmark.registry.documents import read_pointer, render
from classmark.registry.lineage import channels_after
from classmark.registry.log import read_events, settle
from registry_folders import WHO, add_passed

N_BUNDLES = 4
STEPS = st.one_of(
    st.tuples(st.just("promote"), st.integers(0, N_BUNDLES - 1)),
    st.tuples(st.just("rollback"), st.just(0)),
    st.tuples(st.just("start_canary"), st.integers(0, N_BUNDLES - 1)),
    st.tuples(st.sampled_from(["promoted", "rolled_back", "stopped"]), st.just(0)),
    st.tuples(st.just("set_shadow"), st.integers(-1, N_BUNDLES - 1)),
    st.tuples(st.just("archive"), st.integers(0, N_BUNDLES - 1)),
    st.tuples(st.just("reopen"), st.just(0)),
)


@dataclass
class Expected:
    """What a person would expect of the channels, in a few lines."""

    champion: str | None = None
    before: list[str] = field(default_factory=list)
    canary: str | None = None

    def crown(self, digest: str) -> None:
        if self.champion is not None:
            self.before.append(self.champion)
        self.champion = digest

    def take(self, step: str, digest: str) -> None:
        if step == "promote":
            self.crown(digest)
        elif step == "rollback" and self.canary is None:
            self.champion = self.before.pop()
        elif step == "start_canary":
            self.canary = digest
        elif step == "archive":
            self.before = [other for other in self.before if other != digest]
        elif step in ("rollback", "rolled_back", "stopped"):
            self.canary = None
        elif step == "promoted":
            assert self.canary is not None
            self.crown(self.canary)
            self.canary = None


def do(registry: Registry, step: str, digest: str | None) -> None:
    if step == "promote":
        registry.promote(str(digest), who=WHO)
    elif step == "rollback":
        registry.rollback(who=WHO)
    elif step == "start_canary":
        registry.start_canary(str(digest), percent=5, rules={"n": 1}, who=WHO)
    elif step == "set_shadow":
        registry.set_shadow(digest, percent=50, who=WHO)
    elif step == "archive":
        registry.archive(str(digest), who=WHO)
    else:
        registry.end_canary(step, {"n": 1}, who=WHO)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a registry to copy, with bundles that passed."""
    folder = tmp_path_factory.mktemp("shelf")
    registry = Registry.create(folder / "registry", who=WHO)
    digests = [add_passed(registry, folder, f"{n}.0") for n in range(1, N_BUNDLES + 1)]
    return registry.path, digests


@pytest.mark.slow  # reason: dozens of registries with dozens of changes each
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_any_sequence_of_changes_keeps_the_chain_valid_and_the_pointer_whole(
    shelf: tuple[Path, list[str]], steps: list[tuple[str, int]]
) -> None:
    source, digests = shelf
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "registry")
        shutil.copytree(source, folder)
        registry, expected = Registry.open(folder), Expected()
        for step, number in steps:
            if step == "reopen":
                registry = Registry.open(folder)
                continue
            digest = digests[number] if number >= 0 else None
            before = registry.pointer()
            try:
                do(registry, step, digest)
            except ChangeRefused:
                assert Registry.open(folder).pointer() == before
                continue
            expected.take(step, str(digest))
            pointer = registry.pointer()
            assert pointer.sequence == before.sequence + 1
            assert pointer.channels.champion == expected.champion
            assert list(pointer.former) == expected.before
            assert (pointer.canary.candidate if pointer.canary else None) == expected.canary
        assert registry.verify() == ()
        events = registry.events()
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert channels_after(events) == registry.pointer().channels
        lines = (folder / "events.jsonl").read_bytes()
        assert lines == b"".join(event.line() + b"\n" for event in events)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
EVENT = st.builds(
    PromotionEvent,
    sequence=st.integers(1, 10**9),
    at_utc=TEXT,
    who=TEXT,
    action=st.sampled_from(["add", "promote", "end_canary"]),
    why=TEXT,
    numbers=st.dictionaries(TEXT, JSON, max_size=3),
)


@settings(max_examples=50)
@given(event=EVENT)
def test_every_event_and_pointer_is_read_as_it_was_written(event: PromotionEvent) -> None:
    assert PromotionEvent.from_dict(json.loads(event.line())) == event
    pointer = Pointer(sequence=1, last_event=event)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "pointer.json")
        path.write_text(render(pointer.to_dict()), "utf-8")
        assert read_pointer(path) == pointer


@settings(max_examples=50)
@given(events=st.lists(EVENT, min_size=1, max_size=5), cut=st.integers(0, 10**4))
def test_a_log_that_was_cut_anywhere_in_its_last_line_is_settled(
    events: list[PromotionEvent], cut: int
) -> None:
    chain: list[PromotionEvent] = []
    for number, event in enumerate(events, start=1):
        previous = chain[-1].digest() if chain else "0" * 64
        chain.append(replace(event, sequence=number, previous=previous))
    whole = b"".join(event.line() + b"\n" for event in chain)
    start = len(whole) - len(chain[-1].line()) - 1
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "events.jsonl")
        path.write_bytes(whole[: start + cut % (len(whole) - start + 1)])
        assert read_events(path, chain[-1]) == chain
        settle(path, chain[-1])
        assert path.read_bytes() == whole


@given(percent=st.floats())
def test_a_share_outside_of_0_to_100_percent_is_refused(percent: float) -> None:
    event = PromotionEvent(sequence=1, at_utc="t", who="w", action="create")
    digest = "0" * 64
    known = Registered(name="n", version="1", seal=digest, sequence=1)
    pointer = Pointer(sequence=1, last_event=event, bundles={digest: known})
    if 0 < percent <= 100:
        assert changes.set_shadow(pointer, digest, percent).after.shadow_percent == percent
    else:
        with pytest.raises(UsageError):
            changes.set_shadow(pointer, digest, percent)
