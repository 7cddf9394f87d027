"""The keys of a configuration in words: for help texts and the reference."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from classmark.pipeline.config import TrainConfig
from classmark.pipeline.kinds import KINDS
from classmark.profiling import ProfilerConfig
from classmark.tracking import TrackerConfig
from classmark.training import TrainerConfig

_VARIABLE = re.compile(r"\$\{oc\.env:(\w+),(.*)\}")
_MEANING = re.compile(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class ConfigKey:
    """A key of ``classmark train``: its type and default in words, and what it means."""

    name: str
    type: str
    default: str
    meaning: str


def describe_keys() -> dict[str, list[ConfigKey]]:
    """Return all keys: those of every kind of model first, then each kind's own."""
    top, said, hints = _defaults("train"), meanings(TrainConfig), get_type_hints(TrainConfig)
    every = [ConfigKey("dataset.path", "path", "required", said["dataset"])]
    for name in ("seed", "runs_dir", "resume"):
        default = default_words(top[name])
        every.append(ConfigKey(name, type_words(hints[name]), default, said[name]))
    tracker = {**top["tracker"], **_defaults("tracker/auto")}
    every += _keys_of("tracker", TrackerConfig, tracker)
    every += _keys_of("profiler", ProfilerConfig, top["profiler"])
    every += _keys_of("trainer", TrainerConfig, top["trainer"])
    kinds = {
        f"model={kind}": [
            ConfigKey("model.kind", "text", kind, "what is fitted; model=KIND sets it."),
            *_keys_of("model", found.options, _defaults(f"model/{kind}")),
        ]
        for kind, found in KINDS.items()
    }
    return {"every kind of model": every, **kinds}


def _defaults(name: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    text = (files("classmark.conf") / f"{name}.yaml").read_text(encoding="utf-8")
    composed: Any = OmegaConf.to_container(OmegaConf.create(text))
    return dict(composed)


def _keys_of(group: str, documented: type, defaults: Mapping[str, Any]) -> list[ConfigKey]:
    hints, said = get_type_hints(documented), meanings(documented)
    return [
        ConfigKey(f"{group}.{name}", type_words(hints[name]), default_words(defaults[name]), words)
        for name, words in said.items()
    ]


def meanings(documented: type) -> dict[str, str]:
    """Return what the docstring of a class says of each attribute.

    Raises:
        LookupError: an attribute is not explained.
    """
    text = inspect.getdoc(documented) or ""
    section = text.partition("Attributes:\n")[2]
    found = {
        name.strip(): " ".join(meaning.replace("``", "`").split())
        for names, meaning in _MEANING.findall(section)
        for name in names.split(",")
    }
    public = {name for name in get_type_hints(documented) if not name.startswith("_")}
    missing = public - {"model_config"} - set(found)
    if missing:
        raise LookupError(f"{documented.__name__}: no meaning of {sorted(missing)}")
    return found


def default_words(value: object) -> str:
    """Return a default as it is written on the command line; nothing for none."""
    if value == "???":
        return "required"
    if value is None or value in ("", {}, ()):
        return ""
    if found := _VARIABLE.fullmatch(str(value)):
        default = found[2].strip('"')
        return f"${found[1]}, else {default}" if default else f"${found[1]}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def type_words(hint: object) -> str:
    """Return a type in words."""
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
