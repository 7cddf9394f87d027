"""A bundle that was written is read back as it was, or refused with the name of the file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classmark.bundle import (
    Bundle,
    load_bundle,
    manifest_digest,
    read_digest,
    read_manifest,
    write_bundle,
)
from classmark.bundle.load import verify_files
from classmark.bundle.manifest import render_manifest
from classmark.errors import (
    BundleCorrupt,
    BundleIncompatible,
    BundleNotFound,
    InvalidConfig,
    StorageFailed,
)
from classmark.records import BundleFile, BundleManifest, CategoryReport
from classmark.wire import Reliability

not_on_windows = pytest.mark.skipif(
    os.name == "nt", reason="an open bundle cannot be replaced there"
)

Make = Callable[..., Path]
MakeManifest = Callable[..., BundleManifest]


def test_a_bundle_is_read_back_as_it_was_written(tmp_path: Path, manifest: MakeManifest) -> None:
    arrays = {"rows": np.arange(6, dtype=np.int8).reshape(2, 3), "bias": np.float32([0.5, -1])}
    written = write_bundle(
        tmp_path / "b", manifest(), arrays, {"CARD.md": "# é\n", "a/b.bin": b"\0"}
    )

    bundle = load_bundle(tmp_path / "b")

    assert bundle.manifest == written
    assert bundle.digest == manifest_digest(written) == read_digest(tmp_path / "b")
    assert sorted(written.files) == ["CARD.md", "a/b.bin", "arrays/bias.npy", "arrays/rows.npy"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(bundle.array(name), array)
        assert bundle.array(name).dtype == array.dtype
    assert bundle.content("CARD.md") == "# é\n".encode()


def test_arrays_are_kept_in_memory_aligned_and_cannot_be_written(make_bundle: Make) -> None:
    rows = load_bundle(make_bundle()).array("weights")

    assert not isinstance(rows, np.memmap)
    assert rows.__array_interface__["data"][0] % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        rows.flags.writeable = True


def test_an_array_without_elements_is_kept(tmp_path: Path, manifest: MakeManifest) -> None:
    write_bundle(tmp_path / "b", manifest(), {"none": np.zeros((0, 3), np.float32)})
    assert load_bundle(tmp_path / "b").array("none").shape == (0, 3)


def test_how_categories_fared_is_kept_outside_of_the_digest(
    make_bundle: Make, category_report: Callable[..., CategoryReport]
) -> None:
    plain = load_bundle(make_bundle("plain"))
    assert plain.reliability == {}
    categories = [category_report("cs.LG", 4, 3), category_report("math.CO", 0, 0)]
    measured = load_bundle(make_bundle("plain", overwrite=True, measured=categories))
    assert measured.reliability == {
        "cs.LG": Reliability(0.75, 4),
        "math.CO": Reliability(None, 0),
    }
    assert measured.digest == plain.digest
    verify_files(measured.path, measured.manifest)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"categories": {}, "digest": "0"}',
        '{"categories": []}',
        '{"categories": {"a": {"papers": 1}}}',
        "9" * 5000,
    ],
)
def test_a_spoilt_measurement_is_refused_and_says_what_to_do(
    make_bundle: Make, content: str
) -> None:
    folder = make_bundle()
    (folder / "measured.json").write_text(content)
    with pytest.raises(
        BundleCorrupt, match=r"measured\.json has changed.*Delete it to get answers"
    ):
        load_bundle(folder)


def test_a_measurement_that_is_too_large_or_no_file_is_refused(make_bundle: Make) -> None:
    path = make_bundle() / "measured.json"
    path.write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(BundleCorrupt, match=r"measured\.json has 4,194,305 bytes, more than"):
        load_bundle(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(BundleCorrupt, match=r"measured\.json"):
        load_bundle(path.parent)


def test_counts_that_cannot_be_are_refused_although_their_digest_is_right(
    make_bundle: Make, category_report: Callable[..., CategoryReport]
) -> None:
    folder = make_bundle(measured=[replace(category_report("cs.LG", 4, 3), n=1, f1=1.2)])
    with pytest.raises(BundleCorrupt, match=r"measured\.json has changed"):
        load_bundle(folder)


def test_sets_of_answers_without_authors_leave_the_digest_of_older_bundles(
    manifest: MakeManifest,
) -> None:
    usual = manifest()
    assert "author_set_threshold" not in usual.to_dict()["policy"]
    other = replace(usual, policy=replace(usual.policy, author_set_threshold=0.25))
    assert BundleManifest.from_dict(other.to_dict()) == other
    policies = (usual.policy, other.policy)
    of_authors = [policy.set_threshold_of(used_authors=True) for policy in policies]
    assert of_authors == [usual.policy.set_threshold, 0.25]
    assert other.policy.set_threshold_of(used_authors=False) == usual.policy.set_threshold


def test_the_default_number_of_terms_for_a_set_leaves_the_digest_of_older_bundles(
    manifest: MakeManifest,
) -> None:
    usual = manifest()
    assert "set_terms" not in usual.to_dict()["policy"]
    other = replace(usual, policy=replace(usual.policy, set_terms=4))
    assert other.to_dict()["policy"]["set_terms"] == 4
    assert BundleManifest.from_dict(other.to_dict()).policy.set_terms == 4
    assert BundleManifest.from_dict(usual.to_dict()) == usual


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused_and_the_file_is_named(
    make_bundle: Make, category_report: Callable[..., CategoryReport], data: st.DataObject
) -> None:
    measured = [category_report("cs.LG", 4, 3)]
    folder = (
        make_bundle(measured=measured) if not hasattr(make_bundle, "made") else make_bundle.made
    )
    make_bundle.made = folder  # type: ignore[attr-defined]
    path = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*") if p.is_file())))
    original = path.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        path.write_bytes(changed)
        with pytest.raises((BundleCorrupt, BundleIncompatible)) as caught:
            load_bundle(folder)
    finally:
        path.write_bytes(original)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("change", [b" ", b"\n"])
def test_white_space_in_the_manifest_is_a_change(make_bundle: Make, change: bytes) -> None:
    path = make_bundle() / "bundle.json"
    path.write_bytes(path.read_bytes() + change)
    with pytest.raises(BundleCorrupt, match=r"bundle\.json has changed since it was written"):
        read_manifest(path.parent)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[" * 200_000, "it is not JSON"),
        (b"[1]", "it holds a list, not an object"),
    ],
)
def test_a_manifest_that_is_no_object_is_corrupt(
    make_bundle: Make, content: bytes, problem: str
) -> None:
    folder = make_bundle()
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleCorrupt, match=problem):
        read_manifest(folder)


def test_another_format_version_is_incompatible_and_both_are_named(make_bundle: Make) -> None:
    path = make_bundle() / "bundle.json"
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps({**value, "format_version": 7}), encoding="utf-8")
    with pytest.raises(BundleIncompatible, match=r"format version 7, this classmark reads 1, 2, 3"):
        load_bundle(path.parent)


def test_an_unknown_key_is_incompatible_although_the_digest_is_right(
    make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_bundle()
    manifest = read_manifest(folder)
    with monkeypatch.context() as patch:
        extended = {**manifest.to_dict(), "colour": "red"}
        patch.setattr(BundleManifest, "to_dict", lambda _: extended)
        (folder / "bundle.json").write_bytes(render_manifest(manifest))
    with pytest.raises(BundleIncompatible, match=r"bundle\.json.*colour"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["CARD.md", "arrays/weights.npy"])
def test_a_missing_file_is_named(make_bundle: Make, name: str) -> None:
    folder = make_bundle()
    (folder / name).unlink()
    with pytest.raises(BundleCorrupt, match=f"{Path(name).name} is missing"):
        load_bundle(folder)


def test_an_unexpected_file_is_refused(make_bundle: Make) -> None:
    folder = make_bundle()
    (folder / "arrays" / "more.npy").write_bytes(b"x")
    with pytest.raises(BundleCorrupt, match=r"more\.npy does not belong to the bundle"):
        load_bundle(folder)


def test_a_file_that_is_a_folder_is_corrupt(make_bundle: Make) -> None:
    folder = make_bundle()
    (folder / "CARD.md").unlink()
    (folder / "CARD.md").mkdir()
    with pytest.raises(BundleCorrupt, match=r"CARD\.md (cannot be read|has changed)"):
        load_bundle(folder)


def test_a_manifest_that_points_outside_of_its_folder_is_refused(make_bundle: Make) -> None:
    folder = make_bundle()
    manifest = read_manifest(folder)
    escape = {**manifest.files, "../../secret": BundleFile(sha256="0" * 64, bytes=1)}
    (folder / "bundle.json").write_bytes(render_manifest(replace(manifest, files=escape)))
    with pytest.raises(
        BundleCorrupt, match=r"lists a file outside of its folder, '\.\./\.\./secret'"
    ):
        load_bundle(folder)


def test_what_a_bundle_does_not_have_is_named(make_bundle: Make) -> None:
    bundle = load_bundle(make_bundle())
    with pytest.raises(BundleIncompatible, match=r"no array 'bias' \(it has weights\)"):
        bundle.array("bias")
    with pytest.raises(BundleIncompatible, match=r"no file 'NOTES\.md'"):
        bundle.content("NOTES.md")


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match=r"holds no bundle\.json"):
        load_bundle(tmp_path)


def test_a_manifest_that_cannot_be_read_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").mkdir()
    with pytest.raises(BundleCorrupt, match=r"bundle\.json cannot be read"):
        load_bundle(tmp_path)


def test_a_bundle_is_replaced_only_if_asked(tmp_path: Path, manifest: MakeManifest) -> None:
    write_bundle(tmp_path / "b", manifest(), {})
    with pytest.raises(StorageFailed, match="already exists"):
        write_bundle(tmp_path / "b", manifest(version="2.0"), {})
    assert load_bundle(tmp_path / "b").manifest.version == "1.0"
    write_bundle(tmp_path / "b", manifest(version="2.0"), {}, overwrite=True)
    assert load_bundle(tmp_path / "b").manifest.version == "2.0"


def test_a_failed_write_leaves_the_old_bundle(tmp_path: Path, manifest: MakeManifest) -> None:
    write_bundle(tmp_path / "b", manifest(), {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_bundle(tmp_path / "b", manifest(metrics={"x": float("nan")}), {}, overwrite=True)
    assert load_bundle(tmp_path / "b").manifest.version == "1.0"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "../x"}, r"bundle name '\.\./x'"),
        ({"version": "1.0rc1"}, "bundle version '1.0rc1'"),
        ({"labels": ("cs.LG",)}, "two or more labels"),
        ({"labels": ("cs.LG", "cs.LG")}, "all different"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_not_written(
    tmp_path: Path, manifest: MakeManifest, changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(InvalidConfig, match=problem):
        write_bundle(tmp_path / "b", manifest(**changes), {})
    assert not (tmp_path / "b").exists()


def test_a_policy_that_does_not_fit_the_labels_is_not_written(
    tmp_path: Path, manifest: MakeManifest
) -> None:
    good = manifest()
    short = replace(good.policy, thresholds=(0.5,))
    with pytest.raises(InvalidConfig, match="4 thresholds of each kind, got 1"):
        write_bundle(tmp_path / "b", replace(good, policy=short), {})
    cold = replace(good.policy, temperature=0.0)
    with pytest.raises(InvalidConfig, match=r"temperature must be above 0, got 0\.0"):
        write_bundle(tmp_path / "b", replace(good, policy=cold), {})


@pytest.mark.parametrize(
    "name", ["../up", "/root", "bundle.json", "arrays/x", ".hidden", "a//b", ""]
)
def test_a_file_name_that_is_not_plain_is_refused(
    tmp_path: Path, manifest: MakeManifest, name: str
) -> None:
    with pytest.raises(InvalidConfig, match="reserved or not a plain relative path"):
        write_bundle(tmp_path / "b", manifest(), {}, {name: "x"})


def test_an_array_of_objects_or_with_a_path_for_a_name_is_refused(
    tmp_path: Path, manifest: MakeManifest
) -> None:
    with pytest.raises(InvalidConfig, match="array 'w' of object cannot be stored"):
        write_bundle(tmp_path / "b", manifest(), {"w": np.array([None])})
    with pytest.raises(InvalidConfig, match=r"array '\.\./w'"):
        write_bundle(tmp_path / "b", manifest(), {"../w": np.ones(1)})


@not_on_windows
def test_a_reader_sees_the_old_bundle_or_the_new_one_never_a_mixture(
    tmp_path: Path, manifest: MakeManifest
) -> None:
    folder = tmp_path / "b"

    def write(i: int) -> None:
        write_bundle(
            folder, manifest(version=str(i)), {"w": np.full(9, i)}, {"CARD.md": str(i)}, True
        )

    write(0)
    writer = threading.Thread(target=lambda: [write(i) for i in range(1, 25)])
    writer.start()
    n_read = 0
    while writer.is_alive() or n_read == 0:
        # The folder is swapped by two renames; between them there is no bundle at all.
        with contextlib.suppress(BundleNotFound):
            bundle = load_bundle(folder)
            n_read += 1
            assert (bundle.array("w") == int(bundle.manifest.version)).all()
    writer.join()


def test_a_bundle_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, manifest: MakeManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmark.bundle import load

    write_bundle(tmp_path / "b", manifest(), {"w": np.zeros(3)})
    write_bundle(tmp_path / "new", manifest(version="2.0"), {"w": np.ones(3)})
    read_files = load._load
    swapped = []

    def swap_then_read(folder: Path, seen: BundleManifest) -> Bundle:
        if not swapped:
            shutil.rmtree(folder)
            (tmp_path / "new").rename(folder)
            swapped.append(True)
        return read_files(folder, seen)

    monkeypatch.setattr(load, "_load", swap_then_read)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.version == "2.0"
    assert (bundle.array("w") == 1).all()


def test_a_bundle_that_is_replaced_without_end_is_refused(
    tmp_path: Path, manifest: MakeManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmark.bundle import load

    write_bundle(tmp_path / "b", manifest(), {"w": np.zeros(3)})
    monkeypatch.setattr(load, "_is_still", lambda *_: False)
    with pytest.raises(BundleCorrupt, match=r"b was replaced 50 times while it was read\. Install"):
        load_bundle(tmp_path / "b")


_REPLACE = """
import threading
from classmark.bundle import find_bundle, load_bundle
from classmark.service.memory import own_bytes

loaded = [None, None]

def replace():
    loaded.pop(0)
    loaded.append(load_bundle(find_bundle("fast")))

for turn in range(12):
    thread = threading.Thread(target=replace)
    thread.start()
    thread.join()
    if turn in (3, 11):
        print(own_bytes("resident"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is resident")
def test_the_memory_of_a_replaced_bundle_goes_back_to_the_system() -> None:
    command = [sys.executable, "-c", _REPLACE]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 5_000_000  # from the heap it would be 50 million more
