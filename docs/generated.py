"""The parts of the documentation that the program itself writes when the pages are built."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from typer.testing import CliRunner

import classmark
from classmark.bundle import find_bundle
from classmark.cli.app import VERBS, app, load_verb

_CONF = Path(classmark.__file__).parent / "conf"
_ENTRY = re.compile(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", re.MULTILINE)
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


# --- configuration ------------------------------------------------------------------------------


def meanings(documented: type) -> dict[str, str]:
    """Return what the docstring of a class says of each attribute.

    Raises:
        RuntimeError: an attribute is not explained, so that the page would have a hole.
    """
    text = inspect.getdoc(documented) or ""
    section = text.partition("Attributes:\n")[2]
    found = {
        name.strip(): " ".join(meaning.replace("``", "`").split())
        for names, meaning in _ENTRY.findall(section)
        for name in names.split(",")
    }
    public = {name for name in get_type_hints(documented) if not name.startswith("_")}
    missing = public - {"model_config"} - set(found)
    if missing:
        raise RuntimeError(f"{documented.__name__}: no meaning of {sorted(missing)}")
    return found


def train_keys() -> str:
    """Return every key of ``classmark train`` with its type, default and meaning."""
    from classmark.pipeline import TrainConfig
    from classmark.pipeline.config import KINDS
    from classmark.tracking import TrackerConfig

    top, folder = _read_yaml("train.yaml"), _read_yaml("dataset/folder.yaml")
    said = meanings(TrainConfig)
    rows: list[tuple[str, str, str, str]] = [
        ("`dataset.path`", "path", _shown(folder["path"]), said["dataset"]),
        ("`seed`", "integer", _shown(top["seed"]), said["seed"]),
        ("`runs_dir`", "path", _shown(top["runs_dir"]), said["runs_dir"]),
        ("`resume`", "path", _shown(top["resume"]), said["resume"]),
    ]
    head = ("key", "type", "default", "meaning")
    rows += _keys("tracker", TrackerConfig, _read_yaml("tracker/auto.yaml"))
    found = [table(head, rows)]
    for kind, options in KINDS.items():
        model = _read_yaml(f"model/{kind}.yaml")
        rows = [("`model.kind`", "word", _shown(model["kind"]), "what is fitted")]
        rows += _keys("model", options, model)
        found.append(f"### model={kind}\n\n{table(head, rows)}")
    return "\n\n".join(found)


def _keys(
    group: str, documented: type, defaults: Mapping[str, Any]
) -> list[tuple[str, str, str, str]]:
    hints, said = get_type_hints(documented), meanings(documented)
    return [
        (f"`{group}.{name}`", _type(hints[name]), _shown(defaults[name]), said[name])
        for name in said
    ]


def config_groups() -> str:
    """Return the choices of each group of ``conf``, with what their files say of themselves."""
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

    options = {param.name for param in load_verb("serve").params}
    said, rows = meanings(ServiceSettings), []
    for name, field in ServiceSettings.model_fields.items():
        option = f"`--{name.replace('_', '-')}`<br>" if name in options else ""
        bounds = [
            f"{words} {getattr(bound, key):g}"
            for bound in field.metadata
            for key, words in (("ge", "from"), ("gt", "over"), ("le", "to"))
            if getattr(bound, key, None) is not None
        ]
        kind = " ".join([_type(field.annotation), *bounds])
        setting = f"{option}`CLASSMARK_SERVE_{name.upper()}`"
        rows.append((setting, kind, _shown(field.default), said[name]))
    return table(("option, variable", "type", "default", "meaning"), rows)


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
            (f"`{field.name}`", _type(hints[field.name]), _default(field), said[field.name])
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
    return "required" if field.default is MISSING else _shown(field.default)


def _shown(value: object) -> str:
    if value == "???":
        return "required"
    if value is None or value in ("", {}, ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(hint: Any) -> str:
    plain = {int: "integer", float: "number", str: "text", bool: "boolean", Path: "path"}
    if hint in plain:
        return plain[hint]
    text = str(hint)
    if "Mapping[str, float]" in text:
        return "number by name"
    inner = [name for kind, name in plain.items() if kind.__name__ in text]
    if "Literal" in text:
        return "one of " + ", ".join(re.findall(r"'(\w+)'", text))
    return inner[0] if inner else text


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
    card = re.sub(r"(?<=[a-z-])\*", r"\\*", card)  # hep-* is a family of archives, no emphasis
    return re.sub(r"(?:^\|.*\n)+", _upright, card, flags=re.MULTILINE)


def _upright(found: re.Match[str]) -> str:
    """Return a table with its rows as columns if it has too many columns for a page."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()
    ]
    if len(head) <= _MOST_COLUMNS:
        return found[0]
    head, *rows = zip(head, *rows, strict=True)
    return table(head, rows) + "\n"


PARTS = {
    "help of every verb": cli_help,
    "keys of train": train_keys,
    "groups of conf": config_groups,
    "settings of the service": service_settings,
    "options of the rooms": room_configs,
    "operations": http_operations,
    "card of the model": model_card,
}
_MARK = re.compile(r"<!-- generated: (.+?) -->")


def fill(markdown: str) -> str:
    """Return a page with what stands in place of its marks."""
    return _MARK.sub(lambda found: PARTS[found[1]](), markdown)
