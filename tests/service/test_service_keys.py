"""API keys and rates, against a running service."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from classmark.errors import InvalidKeys, UsageError
from classmark.service import keys as keys_module
from classmark.service.keys import KeyRing, create_key, read_keys, revoke_key

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs."}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_the_file_holds_no_key_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, text = create_key(path, "page", ["classify"])
    assert text.startswith(f"cmk_{key.id}_")
    assert text not in path.read_text()
    assert text.rsplit("_", 1)[1] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert read_keys(path) == (key,)


def test_a_ring_finds_only_the_whole_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, text = create_key(path, "page", ["classify"])
    ring = KeyRing(path)
    assert ring.find(text) == key
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    for other in (wrong, text + "0", text.upper(), f"cmk_{key.id}_", "", "\udcff"):
        assert ring.find(other) is None


def test_a_ring_follows_the_file_and_takes_no_key_while_that_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_AGAIN_S", 0.0)
    path = tmp_path / "keys.json"
    first, text = create_key(path, "one", ["classify"])
    ring = KeyRing(path)
    _, other = create_key(path, "two", ["admin"])
    assert ring.find(other) is not None
    good = path.read_bytes()
    wrong_hash = good.replace(first.sha256.encode(), b"x" * 64)
    for damaged in (b"{", good[:-20], b"[]", good.replace(b"classify", b"root"), wrong_hash, None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        for _ in range(3):
            with pytest.raises(InvalidKeys):
                ring.find(text)
        path.write_bytes(good)
        assert ring.find(text) == first
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 6  # one for each time, however many requests met it
    assert errors[0].fields["detail"].startswith(f"{path} does not hold API keys, or is damaged")
    assert errors[-1].fields["detail"].startswith("there are no API keys at")


@pytest.mark.slow
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)])
def test_what_is_no_regular_file_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_AGAIN_S", 0.0)
    path = tmp_path / "keys.json"
    first, text = create_key(path, "one", ["classify"])
    ring = KeyRing(path)
    path.rename(tmp_path / "kept")
    make(path)
    with pytest.raises(InvalidKeys, match=r"is not a regular file|symbolic links"):
        ring.find(text)
    for command in ("list", "create x", "revoke x"):
        asked = [sys.executable, "-m", "classmark", "keys", *command.split(), "--file", str(path)]
        stated = subprocess.run(asked, capture_output=True, text=True, timeout=100, check=False)
        assert stated.returncode == 1, command
        assert stated.stderr.startswith("error: "), stated.stderr
        assert len(stated.stderr.splitlines()) == 1
    path.rename(tmp_path / "moved away")
    (tmp_path / "kept").rename(path)
    assert ring.find(text) == first


def test_a_file_that_stays_unreadable_is_logged_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_AGAIN_S", 0.0)
    path = tmp_path / "keys.json"
    _, text = create_key(path, "one", ["classify"])
    ring, now = KeyRing(path), time.monotonic()
    path.write_text("{")
    for after_s, n_lines in ((0, 1), (59, 1), (61, 2), (62, 2)):
        monkeypatch.setattr(time, "monotonic", lambda after_s=after_s: now + after_s)
        with pytest.raises(InvalidKeys):
            ring.find(text)
        assert len(caplog.records) == n_lines


def test_a_file_that_others_may_read_is_reported_and_closed_by_the_next_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "one", ["classify"])
    KeyRing(path)
    assert caplog.records == []
    path.chmod(0o644)
    KeyRing(path)
    (record,) = caplog.records
    assert record.fields["detail"] == f"others may read or write {path}. Run `chmod o= {path}`."
    create_key(path, "two", ["classify"])
    assert path.stat().st_mode & 0o777 == 0o640


_WATCHED = """
import os, sys
from pathlib import Path
from classmark.service.keys import create_key, revoke_key

path, seen, busy = Path(sys.argv[1]), set(), False

def look(event, _):
    global busy
    if busy or not event.startswith(("os.", "open")):
        return
    busy = True
    for entry in os.scandir(path.parent):
        seen.add((entry.name.split(".")[1], entry.stat().st_mode & 0o077))
    busy = False

os.umask(0)
sys.addaudithook(look)
key, _ = create_key(path, "one", ["classify"])
create_key(path, "two", ["classify"])
revoke_key(path, key.id)
look("os.end", None)
print(sorted(seen))
"""


@pytest.mark.slow
def test_no_file_of_keys_is_readable_by_others_for_a_moment(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(folder / "keys.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "[('json', 0), ('keys', 0)]\n"  # with and without a dot before it


_WRITER = """
import sys
from pathlib import Path
from classmark.service.keys import create_key, revoke_key

path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(20):
    key, _ = create_key(path, f"{n}", ["classify"])
    if n % 2:
        revoke_key(path, key.id)
        print("revoked", key.id)
    else:
        print("kept", key.id)
"""


@pytest.mark.slow
def test_processes_that_create_and_revoke_at_once_lose_and_revive_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old, _ = create_key(path, "old", ["admin"])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    said = [line.split() for writer in writers for line in writer.communicate()[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0] * 4
    kept = {identifier for word, identifier in said if word == "kept"}
    assert len(kept) == 40
    assert {key.id for key in read_keys(path)} == {old.id, *kept}


OWNER, OTHER = 12_001, 12_002


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder in which every user may write; needs root, to become other users."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp(prefix="classmark-keys-"))  # below tmp_path nobody else may look
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def as_user(uid: int, work: Callable[[], object]) -> Callable[[], str]:
    """Begin some work in a process of another user; returns what waits for its outcome."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)

    def outcome() -> str:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        return said

    return outcome


def owned_keys(folder: Path, mode: int = 0o600) -> tuple[Path, str]:
    """Return a file of keys of the user ``OWNER``, and a key."""
    path = folder / "keys.json"
    _, text = create_key(path, "one", ["classify"])
    os.chown(path, OWNER, OWNER)
    path.chmod(mode)
    return path, text


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o400])
def test_another_user_who_writes_the_file_keeps_its_owner_and_mode(
    open_folder: Path, mode: int
) -> None:
    path, text = owned_keys(open_folder, mode)
    create_key(path, "two", ["classify"])
    revoke_key(path, text.split("_")[1])
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (OWNER, OWNER, mode)
    assert as_user(OWNER, lambda: create_key(path, "three", ["admin"])[0].name)() == "three"


def test_a_key_that_root_revokes_is_refused_by_a_service_of_another_user(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_AGAIN_S", 0.0)
    path, text = owned_keys(open_folder)
    loaded, loaded_there = os.pipe()
    revoked_there, revoked = os.pipe()

    def serve() -> object:
        ring = KeyRing(path)
        before = ring.find(text) is not None
        os.write(loaded_there, b"x")
        os.read(revoked_there, 1)
        return before, ring.find(text)

    outcome = as_user(OWNER, serve)
    os.close(loaded_there)
    os.read(loaded, 1)
    revoke_key(path, text.split("_")[1])
    os.write(revoked, b"x")
    assert outcome() == "(True, None)"
    for end in (loaded, revoked_there, revoked):
        os.close(end)


def test_a_service_takes_no_key_from_a_file_that_it_may_no_longer_read(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "LOOK_AGAIN_S", 0.0)
    path, text = owned_keys(open_folder)
    loaded, loaded_there = os.pipe()
    closed_there, closed = os.pipe()

    def serve() -> object:
        ring = KeyRing(path)
        os.write(loaded_there, b"x")
        os.read(closed_there, 1)
        return ring.find(text)

    outcome = as_user(OWNER, serve)
    os.close(loaded_there)
    os.read(loaded, 1)
    os.chown(path, 0, 0)
    os.write(closed, b"x")
    assert outcome() == (
        f"InvalidKeys: the file of API keys {path} cannot be read (Permission denied). Let the "
        "user that this runs as read the file."
    )
    for end in (loaded, closed_there, closed):
        os.close(end)


def test_a_user_who_cannot_keep_the_owner_is_refused_and_changes_nothing(open_folder: Path) -> None:
    path, text = owned_keys(open_folder, 0o640)
    os.chown(path, OWNER, OTHER)
    before = path.read_bytes(), path.stat().st_ino, path.stat().st_ctime_ns
    for work in (
        lambda: revoke_key(path, text.split("_")[1]),
        lambda: create_key(path, "two", ["admin"]),
    ):
        assert as_user(OTHER, work)() == (
            f"StorageFailed: cannot write {path}: it belongs to user {OWNER} and group {OTHER}, "
            f"which user {OTHER} cannot keep so. Run the same as {OWNER} or root."
        )
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_ctime_ns) == before
    assert list(open_folder.iterdir()) == [path]


def test_what_cannot_be_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(InvalidKeys, match=r"no API keys at .*Make one with"):
        KeyRing(path)
    with pytest.raises(UsageError, match=r"unknown scope 'root'\. Use one or more of classify"):
        create_key(path, "x", ["root"])
    with pytest.raises(UsageError, match="the name of a key needs 1 to 80 characters"):
        create_key(path, " ", ["admin"])
    key, _ = create_key(path, "x", ["admin"])
    with pytest.raises(InvalidKeys, match=f"has no key 'nobody'; there is {key.id}"):
        revoke_key(path, "nobody")
    path.write_text('{"version": 9, "keys": []}')
    with pytest.raises(InvalidKeys, match="is of version 9, not 1"):
        read_keys(path)


@pytest.mark.slow
def test_each_scope_opens_its_own_addresses_and_a_revoked_key_none(
    start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    texts = {scope: create_key(path, scope, [scope])[1] for scope in ("classify", "admin")}
    with start("--workers", "1", "--api-keys", str(path)) as server, server.client() as client:

        def status(path: str, key: str | None, **options: Any) -> int:
            headers = bearer(key) if key else {}
            response = client.request(
                "POST" if options else "GET", path, headers=headers, **options
            )
            return int(response.status_code)

        assert [status(p, None) for p in ("/healthz", "/v1/categories", "/v2")] == [200] * 3
        assert status("/v1/classify", None, json=PAPER) == 401
        assert status("/v1/classify", "cmk_0_1", json=PAPER) == 401
        assert status("/v1/classify", texts["admin"], json=PAPER) == 403
        assert status("/v1/classify", texts["classify"], json=PAPER) == 200
        response = client.post("/v1/classify", json=PAPER, headers={"X-API-Key": texts["classify"]})
        assert response.status_code == 200
        assert status("/v1/feedback", texts["classify"], json={}) == 403
        assert [status(p, texts["classify"]) for p in ("/metrics", "/v1/status")] == [403] * 2
        assert [status(p, texts["admin"]) for p in ("/metrics", "/v1/status")] == [200] * 2
        challenge = client.get("/v1/status").headers["www-authenticate"]
        assert challenge == 'Bearer realm="classmark"'
        revoke_key(path, texts["classify"].split("_")[1])
        end = time.monotonic() + 30
        while status("/v1/classify", texts["classify"], json=PAPER) != 401:
            assert time.monotonic() < end
        assert texts["admin"] not in server.stderr()


@pytest.mark.slow
def test_without_its_file_of_keys_the_service_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "classmark", "serve", "--port", "0", "--api-keys"]
    result = subprocess.run(
        [*command, str(tmp_path / "none.json")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "there are no API keys at" in result.stderr


def test_only_a_file_with_a_new_kind_of_limit_is_of_a_new_version(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    plain, _ = create_key(path, "plain", ["admin"])
    document = json.loads(path.read_text())
    assert (document["version"], document["keys"][0].keys()) == (
        1,
        {"id", "name", "scopes", "created_at_utc", "sha256"},
    )
    limited, _ = create_key(path, "limited", ["admin"], rate_per_minute=0)
    assert json.loads(path.read_text())["version"] == 2
    assert read_keys(path) == (plain, limited)
    revoke_key(path, limited.id)
    assert json.loads(path.read_text()) == document


@pytest.mark.parametrize(
    "change", [{"expires_at_utc": "soon"}, {"rate_per_minute": -1}, {"rate_per_minute": "many"}]
)
def test_a_damaged_limit_of_a_key_is_not_taken_for_none(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "keys.json"
    create_key(path, "x", ["admin"])
    document = json.loads(path.read_text())
    document["keys"][0].update(change)
    path.write_text(json.dumps({**document, "version": 2}))
    with pytest.raises(InvalidKeys, match="does not hold API keys, or is damaged"):
        read_keys(path)


@pytest.mark.slow
def test_an_expired_key_is_refused_and_a_key_has_its_own_rate_and_last_use(
    start: Any, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    old_id, old = (made := create_key(path, "old", ["admin"]))[0].id, made[1]
    _, slow = create_key(path, "slow", ["admin"], rate_per_minute=0.01)
    free_id, free = (made := create_key(path, "free", ["admin"], rate_per_minute=0))[0].id, made[1]
    document = json.loads(path.read_text())
    document["keys"][0]["expires_at_utc"] = "2026-01-01T00:00:00.000Z"
    path.write_text(json.dumps(document))
    options = ("--workers", "2", "--api-keys", str(path), "--rate-per-minute", "0.5")
    with start(*options, "--rate-burst", "2") as server, server.client() as client:

        def ask(key: str) -> httpx.Response:
            return client.get("/metrics", headers={"X-API-Key": key})

        refused = ask(old)
        assert (refused.status_code, refused.json()["kind"]) == (401, "key_expired")
        assert f"key {old_id} expired at 2026-01-01" in refused.json()["detail"]
        assert [ask(slow).status_code for _ in range(3)] == [200, 200, 429]
        assert "more than 0.01 requests a minute" in ask(slow).json()["detail"]
        text = [ask(free).text for _ in range(9)][-1]
        (line,) = re.findall(rf'^classmark_key_last_use_.*"{free_id}"}} (.*)$', text, re.M)
        assert time.time() - float(line) < 200
        assert f'"{old_id}"' not in text
        assert server.stop() == 0
    used = json.loads((tmp_path / "server" / "home" / "keys-used.json").read_text())
    assert free_id in used["last_used_at_utc"]
    assert old_id not in used["last_used_at_utc"]
