"""A real PostgreSQL in a temporary folder: as Debian installs it, run by a user without rights."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

USER, PASSWORD = "writer", "s3cret/with @signs?&#:%"
ADMINISTRATOR, _ADMINISTRATOR_PASSWORD = "boss", "boss-password"
_HOST = "127.0.0.1"
_PATIENCE_S = 60.0
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
# Texts are not in the order of their bytes, unless a column says so.
_ENGLISH = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
_QUIET = {"max_connections": 40, "shared_buffers": "16MB", "fsync": "off", "jit": "off"}


class PostgresServer:
    """One server. Its journals are in databases of their own."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.data, self._programs = folder, folder / "data", programs
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._open: list[Any] = []
        password = folder / "password"
        password.write_text(_ADMINISTRATOR_PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, password):
                shutil.chown(path, "nobody")
        words = ["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]
        words += [f"--username={ADMINISTRATOR}", f"--pwfile={password}"]
        self._run("initdb", f"--pgdata={self.data}", *words)

    def start(self) -> None:
        """Start it, and wait until it answers; one that was killed may leave processes."""
        deadline = time.monotonic() + _PATIENCE_S
        settings = {**_QUIET, "listen_addresses": _HOST, "port": self.port}
        settings |= {"unix_socket_directories": self.folder}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = self._command("postgres", "-D", str(self.data), *words)
        while True:
            if self._process is None or self._process.poll() is not None:
                with (self.folder / "server.log").open("ab") as log:
                    self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
            try:
                self.run("SELECT 1")
            except Exception:
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """Kill it as a machine that fails does."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """Stop it in order, cutting off who is connected."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the administrator; return the rows of the last one."""
        with self._connect(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def hold(self, statement: str, database: str) -> None:
        """Run a statement in a transaction that stays open until the end of the test."""
        self._open.append(self._connect(database))
        self._open[-1].execute("BEGIN")
        self._open[-1].execute(statement)

    def release(self) -> None:
        """End what ``hold`` began."""
        while self._open:
            self._open.pop().close()

    def _connect(self, database: str) -> Any:
        import psycopg  # not at the top: tests without it must be collected

        login = {"user": ADMINISTRATOR, "password": _ADMINISTRATOR_PASSWORD, "dbname": database}
        return psycopg.connect(host=_HOST, port=self.port, autocommit=True, **login)  # type: ignore[arg-type]

    def database(self, *, may_create: bool = True, options: str = "") -> str:
        """Make an empty database, and return its address for a user who may only use it."""
        name = f"journal_{next(self._numbers)}"
        roles = self.run("SELECT rolname FROM pg_roles")
        if (USER,) not in roles:
            self.run(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self.run(f"CREATE DATABASE {name} {_ENGLISH} {options}")
        if may_create:
            self.run(f"GRANT CREATE ON DATABASE {name} TO {USER}")
        return self.address(name)

    def address(self, database: str, *, password: str = PASSWORD, user: str = USER) -> str:
        """Return the address of a database, which may not exist."""
        return f"postgresql://{user}:{quote(password, safe='')}@{_HOST}:{self.port}/{database}"

    def _command(self, program: str, *words: str) -> list[str]:
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
        return [*(as_nobody if os.geteuid() == 0 else []), str(self._programs / program), *words]

    def _run(self, program: str, *words: str) -> None:
        command = self._command(program, *words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Return a server; without one the tests that need it are skipped, but in CI they fail."""
    try:
        import psycopg  # noqa: F401 - whether it is there
    except ImportError:
        _give_up("psycopg is not installed. Run: pip install 'classmark[postgres]'")
    if not _FOLDERS or os.name == "nt":
        _give_up("there is no PostgreSQL. Run: make system-deps")
    folder = Path(tempfile.mkdtemp(prefix="classmark-pg-", dir="/tmp"))
    try:
        server = PostgresServer(folder, _FOLDERS[0])
        yield server
        server.kill()  # in order would take seconds
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Return a server that runs, whatever the test before made of it."""
    postgres_server.start()
    yield postgres_server
    postgres_server.release()


def _give_up(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        return int(listener.getsockname()[1])
