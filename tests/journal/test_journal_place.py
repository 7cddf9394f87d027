"""Where a journal is: addresses are read as libpq reads them, and never show a password."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import InvalidConfig, MissingExtra
from classmark.journal import Address, JournalConfig, place_of
from classmark.journal.place import in_clear, without_passwords

SECRET = "s3cret"
# Hides its own argument, and prints what other processes see of it.
TITLE = """
import sys
from classmark.journal.place import hide_password
hide_password(sys.argv[1])
print(open("/proc/self/cmdline").read().replace(chr(0), " "))
"""


def test_a_file_is_a_path_and_an_address_is_not() -> None:
    assert place_of("journal.sqlite") == Path("journal.sqlite")
    assert place_of("postgresql:/no/address") == Path("postgresql:/no/address")
    assert isinstance(place_of("postgres://host/name"), Address)
    assert isinstance(place_of("PostgreSQL://host/name"), Address)


@given(
    user=st.text("abcdefgh_@:/%ä ", min_size=1),
    password=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
    database=st.text("abcdefgh_:%ä ?#", min_size=1),
    port=st.none() | st.integers(1, 65_535),
)
def test_every_part_of_an_address_arrives_and_the_password_is_not_shown(
    user: str, password: str, database: str, port: int | None
) -> None:
    parts = [quote(part, safe="") for part in (user, f"{SECRET}{password}", database)]
    url = f"postgresql://{parts[0]}:{parts[1]}@db.example{f':{port}' if port else ''}/{parts[2]}"
    address = Address(url)
    assert address.parameters["user"] == user
    assert address.parameters["password"] == SECRET + password
    assert address.parameters["dbname"] == database
    assert address.parameters.get("port") == (str(port) if port else None)
    assert place_of(in_clear(address)) == address
    assert hash(place_of(in_clear(address))) == hash(address)
    config = JournalConfig(path=address)
    shown = f"{address} {address!r} {config} {asdict(config)} {without_passwords(url)}"
    assert SECRET not in shown


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}/x@host/db",
        f"postgresql://u:12/{SECRET}@host/db",
        f"postgresql://u:12?{SECRET}@host/db",
        f"postgresql://u:12?{SECRET}=x@host/db",
        f"postgresql://u:{SECRET}#x@host/db",
        f"postgresql://u:{SECRET}@host",
        f"postgresql://u:{SECRET}@host:port/db",
        f"postgresql://u@host/db?password={SECRET}",
        f"postgresql://u@host/db?options=-c%20{SECRET}",
        f"postgresql://u:{SECRET}%00@host/db",
        f"postgresql://[{SECRET}",
    ],
)
def test_a_malformed_address_is_refused_without_a_part_of_it(url: str) -> None:
    with pytest.raises(InvalidConfig, match=r"Give postgresql://USER:PASSWORD@HOST") as caught:
        place_of(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+psycopg", "POSTGRESQL+psycopg2", "s3"])
def test_an_address_of_something_else_is_refused_without_its_password(scheme: str) -> None:
    url = f"{scheme}://u:{SECRET}@host/db"
    said = f"cannot be at an address that begins with {re.escape(scheme.lower())}://. Give a file,"
    with pytest.raises(InvalidConfig, match=said) as caught:
        place_of(url)
    assert SECRET not in str(caught.value)


def test_parameters_of_libpq_are_passed_on() -> None:
    address = Address("postgresql:///name?host=/run/postgresql&sslmode=require")
    expected = {"dbname": "name", "host": "/run/postgresql", "sslmode": "require"}
    assert address.parameters == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"serve --journal postgresql://u:{SECRET}@h/db -q",
            "serve --journal postgresql://u:***@h",
        ),
        (f"X=postgres://u:{SECRET}@{SECRET}@h/db", "X=postgres://u:***@h/db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        (f"POSTGRES+psycopg://u:{SECRET}@h/db", "POSTGRES+psycopg://u:***@h/db"),
        ("mail to u:p@h", "mail to u:p@h"),
    ],
)
def test_a_text_loses_its_passwords(text: str, expected: str) -> None:
    assert without_passwords(text).startswith(expected)
    assert SECRET not in without_passwords(text)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux allows that")
def test_the_command_line_of_a_process_loses_its_password() -> None:
    url = f"postgresql://u:{SECRET}@host/db"
    found = subprocess.run(
        [sys.executable, "-c", TITLE, url], capture_output=True, text=True, check=True
    )
    assert SECRET not in found.stdout
    assert f"postgresql://u:{'*' * len(SECRET)}@host/db" in found.stdout


def test_a_database_has_no_largest_size() -> None:
    with pytest.raises(InvalidConfig, match="--journal-keep-days"):
        JournalConfig(path=Address("postgresql://h/db"), max_bytes=1 << 30)


def run_without_driver(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "psycopg").mkdir()
    (tmp_path / "psycopg/__init__.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-m", "classmark", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.slow  # starts the command line
@pytest.mark.parametrize("words", [("serve", "--port", "0"), ("journal", "status")])
def test_without_the_driver_the_error_says_what_to_install(
    tmp_path: Path, words: tuple[Any, ...]
) -> None:
    done = run_without_driver(tmp_path, *words, "--journal", f"postgresql://u:{SECRET}@h/db")
    assert done.returncode == MissingExtra.exit_code
    (line,) = done.stderr.splitlines()
    assert "pip install 'classmark[postgres]'" in line
