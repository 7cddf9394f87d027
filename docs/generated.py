"""Writes the parts of the documentation that come from the program, between their marks.

python docs/generated.py [--check]    (a part follows ``<!-- generated: NAME -->``)
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from typer.testing import CliRunner

import classmark
from classmark.bundle import find_bundle
from classmark.cli.app import VERBS, app, load_verb
from classmark.errors import ClassmarkError
from classmark.pipeline.keys import ConfigKey, default_words, describe_keys, meanings, type_words
from classmark.pipeline.stages import describe_stage_keys
from classmark.pipeline.sweep import describe_sweep_keys

_CONF = Path(classmark.__file__).parent / "conf"
_MOST_COLUMNS = 8
_WIDTH = {"COLUMNS": "92", "TERMINAL_WIDTH": "92", "NO_COLOR": "1"}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *cells])


# --- command line -------------------------------------------------------------------------------


def cli_help() -> str:
    """Return the help of every verb, as the program prints it."""
    commands: list[list[str]] = [[]]
    for verb in VERBS:
        commands.append([verb])
        commands += [[verb, name] for name in getattr(load_verb(verb), "commands", ())]
    return "\n".join(_help_section(words) for words in commands)


def _help_section(words: list[str]) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="classmark", env=_WIDTH)
    if result.exit_code:
        raise RuntimeError(f"`classmark {' '.join(words)} --help` failed: {result.output}")
    title = " ".join(["classmark", *words])
    return f"## {title}\n\n```text\n{result.output.strip()}\n```\n"


_EXAMPLE = (
    "We measure the orbital decay of a hot Jupiter from twelve years of transit timing and infer "
    "the tidal quality factor of its host star. The orbit shrinks by thirty milliseconds a year, "
    "so the planet has a few million years left."
)


def first_answer() -> str:
    """Return what the packaged model answers to an abstract, as the program prints it."""
    result = CliRunner().invoke(app, ["classify", "--model", "fast", _EXAMPLE], env=_WIDTH)
    if result.exit_code:
        raise RuntimeError(f"`classmark classify` failed: {result.output}")
    shown = f"{_EXAMPLE[:52].rpartition(' ')[0]} …"
    command = f'$ pip install .\n$ classmark classify "{shown}"'
    return f"```console\n{command}\n{result.stdout.rstrip()}\n```"


# --- configuration ------------------------------------------------------------------------------


def train_keys() -> str:
    """Return every key of ``classmark train`` with its type, default and meaning."""
    found = [f"### {group}\n\n{_keys(keys)}" for group, keys in describe_keys().items()]
    return "\n\n".join(found)


def stage_keys() -> str:
    """Return the keys of ``classmark pipeline run`` that ``classmark train`` does not have."""
    return _keys(next(iter(describe_stage_keys().values())))


def sweep_keys() -> str:
    """Return the keys of ``classmark sweep`` that ``classmark train`` does not have."""
    return _keys(next(iter(describe_sweep_keys().values())))


def _keys(keys: Iterable[ConfigKey]) -> str:
    rows = [(code(k.name), k.type, code(k.default), k.meaning) for k in keys]
    return table(("key", "type", "default", "meaning"), rows)


def config_groups() -> str:
    """Return the choices of each group of ``conf``, with the comments on top of their files."""
    rows = []
    for path in sorted(_CONF.glob("*/**/*.yaml")):
        name = path.relative_to(_CONF).as_posix()
        group, _, choice = name.removesuffix(".yaml").partition("/")
        values = _read_yaml(name)
        chosen = [
            {key.removeprefix("override /"): value for key, value in item.items()}
            for item in values.pop("defaults", [])
            if isinstance(item, dict)
        ]
        sets = [f"`{k}={v}`" for part in (*chosen, _flat(values)) for k, v in part.items()]
        shown = ", ".join(sets) if group == "experiment" else "the keys below"
        rows.append((f"`{group}={choice}`", _comment(path), shown))
    return table(("choice", "what it is", "sets"), rows)


def _comment(path: Path) -> str:
    """Return the first sentence of the comment on top of a file of ``conf``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    said = [line[2:] for line in lines if line.startswith("# ") and "@package" not in line]
    return re.split(r"[.:](?: |$)", said[0])[0]


def service_settings() -> str:
    """Return every setting of the service."""
    from classmark.service.settings import ServiceSettings

    options = {param.name for param in load_verb("serve").params if param.name}
    return _settings_table(ServiceSettings, "CLASSMARK_SERVE_", options)


def bento_settings() -> str:
    """Return every setting of a bento."""
    from classmark.service.bento_settings import BENTO_PREFIX, BentoSettings

    return _settings_table(BentoSettings, BENTO_PREFIX, set())


def _settings_table(settings: Any, prefix: str, options: set[str]) -> str:
    said, rows = meanings(settings), []
    for name, field in settings.model_fields.items():
        option = f"`--{name.replace('_', '-')}`<br>" if name in options else ""
        bounds = [
            f"{words} {getattr(bound, key):g}"
            for bound in field.metadata
            for key, words in (("ge", "from"), ("gt", "over"), ("le", "to"))
            if getattr(bound, key, None) is not None
        ]
        kind = " ".join([type_words(field.annotation), *bounds])
        setting = f"{option}`{prefix}{name.upper()}`"
        rows.append((setting, kind, code(field.default), said[name]))
    return table(
        ("option, variable" if options else "variable", "type", "default", "meaning"), rows
    )


def room_configs() -> str:
    """Return the options of the rooms that are set by options of the command line or in Python."""
    from classmark.dataset import DatasetConfig, DownloadConfig, SampleConfig
    from classmark.evaluation import EvaluationConfig
    from classmark.journal import JournalConfig

    found = []
    for verb, config in {
        "classmark dataset build": DatasetConfig,
        "classmark dataset download": DownloadConfig,
        "classmark dataset sample": SampleConfig,
        "classmark evaluate": EvaluationConfig,
        "Journal": JournalConfig,
    }.items():
        hints, said = get_type_hints(config), meanings(config)
        rows = [
            (f"`{field.name}`", type_words(hints[field.name]), _default(field), said[field.name])
            for field in fields(config)
        ]
        found.append(f"### {verb}\n\n{table(('name', 'type', 'default', 'meaning'), rows)}\n")
    return "\n".join(found)


def _read_yaml(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((_CONF / name).read_text(encoding="utf-8")))


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        found.update(
            _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
        )
    return found


def _default(field: Any) -> str:
    if field.default_factory is not MISSING:
        name = field.default_factory.__name__
        return "" if name == "dict" else f"`{name}()`"
    return "required" if field.default is MISSING else code(field.default)


def code(value: object) -> str:
    """Return a default in the type of code; nothing for none."""
    text = default_words(value)
    return f"`{text}`" if text else ""


# --- HTTP ---------------------------------------------------------------------------------------


def http_operations() -> str:
    """Return every operation of the service, from its OpenAPI document."""
    document = asyncio.run(_openapi())
    rows = [
        (
            f"`{method.upper()} {path}`",
            operation["summary"],
            " ".join(operation["description"].split()),
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return table(("operation", "what it does"), rows)


async def _openapi() -> dict[str, Any]:
    import httpx

    from classmark.service import Service, create_app, make_settings

    service = Service(make_settings(journal="off", access_log=False))
    transport = httpx.ASGITransport(app=create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return dict((await client.get("/openapi.json")).json())


# --- cards --------------------------------------------------------------------------------------


def model_card() -> str:
    """Return the card in the shipped bundle, one level of headings lower."""
    card = (find_bundle("fast") / "CARD.md").read_text(encoding="utf-8")
    card = re.sub(r"^#", "##", card, flags=re.MULTILINE)
    card = re.sub(r"\b([a-z]+-[a-z]*)\*", r"\1\\*", card)  # hep-* is a family, no emphasis
    return re.sub(r"(?:^\|.*\n)+", _upright, card, flags=re.MULTILINE)


def _upright(found: re.Match[str]) -> str:
    """Return a table with its rows as columns if it has too many columns for a page."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()
    ]
    if len(head) <= _MOST_COLUMNS:
        return found[0]
    first, *columns = zip(head, *rows, strict=True)
    return table(first, columns) + "\n"


# --- errors -------------------------------------------------------------------------------------


def tree_of_errors() -> str:
    """Return every error with its family, kind and exit code."""
    rows = [
        (family.__name__, _link(kind), code(kind.__new__(kind).kind), kind.exit_code)
        for family in ClassmarkError.__subclasses__()
        for kind in _with_subclasses(family)
    ]
    return table(("family", "error", "kind", "exit code"), rows)


def _link(kind: type[ClassmarkError]) -> str:
    return f"[`{kind.__name__}`](#{kind.__module__}.{kind.__name__})"


def _with_subclasses(kind: type[ClassmarkError]) -> Iterator[type[ClassmarkError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _with_subclasses(child)


# --- decisions ----------------------------------------------------------------------------------


def decisions() -> str:
    """Return every design note with its status; one that is superseded links to its successor."""
    files = sorted((Path(__file__).parent / "decisions").glob("[0-9]*.md"))
    by_number = {file.name[:4]: file.name for file in files}
    rows = []
    for file in files:
        title, status = note_head(file)
        linked = re.sub(
            r"\bby (\d{4})\b",
            lambda m: f"by [{m[1]}]({by_number[m[1]]})",
            status[:1].upper() + status[1:],
        )
        rows.append((file.name[:4], f"[{title.partition(' ')[2]}]({file.name})", linked))
    return table(("", "decision", "status"), rows)


def note_head(note: Path) -> tuple[str, str]:
    """Return the title of a design note, and its status, which follows after wide space."""
    first, *_ = note.read_text(encoding="utf-8").splitlines()
    title, _, status = first.removeprefix("# ").partition("  ")
    return title, status.strip()


PARTS = {
    "first answer": first_answer,
    "decisions": decisions,
    "tree of errors": tree_of_errors,
    "help of every verb": cli_help,
    "keys of train": train_keys,
    "keys of the stages": stage_keys,
    "keys of a sweep": sweep_keys,
    "groups of conf": config_groups,
    "settings of the service": service_settings,
    "settings of a bento": bento_settings,
    "options of the rooms": room_configs,
    "operations": http_operations,
    "card of the model": model_card,
}
_MARK = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(markdown: str) -> str:
    """Return a page with what belongs between its marks."""
    return _MARK.sub(lambda found: f"{found[1]}\n{_part(found[2]).strip()}\n\n{found[3]}", markdown)


def _part(name: str) -> str:
    """Return a part by its name, or of a Python object: its path, ``level=N``, ``members=A,B``."""
    if name in PARTS:
        return PARTS[name]()
    from python_pages import describe

    path, *options = name.split()
    given = dict(option.split("=") for option in options)
    members = tuple(given["members"].split(",")) if "members" in given else None
    return describe(path, int(given.get("level", 2)), members)


def main() -> None:
    """Fill all pages; with ``--check`` change nothing, and fail if one is stale."""
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    from report import write_or_check

    pages = sorted(Path(__file__).parent.rglob("*.md"))
    wanted = {page: fill(page.read_text(encoding="utf-8")) for page in pages}
    write_or_check(wanted, "python docs/generated.py")


if __name__ == "__main__":
    main()
