"""``classmark keys``: a key is shown once, then only its id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.service.keys import KeyRing, read_keys


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "keys.json")


def test_create_prints_the_key_alone_and_says_what_it_allows(file: str) -> None:
    result = run("create", "the page", "--scope", "classify", "--scope", "feedback", "--file", file)
    text = result.stdout.strip()
    (key,) = read_keys(Path(file))
    assert KeyRing(Path(file)).find(text) == key
    assert (key.name, key.scopes) == ("the page", ("classify", "feedback"))
    assert result.stderr == f"key {key.id} allows classify, feedback; it is not shown again.\n"


def test_create_as_json_has_the_key_and_its_id(file: str) -> None:
    made = json.loads(run("create", "x", "--file", file, "--json").stdout)
    assert made["key"].startswith(f"cmk_{made['id']}_")
    assert made["scopes"] == ["classify"]


def test_list_aligns_and_never_shows_a_key(file: str) -> None:
    text = run("create", "one", "--file", file).stdout.strip()
    run("create", "two", "--scope", "classify", "--scope", "admin", "--file", file)
    first, second = read_keys(Path(file))
    result = run("list", "--file", file)
    assert result.stdout.splitlines() == [
        f"{first.id}  classify        {first.created_at_utc}  one",
        f"{second.id}  classify,admin  {second.created_at_utc}  two",
    ]
    listed = json.loads(run("list", "--file", file, "--json").stdout)
    assert [row["name"] for row in listed] == ["one", "two"]
    assert text not in result.stdout + json.dumps(listed)


def test_revoke_takes_the_key_out(file: str) -> None:
    run("create", "one", "--file", file)
    (key,) = read_keys(Path(file))
    assert run("revoke", key.id, "--file", file).stdout == f"revoked {key.id} (one).\n"
    assert read_keys(Path(file)) == ()
    result = run("revoke", key.id, "--file", file)
    assert result.exit_code == 1
    assert f"has no key '{key.id}'; there is none." in result.stderr


def test_the_file_is_in_the_home_folder_if_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path))
    assert run("list").exit_code == 1
    run("create", "one")
    assert len(read_keys(tmp_path / "keys.json")) == 1
    result = run("create", "one", "--scope", "root")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown scope 'root'" in result.stderr
