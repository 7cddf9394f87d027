"""The app: verbs that load when they are called, and errors that become one line."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from classmark.cli.interrupt import INTERRUPTED, INTERRUPTED_LINE, ignore_interrupts, was_pressed
from classmark.cli.output import print_error, silence_stdout
from classmark.cli.version import version_line
from classmark.errors import ClassmarkError, Interrupted, advice

BROKEN_PIPE = 141
_DEBUG = "--debug"


_CHECK = "Check the path, its permissions and the disk"


class Verb(NamedTuple):
    """Where a verb lives: its module has ``app`` (a group) or ``register(app)`` (one command)."""

    module: str
    help: str


VERBS = {
    "classify": Verb(
        "classmark.cli.classify.command", "Classify papers: a text, files, or standard input."
    ),
    "similar": Verb("classmark.cli.index.similar", "Find the most similar papers of an index."),
    "index": Verb("classmark.cli.index.command", "Build, change and show an index of papers."),
    "models": Verb("classmark.cli.models", "List the installed models, or show one."),
    "registry": Verb(
        "classmark.cli.registry.command", "Keep models in a registry: add, promote, roll back."
    ),
    "lineage": Verb(
        "classmark.cli.registry.lineage", "Show where an answer comes from: model, gate, data."
    ),
    "serve": Verb(
        "classmark.cli.service.serve", "Answer over HTTP, with a web page, until stopped."
    ),
    "keys": Verb("classmark.cli.service.keys", "Make, list and revoke API keys of the service."),
    "dataset": Verb(
        "classmark.cli.dataset.command", "Download papers, build a dataset, invent a sample."
    ),
    "harvest": Verb(
        "classmark.cli.dataset.harvest", "Harvest the new papers of an archive over OAI-PMH."
    ),
    "train": Verb("classmark.cli.train", "Fit a model on a dataset."),
    "sweep": Verb("classmark.cli.sweep", "Search for the best options of a fit, with many fits."),
    "runs": Verb("classmark.cli.runs", "Show what was trained, and with which result."),
    "evaluate": Verb(
        "classmark.cli.evaluate.command", "Measure a model or its scores, or compare two."
    ),
    "export": Verb("classmark.cli.export", "Make a bundle of a finished run."),
    "pipeline": Verb(
        "classmark.cli.pipeline", "Build, train, export and evaluate, but only what has changed."
    ),
    "monitor": Verb(
        "classmark.cli.monitor.command",
        "Watch the papers of a served model for drift, with alarms.",
    ),
    "retrain": Verb(
        "classmark.cli.retrain.command", "Decide whether a model is fitted again; let it take over."
    ),
    "journal": Verb("classmark.cli.service.journal", "Show, export and delete what was predicted."),
    "cloud": Verb("classmark.cli.cloud.command", "Train, serve and watch on Google Cloud."),
    "profile": Verb(
        "classmark.cli.profile.command",
        "Run a command under a profiler: what takes time and memory.",
    ),
    "doctor": Verb("classmark.cli.doctor", "Check what works here, and say how to mend the rest."),
    "demo": Verb("classmark.cli.demo.command", "Run the whole story on a generated corpus."),
}


class LazyGroup(TyperGroup):
    """Lists its verbs without importing them, and turns their errors into one line."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Stand-ins with a name and a help line, for the list of verbs and for "did you mean".
        self.commands.update({name: TyperCommand(name, help=v.help) for name, v in VERBS.items()})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """Import the verb that is called."""
        return load_verb(cmd_name) if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the list of verbs from their static help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept ``--debug`` after the verb too: that is where one adds it to run again."""
        end = args.index("--") if "--" in args else len(args)
        if _DEBUG in args[:end]:
            args = [_DEBUG, *(a for a in args[:end] if a != _DEBUG), *args[end:]]
        return super().parse_args(ctx, args)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the command line."""
        with errors_as_lines(debug=False):
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        with errors_as_lines(debug=ctx.params.get("debug", False)):
            return super().invoke(ctx)


app = typer.Typer(
    cls=LazyGroup,
    name="classmark",
    help="Gives every paper its classmark: arXiv categories, or labels of your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def load_verb(name: str) -> Any:
    """Return the command of a verb; its module is imported now."""
    from classmark.cli.places import bound_to_places

    module = import_module(VERBS[name].module)
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(rich_markup_mode=None, add_completion=False)
        module.register(group)
    command = bound_to_places(get_command(group))
    command.name = name
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_line())
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the versions of code and model.",
        ),
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error.")] = False,
) -> None:
    """Gives every paper its classmark: arXiv categories, or labels of your own."""


@contextmanager
def errors_as_lines(*, debug: bool) -> Iterator[None]:
    """Turn an error into one line on stderr and an exit code.

    Args:
        debug: print the traceback as well.
    """
    try:
        yield
    except BrokenPipeError as error:
        silence_stdout()
        raise typer.Exit(BROKEN_PIPE) from error
    except BaseException as error:
        if _is_typers_own(error) or isinstance(error, SystemExit):
            raise
        if debug:
            traceback.print_exc()
        message, exit_code = _describe(error)
        _flush_stdout()
        if isinstance(error, KeyboardInterrupt | Interrupted) or was_pressed():
            ignore_interrupts()
        print_error(message)
        raise typer.Exit(exit_code) from error


def _flush_stdout() -> None:
    """Write what waits for stdout now: the interpreter complains of what it cannot flush."""
    try:
        sys.stdout.flush()
    except OSError:
        silence_stdout()


def _is_typers_own(error: BaseException) -> bool:
    # Usage errors know how to show themselves; their class moves between versions of typer.
    return isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "show")


def _describe(error: BaseException) -> tuple[str, int]:
    """Return (line, exit code) of an error."""
    if isinstance(error, Interrupted):
        return str(error), error.exit_code
    if isinstance(error, ClassmarkError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_LINE, INTERRUPTED
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        return "error: standard output is closed. Redirect it to a file, or to /dev/null.", 1
    if isinstance(error, OSError) and str(error):
        where = f"{error.filename}: " if error.filename else ""
        why = error.strerror or str(error).rstrip(".")  # a library has none
        return f"error: {where}{why}. {advice(error, _CHECK)}.", 1
    if isinstance(error, MemoryError):
        return "error: out of memory. Close other programs, or give it less at once.", 1
    if was_pressed():
        return INTERRUPTED_LINE, INTERRUPTED
    kind = type(error).__name__
    return f"internal error: {kind}: {error}. Run again with {_DEBUG} for the traceback.", 1
