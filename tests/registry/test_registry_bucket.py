"""A registry in a bucket: the same changes, and nobody who loses has changed anything."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bucket_fixtures import bucket, needs_bucket
from classmark.bundle import load_bundle
from classmark.errors import (
    BundleCorrupt,
    ChangeRefused,
    ClassmarkError,
    RegistryConflict,
    RegistryNotFound,
    StorageFailed,
)
from classmark.registry import Registry
from classmark.storage import BucketPath, folder_place
from registry_folders import WHO, add_passed, write_tiny

__all__ = ["bucket"]
pytestmark = needs_bucket


def create(name: str = "registry") -> Registry:
    return Registry.create(folder_place(f"gs://papers/{name}"), who=WHO)


def again(registry: Registry) -> Registry:
    return Registry.open(registry.path)


def test_a_registry_in_a_bucket_holds_what_one_in_a_folder_does(
    bucket: Any, tmp_path: Path
) -> None:
    there, here = create(), Registry.create(tmp_path / "here", who=WHO)
    for version in ("1.0", "2.0"):
        digest = add_passed(there, tmp_path, version)
        assert add_passed(here, tmp_path / "again", version) == digest
        for registry in (there, here):
            registry.promote(digest, who=WHO)
    assert there.rollback(who=WHO).channels == here.rollback(who=WHO).channels
    names = {path.relative_to(here.path).as_posix() for path in here.path.rglob("*.*")}
    assert {name.removeprefix("registry/") for name in bucket.names()} == names
    assert there.verify() == here.verify() == ()
    assert [e.action for e in there.events()] == [e.action for e in here.events()]
    assert load_bundle(there.bundle(digest)).digest == digest
    assert there.bundle(digest).name == digest
    assert there.report(there.events()[-2].report or "").candidate.digest == digest


def test_a_bundle_that_was_read_once_is_not_fetched_again(bucket: Any, tmp_path: Path) -> None:
    registry = create()
    digest = add_passed(registry, tmp_path, "1.0")
    bucket.requests.clear()
    again(registry).load(digest)
    fetched = [address for _, address in bucket.requests if "alt=media" in address]
    assert not [address for address in fetched if "bundles" in address]


def test_a_change_on_another_machine_is_seen_at_once(bucket: Any, tmp_path: Path) -> None:
    one = create()
    other = again(one)
    digest = add_passed(one, tmp_path, "1.0")
    assert digest in other.pointer().bundles
    one.promote(digest, who=WHO)
    assert other.pointer().channels.champion == digest
    bucket.requests.clear()
    assert other.pointer().channels.champion == digest
    assert not [address for _, address in bucket.requests if "alt=media" in address]


def test_who_promotes_after_another_did_changes_nothing(bucket: Any, tmp_path: Path) -> None:
    one = create()
    first, second = (add_passed(one, tmp_path, version) for version in ("1.0", "2.0"))
    other = again(one)
    one.promote(first, who="one")
    before = {name: bucket.content(name) for name in bucket.names()}
    with pytest.raises(RegistryConflict, match="nothing was changed: one changed the registry"):
        other.promote(second, who="two")
    assert {name: bucket.content(name) for name in bucket.names()} == before


def test_of_two_that_promote_at_the_same_moment_one_wins(bucket: Any, tmp_path: Path) -> None:
    one = create()
    first, second = (add_passed(one, tmp_path, version) for version in ("1.0", "2.0"))
    other = again(one)
    held = bucket.hold("POST", r'"name": "registry/pointer.json"')
    said: list[str] = []

    def promote() -> None:
        try:
            one.promote(first, who="one")
        except ClassmarkError as error:
            said.append(f"{type(error).__name__} {error}")

    thread = threading.Thread(target=promote)
    thread.start()
    assert held.arrived.wait(60)  # it has read the pointer, and begins to write it
    other.promote(second, who="two")
    held.released.set()
    thread.join()
    assert len(said) == 1
    assert said[0].startswith("RegistryConflict nothing was changed: two changed the registry")
    assert again(one).pointer().channels.champion == second
    assert [event.who for event in one.events() if event.action == "promote"] == ["two"]
    assert one.verify() == ()


def test_bundles_added_at_the_same_moment_are_all_added(bucket: Any, tmp_path: Path) -> None:
    one = create()
    held = bucket.hold("POST", r'"name": "registry/pointer.json"')
    folders = [write_tiny(tmp_path / version, version) for version in ("1.0", "2.0")]
    adding = threading.Thread(target=lambda: one.add(folders[0], who="one"))
    adding.start()
    assert held.arrived.wait(60)
    again(one).add(folders[1], who="two")
    held.released.set()
    adding.join()
    assert len(again(one).pointer().bundles) == 2
    assert [event.who for event in one.events()] == [WHO, "two", "one"]
    assert one.verify() == ()


@pytest.mark.parametrize("status", [0, 503])
def test_a_change_whose_answer_was_lost_has_happened_once(
    bucket: Any, tmp_path: Path, status: int
) -> None:
    registry = create()
    digest = add_passed(registry, tmp_path, "1.0")
    bucket.fail("POST", r'"name": "registry/pointer.json"', status, after=True)
    registry.promote(digest, who=WHO)
    assert [event.action for event in registry.events()].count("promote") == 1
    assert registry.verify() == ()


def test_a_write_of_the_log_that_is_refused_is_done_by_the_next_change(
    bucket: Any, tmp_path: Path
) -> None:
    registry = create()
    digest = add_passed(registry, tmp_path, "1.0")
    bucket.fail("POST", r'"name": "registry/events.jsonl"', 403)
    registry.promote(digest, who=WHO)
    assert [event.action for event in registry.events()][-1] == "promote"
    assert b"promote" not in bucket.content("registry/events.jsonl")
    registry.set_shadow(digest, percent=5, who=WHO)
    assert bucket.content("registry/events.jsonl").count(b"\n") == registry.pointer().sequence
    assert registry.verify() == ()


def test_a_missing_permission_names_the_role_and_changes_nothing(
    bucket: Any, tmp_path: Path
) -> None:
    registry = create()
    digest = add_passed(registry, tmp_path, "1.0")
    before = registry.pointer()
    bucket.fail("POST", r'"name": "registry/pointer.json"', 403)
    with pytest.raises(StorageFailed, match=r"pointer\.json .*roles/storage\.objectUser"):
        registry.promote(digest, who=WHO)
    assert again(registry).pointer() == before
    registry.promote(digest, who=WHO)


def test_a_registry_is_made_once(bucket: Any) -> None:
    create()
    with pytest.raises(StorageFailed, match="gs://papers/registry is a registry already"):
        create()
    with pytest.raises(RegistryNotFound, match=r"gs://papers/other is not a registry"):
        Registry.open(folder_place("gs://papers/other"))


def test_a_registry_that_was_half_made_is_made_again(bucket: Any) -> None:
    bucket.fail("POST", r'"name": "registry/registry.json"', 403)
    with pytest.raises(StorageFailed):
        create()
    assert bucket.names() == ["registry/events.jsonl", "registry/pointer.json"]
    create()
    assert bucket.names()[-1] == "registry/registry.json"


def test_an_edited_bundle_is_refused(bucket: Any, tmp_path: Path) -> None:
    registry = create()
    digest = add_passed(registry, tmp_path, "1.0")
    BucketPath.parse(f"gs://papers/registry/bundles/{digest}/CARD.md").write(b"# Other\n")
    with pytest.raises(BundleCorrupt, match=r"CARD\.md"):
        registry.load(digest)
    [finding] = registry.verify()
    assert finding.file == f"bundles/{digest}"


def test_collect_deletes_only_what_is_older_than_a_day(bucket: Any, tmp_path: Path) -> None:
    registry = create()
    old, young = (add_passed(registry, tmp_path, version) for version in ("1.0", "2.0"))
    for name, item in bucket.storage.objects["papers"].items():
        if old in name:
            item["updated"] = "2020-01-01T00:00:00.000000Z"
    assert registry.collect(keep=0, who=WHO) == (old,)
    assert registry.pointer().bundles == {}
    assert not bucket.names(f"registry/bundles/{old}")
    assert bucket.names(f"registry/bundles/{young}")
    assert add_passed(registry, tmp_path / "again", "2.0") == young
    assert registry.verify() == ()


ADD = """
import sys
from pathlib import Path
from classmark.registry import Registry
from classmark.storage import folder_place
registry = Registry.open(folder_place(sys.argv[1]))
registry.add(Path(sys.argv[2]), who="killed")
"""


@pytest.mark.parametrize("n_written", range(5))
def test_a_kill_while_a_bundle_goes_up_leaves_the_registry_as_it_was(
    bucket: Any, tmp_path: Path, n_written: int
) -> None:
    registry = create()
    before, folder = registry.pointer(), write_tiny(tmp_path / "1.0", "1.0")
    held = bucket.hold("POST", "/upload/", skip=n_written)
    process = subprocess.Popen([sys.executable, "-c", ADD, str(registry.path), str(folder)])
    while not held.arrived.wait(0.1):
        if process.poll() is not None:  # it needs fewer writes than that
            break
    process.kill()
    process.wait()
    held.released.set()
    if held.arrived.is_set():
        assert held.done.wait(60)  # the server carries out what had arrived
    after = again(registry).pointer()
    if held.arrived.is_set() and n_written < 3:  # the pointer is the fourth or later
        assert after == before
    assert again(registry).verify() == ()
    digest = again(registry).add(folder, who=WHO)
    assert again(registry).load(digest).digest == digest
    assert again(registry).verify() == ()


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["promote", "rollback", "look"]), st.integers(0, 2)
    ),
    max_size=12,
)


@pytest.mark.slow  # reason: dozens of registries
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_any_sequence_of_several_promoters_does_in_a_bucket_what_it_does_in_a_folder(
    bucket: Any, tmp_path: Path, steps: list[tuple[int, str, int]]
) -> None:
    name = uuid.uuid4().hex
    outcomes = []
    for first in (create(name), Registry.create(tmp_path / name, who=WHO)):
        digests = [add_passed(first, tmp_path / uuid.uuid4().hex, f"{n}.0") for n in range(1, 4)]
        promoters = [again(first) for _ in range(3)]
        said: list[str] = []
        for number, step, which in steps:
            promoter = promoters[number]
            try:
                if step == "promote":
                    promoter.promote(digests[which], who=f"promoter {number}")
                elif step == "rollback":
                    promoter.rollback(who=f"promoter {number}")
                else:
                    promoter.pointer()
                said.append("done")
            except ChangeRefused as error:
                said.append(type(error).__name__)
        events = [(e.action, e.who, e.from_digest, e.to_digest) for e in first.events()]
        assert first.verify() == ()
        outcomes.append((said, events, first.pointer().channels))
    assert outcomes[0] == outcomes[1]


def test_the_commands_and_a_service_take_the_address_of_a_registry(bucket: Any) -> None:
    from typer.testing import CliRunner

    from classmark.cli.app import app
    from classmark.service import make_settings

    place = "gs://papers/registry"
    made = CliRunner().invoke(app, ["registry", "init", "--registry", place])
    listed = CliRunner().invoke(app, ["registry", "list", "--registry", place, "--json"])

    assert (made.exit_code, listed.exit_code) == (0, 0), made.output + listed.output
    assert "registry/pointer.json" in bucket.names()
    assert str(make_settings(registry=place).registry) == place
