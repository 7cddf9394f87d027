"""``classmark registry``: from an empty folder to a champion, and back."""

from __future__ import annotations

import json
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.cli.registry.command import KEPT
from classmark.registry import Registry, registry
from file_server import answering
from registry_folders import report_of, write_tiny

with_signing = pytest.mark.skipif(
    find_spec("model_signing") is None, reason="the extra sign is not installed"
)
with_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the folder of an empty registry."""
    made = run(tmp_path / "registry", "init", "--who", "me@here")
    assert made.stdout == f"made {tmp_path / 'registry'}\n"
    return tmp_path / "registry"


@pytest.fixture
def two(place: Path, tmp_path: Path) -> list[str]:
    """Return the digests of two bundles of the registry that passed the gate."""
    found = []
    for version in ("1.0", "2.0"):
        folder = write_tiny(tmp_path / f"tiny-{version}", version)
        digest = json.loads(run(place, "add", str(folder), "--json").stdout)["digest"]
        Registry.open(place).keep_report(report_of(digest))
        found.append(digest)
    return found


def run(place: Path, *arguments: str) -> Result:
    command, *rest = arguments
    words = [command, rest.pop(0)] if command == "keys" else [command]
    return CliRunner().invoke(app, ["registry", *words, "--registry", str(place), *rest])


def test_the_default_of_gc_is_that_of_the_registry() -> None:
    assert KEPT == registry.KEPT


def test_a_bundle_goes_in_is_promoted_and_comes_back(place: Path, two: list[str]) -> None:
    assert run(place, "promote", "tiny@1.0", "--why", "first").stdout == (
        f"champion    tiny@1.0 ({two[0][:12]})\n"
    )
    assert run(place, "promote", two[1][:8]).stdout == (
        f"champion    tiny@2.0 ({two[1][:12]})\nbefore      tiny@1.0 ({two[0][:12]})\n"
    )
    assert run(place, "list").stdout == (
        f"tiny@1.0  {two[0][:12]}  unsigned  former\ntiny@2.0  {two[1][:12]}  unsigned  champion\n"
    )
    back = json.loads(run(place, "rollback", "--who", "ops", "--why", "worse", "--json").stdout)
    assert back["pointer"]["channels"]["champion"] == two[0]
    assert (back["event"]["who"], back["event"]["why"]) == ("ops", "worse")


def test_what_cannot_be_done_is_one_line_and_exit_code_1(place: Path, two: list[str]) -> None:
    result = run(place, "rollback")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: there is no champion to go back to")
    result = run(place, "promote", "latest")
    assert (result.exit_code, "the registry has no bundle 'latest'" in result.stderr) == (1, True)
    result = run(place, "promote", "tiny@1.0", "--force")
    assert (result.exit_code, "needs a reason" in result.stderr) == (2, True)
    result = run(place.with_name("nowhere"), "list")
    assert (result.exit_code, "classmark registry init" in result.stderr) == (1, True)


def test_list_of_an_empty_registry_says_how_to_add(place: Path) -> None:
    result = run(place, "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "classmark registry add" in result.stderr


def test_the_registry_is_below_the_home_of_classmark_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path))
    made = CliRunner().invoke(app, ["registry", "init", "--json"])
    assert json.loads(made.stdout) == {"path": str(tmp_path / "registry"), "sequence": 1}
    event = Registry.open(tmp_path / "registry").events()[0]
    assert "@" in event.who


def test_events_say_who_what_when_and_why(place: Path, two: list[str]) -> None:
    run(place, "promote", "tiny@1.0", "--force", "--why", "no data", "--who", "me")
    lines = run(place, "events").stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].split()[0] == "1"
    assert lines[-1].endswith(f"me       promote  {two[0][:12]}  forced: no data")
    last = json.loads(run(place, "events", "--last", "1", "--json").stdout)
    assert [event["action"] for event in last] == ["promote"]
    path = place / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"me@here", b"me@away"))
    result = run(place, "events")
    assert (result.exit_code, "line 2 does not follow" in result.stderr) == (1, True)


def test_show_has_the_lineage(place: Path, tmp_path: Path) -> None:
    from classmark.bundle import write_bundle
    from tiny_bundles import tiny_manifest

    provenance = {
        "dataset_digest": "d" * 64,
        "commit": "c" * 40,
        "config": {"model": {"kind": "linear"}},
        "seed": 7,
    }
    manifest = tiny_manifest("lin", "3.0", provenance=provenance, metrics={"all": {"top_1": 0.6}})
    write_bundle(tmp_path / "lin", manifest, {})
    digest = run(place, "add", str(tmp_path / "lin")).stdout.split()[1]
    Registry.open(place).keep_report(report_of(digest))
    run(place, "promote", "lin@3.0")
    shown = json.loads(run(place, "show", "champion", "--json").stdout)
    assert shown["dataset_digest"] == "d" * 64
    assert shown["config"] == {"model": {"kind": "linear"}}
    assert (shown["commit"], shown["seed"], shown["text_recipe"]) == ("c" * 40, 7, "1")
    assert shown["evaluation"] == {"all": {"top_1": 0.6}}
    assert shown["parents"] == {"champion_before": None}
    assert (place / "reports" / f"{shown['gate_report']}.json").is_file()
    text = run(place, "show", "lin@3.0").stdout
    assert "config.model.kind" in text
    assert "evaluation.all.top_1" in text


def test_show_names_the_models_that_a_bundle_is_made_of(place: Path, tmp_path: Path) -> None:
    from classmark.records import BundleManifest
    from classmark.registry.lineage import lineage
    from tiny_bundles import tiny_manifest

    member = {"name": "x", "version": "1", "digest": "a" * 64}
    cascade: BundleManifest = tiny_manifest(
        kind="cascade",
        parameters={"fast": member, "deep": {**member, "digest": "b" * 64}},
        provenance={"encoder": {"name": "minilm"}, "forgotten": {"digest": "f" * 64}},
    )
    assert lineage(cascade, [], "0" * 64)["parents"] == {
        "fast": "a" * 64,
        "deep": "b" * 64,
        "encoder": "minilm",
        "with_author": "f" * 64,
    }


def test_diff_shows_what_differs_and_nothing_else(place: Path, two: list[str]) -> None:
    result = json.loads(run(place, "diff", "tiny@1.0", "tiny@2.0", "--json").stdout)
    assert result["bundle"] == ["tiny@1.0", "tiny@2.0"]
    assert result["digest"] == two
    assert "kind" not in result
    assert run(place, "diff", "tiny@1.0", "tiny@1.0").stdout == "the same bundle.\n"
    assert "tiny@2.0" in run(place, "diff", "tiny@1.0", "tiny@2.0").stdout


def test_verify_counts_and_names_what_is_wrong(place: Path, two: list[str]) -> None:
    assert run(place, "verify").stdout == "2 bundles unchanged, 3 events in order.\n"
    path = place / "bundles" / two[0] / "CARD.md"
    path.write_text("# Other\n")
    result = run(place, "verify")
    assert (result.exit_code, "CARD.md has changed" in result.stdout) == (1, True)
    found = json.loads(run(place, "verify", "--json").stdout)
    assert [problem["file"] for problem in found["problems"]] == [f"bundles/{two[0]}"]


def test_gc_deletes_what_nothing_names(place: Path, two: list[str]) -> None:
    run(place, "promote", "tiny@1.0")
    run(place, "archive", "tiny@2.0")
    assert "0 bundles" not in run(place, "gc", "--keep", "0").stderr
    assert len(Registry.open(place).pointer().bundles) == 2
    result = run(place, "archive", "champion")
    assert (result.exit_code, "is the champion" in result.stderr) == (1, True)
    assert json.loads(run(place, "gc", "--json").stdout) == {"deleted": [], "kept": 2}
    result = run(place, "gc", "--keep", "-1")
    assert (result.exit_code, "0 or more" in result.stderr) == (2, True)


def test_gc_says_what_went(place: Path, two: list[str]) -> None:
    run(place, "promote", "tiny@1.0")
    result = run(place, "gc", "--keep", "0", "--why", "space")
    assert result.stdout == f"deleted     tiny@2.0 ({two[1][:12]})\n"
    assert not (place / "bundles" / two[1]).exists()


def test_events_name_what_was_archived_and_deleted(place: Path, two: list[str]) -> None:
    run(place, "archive", "tiny@1.0", "tiny@2.0", "--who", "me", "--why", "old")
    line = run(place, "events", "--last", "1").stdout.rstrip()
    assert line.endswith(f"me  archive  {two[0][:12]} {two[1][:12]}  old")


def test_archived_bundles_are_listed_as_such(place: Path, two: list[str]) -> None:
    assert run(place, "archive", "tiny@1.0", "--json").exit_code == 0
    assert run(place, "archive", "tiny@2.0").stdout == f"archived    tiny@2.0 ({two[1][:12]})\n"
    assert run(place, "list").stdout.count("archived") == 2
    listed = json.loads(run(place, "list", "--json").stdout)
    assert sorted(listed["archived"]) == sorted(two)


def test_a_canary_is_shown(place: Path, two: list[str]) -> None:
    run(place, "promote", "tiny@1.0")
    Registry.open(place).start_canary(two[1], percent=5, rules={}, who="me")
    assert "canary 5 %" in run(place, "list").stdout
    Registry.open(place).end_canary("rolled_back", {}, who="rules")
    assert "end canary: rolled back" in run(place, "events").stdout


@with_signing
def test_keys_sign_what_a_registry_that_trusts_them_takes(place: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["registry", "keys", "create", str(tmp_path / "key"), "--json"])
    name = json.loads(made.stdout)["fingerprint"]
    assert run(place, "keys", "trust", str(tmp_path / "key.pub")).stdout == f"trusted {name[:12]}\n"
    assert run(place, "keys", "list").stdout == f"{name}\n"
    assert json.loads(run(place, "keys", "list", "--json").stdout) == [name]
    folder = str(write_tiny(tmp_path / "tiny-1.0", "1.0"))
    result = run(place, "add", folder)
    assert (result.exit_code, "is not signed" in result.stderr) == (1, True)
    result = run(place, "add", folder, "--sign", str(tmp_path / "key"))
    assert result.stdout.endswith(", signed as number 1\n")
    assert "signed 1" in run(place, "list").stdout
    assert run(place, "verify").stdout == "1 bundle signed and unchanged, 3 events in order.\n"
    other = tmp_path / "other"
    assert CliRunner().invoke(app, ["registry", "keys", "create", str(other)]).exit_code == 0
    result = run(place, "verify", "--trusted-key", f"{other}.pub")
    assert (result.exit_code, "which is not trusted" in result.stdout) == (1, True)
    assert run(place, "keys", "revoke", name[:8]).stdout == f"revoked {name[:12]}\n"
    assert run(place, "keys", "list").stdout == ""


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import, in a process for each call
def test_mirror_keeps_the_aliases_of_mlflow_equal(
    place: Path, two: list[str], tmp_path: Path
) -> None:
    import sqlite3

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run(place, "promote", "tiny@1.0")
    first = run(place, "mirror", "--mlflow-uri", uri)
    assert first.stdout == "2 versions added, 0 deleted.\nchampion    version 1\n", first.stderr
    run(place, "promote", "tiny@2.0")
    run(place, "archive", "tiny@1.0")
    done = json.loads(run(place, "mirror", "--mlflow-uri", uri, "--json").stdout)
    assert done == {"added": 0, "deleted": 0, "aliases": {"champion": "2"}}
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        tags = dict(
            database.execute("select version, value from model_version_tags where key = 'digest'")
        )
        aliases = list(database.execute("select alias, version from registered_model_aliases"))
        archived = dict(
            database.execute("select version, value from model_version_tags where key = 'archived'")
        )
    assert tags == {1: two[0], 2: two[1]}
    assert aliases == [("champion", 2)]
    assert archived == {1: "true", 2: "false"}


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import
def test_a_store_that_cannot_be_used_is_one_line(place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database")
    result = run(place, "mirror", "--mlflow-uri", f"sqlite:///{tmp_path / 'file'}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: MLflow at sqlite:///{tmp_path / 'file'}: ")
    assert result.stderr.endswith(". Check its address, start it, then run this again.\n")


class _Refusing(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.send_response(403)
        self.end_headers()
        self.wfile.write(b'{"error_code": "PERMISSION_DENIED", "message": "not you"}')

    do_GET = do_POST  # noqa: N815 - the names of http.server


@with_mlflow
@pytest.mark.slow  # reason: MLflow takes seconds to import
def test_a_mirror_that_is_refused_ends_with_its_first_request(place: Path) -> None:
    with answering(ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)) as address:
        result = run(place, "mirror", "--mlflow-uri", address)
    assert result.exit_code == 1
    assert f"MLflow at {address}: PERMISSION_DENIED: not you. " in result.stderr
    assert [path.rpartition("/")[2] for path in _Refusing.asked] == ["create"]
