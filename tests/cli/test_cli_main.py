"""The entry: versions at once, verbs without weight, and every error as one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from classmark import __version__
from classmark.__main__ import main
from classmark.bundle import find as find_module
from classmark.bundle import read_digest
from classmark.cli import app as app_module
from classmark.cli.app import VERBS, Verb, app
from classmark.errors import StorageFailed, UsageError

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_home: Path) -> None:
    monkeypatch.setattr(find_module, "_WHEEL_FOLDER", tmp_path / "no-wheel")


@pytest.fixture(autouse=True)
def own_sigint() -> Iterator[None]:
    """Give pytest its Ctrl-C back after a test that ran ``main`` in its process."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a verb which raises an error."""

    def run(error: BaseException, *arguments: str) -> Result:
        module = ModuleType("failing_verb")

        def register(group: typer.Typer) -> None:
            @group.command()
            def fail() -> None:
                raise error

        module.register = register  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "failing_verb", module)
        monkeypatch.setitem(VERBS, "fail", Verb("failing_verb", "Fail."))
        return CliRunner().invoke(app, ["fail", *arguments])

    return run


def test_version_names_code_and_model(
    make_bundle: Make, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    digest = read_digest(make_bundle("fast", "9.0"))
    expected = f"classmark {__version__}, model fast 9.0 (sha256 {digest[:8]})\n"
    monkeypatch.setattr(sys, "argv", ["classmark", "--version"])
    main()
    assert capsys.readouterr().out == expected
    assert CliRunner().invoke(app, ["--version"]).stdout == expected


def test_version_says_if_there_is_no_model_or_a_damaged_one(make_bundle: Make) -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == (
        f"classmark {__version__}, no model is installed\n"
    )
    (make_bundle("fast", "9.0") / "bundle.json").write_text("{}")
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert "the default model is damaged: " in result.stdout


def test_version_imports_neither_numpy_nor_typer(make_bundle: Make) -> None:
    make_bundle("fast", "9.0")
    code = (
        "import sys; sys.argv = ['classmark', '--version']\n"
        "from classmark.__main__ import main\n"
        "main()\n"
        "print(sorted({'numpy', 'typer', 'rich', 'dataclasses'} & set(sys.modules)))"
    )
    # Where coverage is measured it comes along into every process, and brings dataclasses.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_PROCESS")}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines()[1] == "[]"


def test_help_lists_every_verb_without_numpy() -> None:
    code = (
        "import sys; sys.argv = ['classmark', '--help']\n"
        "from classmark.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for name, verb in VERBS.items():
        assert f"  {name}" in done.stdout
        assert verb.help in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["classmark", "models", "list"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_plain_help_without_options_of_the_shell(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"{name} [OPTIONS]" in result.stdout
    assert result.stdout.isascii()
    assert "--install-completion" not in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--version"], ["models", "list"], ["models", "show", "x"]])
def test_a_terminal_of_few_characters_gets_its_answer(
    make_bundle: Make, arguments: list[str]
) -> None:
    make_bundle("x", "1.0", labels=("Größe", "b"), provenance={"period": "α–ω"})
    done = subprocess.run(
        [sys.executable, "-m", "classmark", *arguments],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout
    assert done.stderr == ""


def test_a_mistyped_verb_suggests_the_right_one() -> None:
    result = CliRunner().invoke(app, ["clasify"])
    assert result.exit_code == 2
    assert "No such command 'clasify'. Did you mean 'classify'?" in result.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["models", "list", "--nope"])
    assert result.exit_code == 2
    assert "No such option: --nope" in result.stderr


@pytest.mark.parametrize(
    ("error", "line", "exit_code"),
    [
        (StorageFailed("disk full."), "error: disk full.", 1),
        (UsageError("--top is 0."), "error: --top is 0.", 2),
        (KeyboardInterrupt(), "interrupted: nothing is left half-written.", 130),
        (
            OSError(errno.EACCES, "Permission denied", "x.csv"),
            "error: x.csv: Permission denied. Check the path, its permissions and the disk.",
            1,
        ),
        (
            OSError(errno.EIO, "Input/output error"),
            "error: Input/output error. Check the path, its permissions and the disk.",
            1,
        ),
        (MemoryError(), "error: out of memory. Close other programs, or give it less at once.", 1),
        (
            ValueError("two\nlines"),
            "internal error: ValueError: two lines. Run again with --debug for the traceback.",
            1,
        ),
    ],
)
def test_every_error_is_one_line_and_an_exit_code(
    fail_with: Callable[..., Result], error: BaseException, line: str, exit_code: int
) -> None:
    result = fail_with(error)
    assert (result.stderr, result.exit_code) == (line + "\n", exit_code)
    assert result.stdout == ""


@pytest.mark.parametrize("verb_first", [True, False])
def test_debug_shows_the_traceback_wherever_it_stands(
    fail_with: Callable[..., Result], verb_first: bool
) -> None:
    if verb_first:
        result = fail_with(ValueError("here"), "--debug")
    else:
        fail_with(ValueError("here"))
        result = CliRunner().invoke(app, ["--debug", "fail"])
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert "internal error: ValueError: here" in result.stderr
    assert result.exit_code == 1


def test_debug_after_two_dashes_is_a_text() -> None:
    result = CliRunner().invoke(app, ["models", "path", "--", "--debug"])
    assert "'--debug' does not name a model" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_pipe_is_silent(fail_with: Callable[..., Result]) -> None:
    result = fail_with(BrokenPipeError())
    assert (result.exit_code, result.stderr, result.stdout) == (app_module.BROKEN_PIPE, "", "")


def test_an_exit_of_a_verb_is_kept(fail_with: Callable[..., Result]) -> None:
    result = fail_with(typer.Exit(7))
    assert (result.exit_code, result.stderr) == (7, "")


CLASSIFY = "classify 'We colour sparse graphs with few colours.'"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
@pytest.mark.parametrize("arguments", ["--version", "models list", CLASSIFY])
@pytest.mark.parametrize(
    ("redirection", "exit_code", "error"),
    [
        (">&-", 1, "error: standard output is closed. Redirect it to a file, or to /dev/null.\n"),
        (">/dev/full", 1, "error: No space left on device. Check the path, its permissions and "),
        ("2>&- <&-", 0, ""),
    ],
)
def test_a_closed_stream_is_one_line_at_most(
    arguments: str, redirection: str, exit_code: int, error: str
) -> None:
    result = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m classmark {arguments} {redirection}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (exit_code, exit_code)
    assert result.stderr.startswith(error)
    assert bool(result.stdout) == (exit_code == 0)
