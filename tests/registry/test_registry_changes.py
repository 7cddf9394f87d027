"""Changes of a registry: what each leaves behind, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from classmark.errors import (
    BundleNotFound,
    ChangeRefused,
    LabelMismatch,
    RegistryConflict,
    RegistryNotFound,
    StorageFailed,
    UsageError,
)
from classmark.registry import Registry
from registry_folders import WHO, add_passed, registry, report_of, three, write_tiny

__all__ = ["registry", "three"]


def test_a_new_registry_is_empty_and_says_who_made_it(registry: Registry) -> None:
    (event,) = registry.events()
    assert (event.action, event.who, event.sequence) == ("create", WHO, 1)
    pointer = registry.pointer()
    assert (pointer.channels.champion, pointer.bundles) == (None, {})


def test_a_registry_is_not_created_over_another(registry: Registry) -> None:
    with pytest.raises(StorageFailed, match="is a registry already"):
        Registry.create(registry.path, who=WHO)


def test_a_folder_that_is_no_registry_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RegistryNotFound, match=r"there is no such folder.*classmark registry init"):
        Registry.open(tmp_path / "missing")
    with pytest.raises(RegistryNotFound, match=r"it holds no registry\.json"):
        Registry.open(tmp_path)


def test_a_bundle_is_kept_under_its_digest_and_loads(registry: Registry, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny-1.0", "1.0")
    digest = registry.add(folder, who=WHO, why="first")
    assert registry.bundle(digest) == registry.path / "bundles" / digest
    names = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    assert names == sorted(
        p.relative_to(registry.bundle(digest)) for p in registry.bundle(digest).rglob("*")
    )
    assert registry.load(digest).manifest.version == "1.0"
    assert registry.pointer().bundles[digest].spec == "tiny@1.0"


def test_a_bundle_that_is_added_twice_is_one_event(registry: Registry, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny-1.0", "1.0")
    assert registry.add(folder, who=WHO) == registry.add(folder, who=WHO)
    assert [event.action for event in registry.events()] == ["create", "add"]


def test_a_bundle_of_the_same_digest_with_another_version_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    registry.add(write_tiny(tmp_path / "a", "1.0"), who=WHO)
    with pytest.raises(ChangeRefused, match="version, card or metrics differ"):
        registry.add(write_tiny(tmp_path / "b", "1.1"), who=WHO)


def test_promoting_needs_a_passed_report_of_exactly_this_bundle(
    registry: Registry, tmp_path: Path
) -> None:
    first = registry.add(write_tiny(tmp_path / "a", "1.0"), who=WHO)
    other = add_passed(registry, tmp_path, "2.0")
    with pytest.raises(ChangeRefused, match="no gate report says that"):
        registry.promote(first, who=WHO)
    (tmp_path / "other.json").write_bytes(report_of(other))
    with pytest.raises(ChangeRefused, match="is about the bundle"):
        registry.promote(first, who=WHO, report=tmp_path / "other.json")
    (tmp_path / "failed.json").write_bytes(report_of(first, passed=False))
    with pytest.raises(ChangeRefused, match="did not pass"):
        registry.promote(first, who=WHO, report=tmp_path / "failed.json")
    (tmp_path / "passed.json").write_bytes(report_of(first))
    registry.promote(first, who=WHO, report=tmp_path / "passed.json")
    event = registry.events()[-1]
    assert registry.pointer().channels.champion == first
    assert (registry.path / "reports" / f"{event.report}.json").read_bytes() == report_of(first)


def test_a_bundle_that_failed_after_it_had_passed_is_not_promoted(
    registry: Registry, three: list[str]
) -> None:
    registry.keep_report(report_of(three[0], passed=False))
    with pytest.raises(ChangeRefused, match="no gate report"):
        registry.promote(three[0], who=WHO)


def test_what_is_impossible_is_said_before_a_gate_is_asked_for(
    registry: Registry, tmp_path: Path
) -> None:
    first = registry.add(write_tiny(tmp_path / "first", "1.0"), who=WHO)
    registry.promote(first, who=WHO, why="the first one", force=True)
    with pytest.raises(ChangeRefused, match="is the champion already"):
        registry.promote(first, who=WHO)
    with pytest.raises(ChangeRefused, match="is the champion already"):
        registry.start_canary(first, percent=5, rules={}, who=WHO)
    other = registry.add(write_tiny(tmp_path / "other", "2.0"), who=WHO)
    with pytest.raises(UsageError, match="above 0 to 100 percent"):
        registry.start_canary(other, percent=0, rules={}, who=WHO)
    with pytest.raises(ChangeRefused, match=r"no gate report .* Run `classmark [a-z ]+\w{12}`\.$"):
        registry.start_canary(other, percent=5, rules={}, who=WHO)


def test_force_needs_a_reason_and_is_an_event(registry: Registry, tmp_path: Path) -> None:
    digest = registry.add(write_tiny(tmp_path / "a", "1.0"), who=WHO)
    with pytest.raises(UsageError, match="needs a reason"):
        registry.promote(digest, who=WHO, force=True)
    registry.promote(digest, who=WHO, why="the gate has no data yet", force=True)
    event = registry.events()[-1]
    assert (event.numbers, event.report, event.why) == (
        {"forced": True},
        None,
        "the gate has no data yet",
    )


def test_rollback_goes_back_one_champion_at_a_time(registry: Registry, three: list[str]) -> None:
    for digest in three:
        registry.promote(digest, who=WHO)
    assert registry.rollback(who=WHO).channels.champion == three[1]
    assert registry.rollback(who=WHO, why="worse").channels.champion == three[0]
    with pytest.raises(ChangeRefused, match="no champion to go back to: no earlier one is left"):
        registry.rollback(who=WHO)
    event = registry.events()[-1]
    assert (event.from_digest, event.to_digest, event.why) == (three[1], three[0], "worse")


def test_a_canary_ends_as_champion_or_in_no_channel(registry: Registry, three: list[str]) -> None:
    with pytest.raises(ChangeRefused, match="no champion to compare"):
        registry.start_canary(three[1], percent=5, rules={}, who=WHO)
    registry.promote(three[0], who=WHO)
    pointer = registry.start_canary(three[1], percent=5, rules={"requests": 100}, who=WHO)
    assert (pointer.channels.challenger, pointer.channels.champion) == (three[1], three[0])
    assert pointer.canary is not None
    assert (pointer.canary.percent, pointer.canary.rules) == (5.0, {"requests": 100})
    with pytest.raises(ChangeRefused, match=r"a canary of tiny@2\.0"):
        registry.promote(three[2], who=WHO)
    ended = registry.end_canary("rolled_back", {"p": 0.01}, who="rules")
    assert (ended.canary, ended.channels.challenger, ended.channels.champion) == (
        None,
        None,
        three[0],
    )
    assert registry.events()[-1].numbers == {"outcome": "rolled_back", "p": 0.01}
    registry.start_canary(three[1], percent=5, rules={}, who=WHO)
    ended = registry.end_canary("promoted", {}, who="rules")
    assert (ended.channels.champion, ended.channels.challenger) == (three[1], None)
    assert registry.rollback(who=WHO).channels.champion == three[0]
    with pytest.raises(ChangeRefused, match="no canary runs"):
        registry.end_canary("stopped", {}, who=WHO)


def test_rollback_during_a_canary_ends_it_and_keeps_the_champion(
    registry: Registry, three: list[str]
) -> None:
    registry.promote(three[0], who=WHO)
    registry.promote(three[1], who=WHO)
    registry.start_canary(three[2], percent=5, rules={}, who=WHO)
    pointer = registry.rollback(who=WHO)
    assert (pointer.channels.champion, pointer.canary) == (three[1], None)
    assert registry.rollback(who=WHO).channels.champion == three[0]


def test_a_canary_with_other_labels_must_be_allowed(registry: Registry, tmp_path: Path) -> None:
    registry.promote(add_passed(registry, tmp_path, "1.0"), who=WHO)
    labels = ("cs.LG", "hep-th", "math.CO", "q-bio.SC")
    other = registry.add(write_tiny(tmp_path / "b", "2.0", labels=labels), who=WHO)
    registry.keep_report(report_of(other))
    with pytest.raises(LabelMismatch, match=r"first: 'q-bio\.SC'.*--allow-label-change"):
        registry.start_canary(other, percent=5, rules={}, who=WHO)
    pointer = registry.start_canary(other, percent=5, rules={}, who=WHO, allow_label_change=True)
    assert pointer.canary is not None
    assert pointer.canary.allow_label_change


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_a_share_is_above_0_to_100_percent(
    registry: Registry, three: list[str], percent: float
) -> None:
    registry.promote(three[0], who=WHO)
    with pytest.raises(UsageError, match="above 0 to 100 percent"):
        registry.start_canary(three[1], percent=percent, rules={}, who=WHO)
    with pytest.raises(UsageError, match="above 0 to 100 percent"):
        registry.set_shadow(three[1], percent=percent, who=WHO)


def test_a_shadow_comes_and_goes(registry: Registry, three: list[str]) -> None:
    pointer = registry.set_shadow(three[1], percent=20, who=WHO)
    assert (pointer.channels.shadow, pointer.shadow_percent) == (three[1], 20.0)
    pointer = registry.set_shadow(None, who=WHO)
    assert (pointer.channels.shadow, pointer.shadow_percent) == (None, 0.0)


def test_gc_keeps_what_channels_and_the_archive_name_and_the_latest_of_the_rest(
    registry: Registry, three: list[str], tmp_path: Path
) -> None:
    more = [add_passed(registry, tmp_path, f"{n}.0") for n in (4, 5, 6)]
    for digest in three:
        registry.promote(digest, who=WHO)
    registry.archive(more[0], who=WHO)
    registry.set_shadow(more[1], who=WHO)
    assert set(registry.collect(keep=1, who=WHO)) == {three[0], more[2]}
    assert set(registry.pointer().bundles) == {three[1], three[2], more[0], more[1]}
    assert registry.rollback(who=WHO).channels.champion == three[1]
    with pytest.raises(BundleNotFound, match="the registry has no bundle"):
        registry.load(three[0])
    assert registry.collect(keep=0, who=WHO) == (three[2],)


def test_what_a_channel_has_is_not_archived(registry: Registry, three: list[str]) -> None:
    registry.promote(three[0], who=WHO)
    registry.start_canary(three[1], percent=5, rules={}, who=WHO)
    registry.set_shadow(three[2], who=WHO)
    advice = ("promote another bundle", "rollback` ends the canary", "shadow --off` ends it")
    for digest, words in zip(three, advice, strict=True):
        with pytest.raises(ChangeRefused, match=words):
            registry.archive(digest, who=WHO)


@pytest.mark.parametrize("spec", ["champion", "tiny@1.0", "digits"])
def test_a_bundle_is_found_by_channel_name_and_digits(
    registry: Registry, three: list[str], spec: str
) -> None:
    registry.promote(three[0], who=WHO)
    assert registry.find(three[0][:8] if spec == "digits" else spec) == three[0]


def test_what_names_no_bundle_says_what_there_is(registry: Registry, three: list[str]) -> None:
    with pytest.raises(BundleNotFound, match="no bundle is the champion"):
        registry.find("champion")
    with pytest.raises(BundleNotFound, match=r"there is tiny@1\.0, tiny@2\.0, tiny@3\.0"):
        registry.find("tiny@9.0")
    with pytest.raises(UsageError, match="'latest' is not a channel"):
        registry.pointer().channel("latest")


def test_a_change_that_was_decided_on_an_older_state_is_refused_by_name(
    registry: Registry, three: list[str]
) -> None:
    mine, theirs = Registry.open(registry.path), Registry.open(registry.path)
    theirs.promote(three[0], who="the other", why="better")
    before = (registry.path / "pointer.json").read_bytes()
    with pytest.raises(RegistryConflict, match=r"nothing was changed: the other .*promote"):
        mine.promote(three[1], who=WHO)
    assert (registry.path / "pointer.json").read_bytes() == before
    mine.pointer()
    assert mine.promote(three[1], who=WHO).channels.champion == three[1]


def test_events_chain_from_the_first_to_the_pointer(registry: Registry, three: list[str]) -> None:
    registry.promote(three[0], who=WHO)
    events = registry.events()
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    for before, after in pairwise(events):
        assert after.previous == before.digest()
    assert events[-1] == registry.pointer().last_event
    lines = (registry.path / "events.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["to_digest"] == three[0]


@pytest.mark.parametrize("who", ["", " ", "a\nb", "x" * 501])
def test_a_name_in_an_event_is_one_line(registry: Registry, three: list[str], who: str) -> None:
    with pytest.raises(UsageError, match="printable characters"):
        registry.promote(three[0], who=who)


def test_numbers_and_texts_that_json_lacks_do_not_keep_a_canary_from_ending(
    registry: Registry, three: list[str]
) -> None:
    registry.promote(three[0], who=WHO)
    registry.start_canary(three[1], percent=5, rules={"name": "\ud800", "limits": [1, 2]}, who=WHO)
    numbers = {"ratio": float("inf"), "p": [float("nan"), 0.5], "n": 3}
    registry.end_canary("rolled_back", numbers, who="rules")
    assert registry.verify() == ()
    assert Registry.open(registry.path).events()[-1].numbers == {
        "outcome": "rolled_back",
        "ratio": "inf",
        "p": ["nan", 0.5],
        "n": 3,
    }
    assert registry.events()[-2].numbers["rules"] == {"name": "\ud800", "limits": [1, 2]}
