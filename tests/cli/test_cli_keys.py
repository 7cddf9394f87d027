"""``classmark keys``: a key is shown once, then only its id."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.records import utc_text
from classmark.service.keys import KeyRing, read_keys, write_last_uses


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


def test_expiry_and_rate_are_kept_shown_and_listed(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path / "home"))
    made = run("create", "one", "--expires", "2990-06-30", "--rate", "90", "--file", file)
    (key,) = read_keys(Path(file))
    limits = "expires 2990-06-30T00:00:00.000Z, 90 a minute"
    assert made.stderr == f"key {key.id} allows classify, {limits}; it is not shown again.\n"
    write_last_uses({key.id: "2026-01-02T03:04:00.000Z"})
    write_last_uses({key.id: "2026-01-01T00:00:00.000Z", "gone": "2026-01-01T00:00:00.000Z"})
    used = "last used 2026-01-02T03:04:00.000Z"
    assert run("list", "--file", file).stdout.endswith(f"  one  ({limits}, {used})\n")
    (row,) = json.loads(run("list", "--file", file, "--json").stdout)
    assert (
        row.items()
        >= {
            "expires_at_utc": "2990-06-30T00:00:00.000Z",
            "rate_per_minute": 90.0,
            "last_used_at_utc": "2026-01-02T03:04:00.000Z",
        }.items()
    )
    for damaged in ("[]", "{", '{"version": 9}'):
        (tmp_path / "home" / "keys-used.json").write_text(damaged)
        (row,) = json.loads(run("list", "--file", file, "--json").stdout)
        assert row["last_used_at_utc"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--expires", "soon"), "--expires is 'soon', which is not a time. Give a period such as"),
        (
            ("--expires", "2020-01-01"),
            "would expire at 2020-01-01T00:00:00.000Z, which is in the past",
        ),
        (("--rate", "-1"), "the rate of a key cannot be -1 a minute"),
        (("--rate", "1e-300"), "the rate of a key cannot be 1e-300 a minute"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(file: str, options: tuple[str, ...], said: str) -> None:
    result = run("create", "one", *options, "--file", file)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not Path(file).exists()


def test_a_period_counts_from_now(file: str) -> None:
    before = utc_text(round((time.time() + 90 * 86_400) * 1000) - 1)
    made = json.loads(run("create", "x", "--expires", "90d", "--file", file, "--json").stdout)
    assert before <= made["expires_at_utc"] <= utc_text(round((time.time() + 7_776_000) * 1000))
