"""A manifest with right digests says what makes sense, or the bundle is refused in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark.bundle import load_bundle, read_manifest, write_bundle
from classmark.bundle.find import list_bundles, read_header
from classmark.errors import BundleCorrupt, BundleIncompatible, InvalidConfig
from classmark.records import BundleManifest
from spoilt_bundles import npy, npy_with_header, rewrite, setting

Make = Callable[..., Path]
MakeManifest = Callable[..., BundleManifest]

HEADER = "{'descr': '|i1', 'fortran_order': False, 'shape': (3, 4), }"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (setting("name", to="x\r\nset-cookie: a=b"), r"bundle name 'x\\r\\nset-cookie"),
        (setting("name", to="ṫiny"), "bundle name"),
        (setting("name", to="x" * 65), "at most 64 characters"),
        (setting("name", to=["tiny"]), r"bundle name \['tiny'\]"),
        (setting("version", to="1.0\n"), r"bundle version '1\.0\\n'"),
        (setting("version", to=1), "bundle version 1 must be"),
        (setting("kind", to="linear\x1b[2J"), r"kind 'linear\\x1b\[2J' must be printable"),
        (setting("taxonomy", to=None), "taxonomy None must be printable"),
        (setting("label_space", to="Arxiv"), "label_space 'Arxiv' must be arxiv or free"),
        (setting("labels", to="abcd"), "labels are 'abcd', they must be a list"),
        (setting("labels", 0, to="cs.LG\u202e"), r"label 'cs\.LG\\u202e' must be printable"),
        (setting("labels", 0, to=""), "label '' must be printable"),
        (setting("labels", 0, to=" cs.LG"), "label ' cs.LG' must be printable"),
        (setting("labels", 0, to="x" * 201), "at most 200"),
        (setting("labels", 0, to=7), "label 7 must be printable"),
        (setting("labels", 0, to="hep-th"), r"all different; got 4, 'hep-th' more than once"),
        (setting("labels", to=[str(i) for i in range(10_001)]), "at most 10,000 labels"),
        (setting("policy", "thresholds", to=[0.5] * 3), "needs 4 thresholds of each kind, got 3"),
        (setting("policy", "thresholds", 1, to=1.5), "thresholds must be within 0..1, got 1.5"),
        (setting("policy", "thresholds", 1, to=True), "thresholds must be within 0..1, got True"),
        (setting("policy", "thresholds", 1, to="1"), "thresholds must be within 0..1, got '1'"),
        (setting("policy", "thresholds", to={"0": 1}), "must be lists"),
        (setting("policy", "cross_list_thresholds", 0, to=-0.1), "cross_list_thresholds must be"),
        (setting("policy", "temperature", to=0), "temperature must be above 0, got 0"),
        (setting("policy", "temperature", to=10**400), "temperature must be above 0, got 1000"),
        (setting("policy", "temperature", to=1e-300), "temperature must be above 0, got 1e-300"),
        (setting("policy", "set_coverage", to=1.1), "set_coverage must be within 0..1, got 1.1"),
        (setting("policy", "set_threshold", to=None), "set_threshold must be within 0..1"),
        (setting("policy", "author_set_threshold", to=2), "author_set_threshold must be within"),
        (setting("policy", "set_terms", to=1.5), "set_terms must be a whole number within 0..1000"),
        (setting("policy", "set_terms", to=-1), "set_terms must be a whole number within 0..1000"),
        (setting("policy", "scope_weights", to=[0, 0]), "scope_weights must be 3 numbers"),
        (setting("policy", "scope_weights", 2, to=1e300), "scope_weights must be 3 numbers"),
        (setting("policy", "scope_threshold", to="-1"), "scope_weights must be 3 numbers"),
        (setting("policy", to=[]), "not of format 3"),
        (setting("policy", "colour", to=1), "colour"),
        (setting("files", to=[]), "not of format 3"),
        (setting("files", "CARD.md", "bytes", to=-1), "size of 'CARD.md' must be a whole number"),
        (setting("files", "CARD.md", "bytes", to=7.0), "size of 'CARD.md' must be a whole number"),
        (setting("files", "CARD.md", "bytes", to=1 << 40), "at most 2,147,483,647 bytes in all"),
        (setting("files", "CARD.md", "sha256", to="0" * 63), "64 hexadecimal digits"),
        (setting("files", "arrays/x/w.npy", to={"sha256": "0" * 64, "bytes": 1}), "arrays/NAME"),
        (
            lambda v: v["files"].update({f"f{i}": v["files"]["CARD.md"] for i in range(1000)}),
            "1000",
        ),
        (setting("parameters", to=[1]), "parameters is .1., it must be an object"),
        (setting("metrics", to="good"), "metrics is 'good', it must be an object"),
        (setting("provenance", to=None), "provenance is None, it must be an object"),
        (setting("columns", to=[1]), "columns is .1., it must be an object"),
        (setting("columns", to={"title": 1}), "column 1 of 'title' must be the name of a column"),
        (setting("columns", to={"title": ""}), "column '' of 'title' must be the name of a"),
        (lambda v: v.pop("provenance"), "it lacks fields that every bundle has"),
        (lambda v: v["policy"].pop("set_coverage"), "it lacks fields that every bundle has"),
        (setting("format_version", to=True), "format version True, this classmark reads 1, 2, 3"),
        (setting("format_version", to=1.0), r"format version 1\.0, this classmark reads 1, 2, 3"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_although_its_digest_is_right(
    make_bundle: Make, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    folder = rewrite(make_bundle(), change)
    with pytest.raises(BundleIncompatible, match=problem) as caught:
        load_bundle(folder)
    assert "bundle.json" in str(caught.value)
    assert "nstall" in str(caught.value)
    assert str(caught.value).isprintable()


def text_of(folder: Path) -> str:
    return (folder / "bundle.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"temperature": 1.0', '"temperature": NaN'),
        ('"temperature": 1.0', '"temperature": 1e999'),
        ('"temperature": 1.0', '"temperature": -Infinity'),
        ('"temperature": 1.0', '"temperature": 1.0, "temperature": 1.0'),
        ('"temperature": 1.0', '"temperature": ' + "9" * 5000),
        ('"tiny"', '"\\ud800"'),
        ('"metrics": {}', '"metrics": ' + '{"a": ' * 500 + "1" + "}" * 500),
    ],
)
def test_a_spelling_that_was_never_written_is_corrupt(
    make_bundle: Make, old: str, new: str
) -> None:
    folder = make_bundle()
    assert old in text_of(folder)
    (folder / "bundle.json").write_text(text_of(folder).replace(old, new), "utf-8")
    with pytest.raises(BundleCorrupt, match=r"bundle\.json has changed since it was written"):
        load_bundle(folder)


def test_a_manifest_that_is_too_large_is_not_read(make_bundle: Make) -> None:
    folder = make_bundle()
    with (folder / "bundle.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: reading it all would end the process
    with pytest.raises(BundleCorrupt, match=r"bundle\.json has 1,099,511,627,776 bytes, more than"):
        load_bundle(folder)
    with pytest.raises(BundleCorrupt, match="more than"):
        read_header(folder)


@pytest.mark.parametrize("key", ["name", "version", "digest"])
@pytest.mark.parametrize("value", ["\x1b]0;pwned\x07", "a\nb", "", 7, None, ["x"]])
def test_a_header_that_a_terminal_would_obey_is_refused_before_it_is_shown(
    make_bundle: Make, key: str, value: object
) -> None:
    folder = make_bundle()
    manifest = json.loads((folder / "bundle.json").read_bytes())
    (folder / "bundle.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(BundleCorrupt, match="damaged or unreadable"):
        read_header(folder)
    assert [bundle.spec for bundle in list_bundles() if bundle.path == folder] == ["tiny@1.0"]


@pytest.mark.parametrize("name", [".DS_Store", ".weights", "arrays/._weights.npy", ".git/config"])
def test_a_hidden_file_is_refused_and_said_to_be_deleted(make_bundle: Make, name: str) -> None:
    folder = make_bundle()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"left by a file manager, or the weights of a network")
    with pytest.raises(BundleCorrupt, match=r"is hidden and does not belong.*Delete it"):
        load_bundle(folder)


@pytest.mark.parametrize("place", ["inside", "outside", "nowhere"])
@pytest.mark.parametrize("name", ["CARD.md", "arrays", "bundle.json", "arrays/weights.npy"])
def test_a_link_in_a_bundle_is_refused_wherever_it_leads(
    make_bundle: Make, tmp_path: Path, name: str, place: str
) -> None:
    folder = make_bundle()
    target = folder / "other" if place == "inside" else tmp_path / "other"
    (folder / name).rename(target)
    if place == "nowhere":
        target.rename(tmp_path / "gone")
    (folder / name).symlink_to(target)
    with pytest.raises(BundleCorrupt, match=r"(is a symbolic link|does not belong)"):
        load_bundle(folder)


def test_the_folder_itself_may_be_a_link(make_bundle: Make, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(make_bundle())
    assert load_bundle(tmp_path / "current").manifest.name == "tiny"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["CARD.md", "bundle.json"])
def test_a_pipe_is_refused_and_not_waited_for(make_bundle: Make, name: str) -> None:
    folder = make_bundle()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleCorrupt, match="it is not a regular file"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY\x01\x00\x05\x00{'a':",
        npy(np.array([None])),
        npy(np.asfortranarray(np.ones((3, 4)))),
        npy(np.ones(3)) + b"\0",
        npy(np.ones(3))[:-1],
        npy_with_header(HEADER.encode(), b"\0" * 12, b"\x09\x00"),
        npy_with_header(HEADER.replace("(3, 4)", "(-3, -4)").encode(), b"\0" * 12),
        npy_with_header(HEADER.replace("(3, 4)", "(3, 4, 10**99)").encode(), b"\0" * 12),
        npy_with_header(HEADER.replace("(3, 4)", "(1,) * 99").encode(), b"\0"),
        npy_with_header(HEADER.replace("|i1", "O").encode(), b"\0" * 12),
        npy_with_header(HEADER.replace("|i1", "|V0").encode(), b""),
        npy_with_header(HEADER.replace("|i1", "<i4").encode() + b"  ", b"\0" * 48),
        npy_with_header(b"-" * 9000, b""),
        npy_with_header(b"[" * 9000, b""),
        npy_with_header(b"\xff\xfe", b""),
    ],
)
def test_a_file_that_is_no_plain_array_is_refused_although_its_digest_is_right(
    make_bundle: Make, content: bytes
) -> None:
    folder = rewrite(make_bundle(), files={"arrays/weights.npy": content})
    with pytest.raises(BundleIncompatible, match=r"weights\.npy: it is not an array"):
        load_bundle(folder)


def test_what_a_bundle_is_refused_for_is_not_written_either(
    tmp_path: Path, manifest: MakeManifest
) -> None:
    unsafe = manifest(labels=("cs.LG\u202e", "hep-th", "math.CO", "stat.ML"))
    with pytest.raises(InvalidConfig, match=r"label 'cs\.LG\\u202e' must be printable"):
        write_bundle(tmp_path / "b", unsafe, {})


def test_a_bundle_that_is_written_is_never_refused_when_it_is_read(
    tmp_path: Path, manifest: MakeManifest
) -> None:
    labels = ("Économie & Droit", "физика", "数学", "a b")
    written = write_bundle(
        tmp_path / "b", manifest(labels=labels, label_space="free", taxonomy=""), {"w": np.ones(3)}
    )
    assert read_manifest(tmp_path / "b") == written
