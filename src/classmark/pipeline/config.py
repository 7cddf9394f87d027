"""The configuration of `classmark train`: Hydra composes it, dataclasses check it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_origin, get_type_hints

from classmark.errors import InvalidConfig
from classmark.pipeline.kinds import KINDS, ModelConfig
from classmark.pipeline.unfinished import HOW, check_same_fit, resumed_config
from classmark.profiling import ProfilerConfig, read_profiler
from classmark.records.fields import WrongField, read_value
from classmark.records.run import Kind
from classmark.storage import expand_home
from classmark.tracking import TrackerConfig, read_tracker
from classmark.tracking.tracker import flat

_Options = TypeVar("_Options", bound=ModelConfig)

_TEXT_KEYS = (
    *("dataset.path", "runs_dir", "resume", "export.name", "export.version", "export.about"),
    *("model.encoder", "model.start", "model.fast", "model.deep", "profiler.folder"),
)
_MAY_BE_NULL = ("resume", "model.start", "profiler.folder")
_COLUMNS = "build.columns"
_BY_NAME = ("model.period_weights", _COLUMNS)
"""Keys that hold values by any name."""
_NAME = re.compile(r"[\w-]+")
_UNKNOWN = re.compile(r"Could not override '([^']+)'\.")
"""How Hydra says that there is no such key."""
_VARIABLE = re.compile(r"\$\{oc\.env:(\w+),(.*)\}")
_MEANING = re.compile(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One fit.

    Attributes:
        dataset: folder of the dataset, what ``dataset build`` or ``dataset sample`` wrote.
        model: what is fitted, and how; the class of the options is the kind.
        seed: of all that is drawn at random, from 0; the same seed gives the same weights.
        runs_dir: folder in which the run gets a folder of its own.
        tracker: who keeps the run beside its own folder.
        profiler: what the fit is profiled for.
        resume: folder of an unfinished run to resume; None: a new run.
        composed: everything as Hydra composed it, for the record.
    """

    dataset: Path
    model: ModelConfig
    seed: int
    runs_dir: Path
    resume: Path | None
    tracker: TrackerConfig
    profiler: ProfilerConfig
    composed: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """Return the kind of the model."""
        return _kind_of(type(self.model))

    def options(self, wanted: type[_Options]) -> _Options:
        """Return the options of a kind of model.

        Raises:
            InvalidConfig: the configuration is of another kind.
        """
        if not isinstance(self.model, wanted):
            raise InvalidConfig(
                f"model.kind is {self.kind!r}, this is done with {_kind_of(wanted)!r} only."
            )
        return self.model


def _kind_of(options: type[object]) -> Kind:
    return next(kind for kind, found in KINDS.items() if found.options is options)


def compose_config(overrides: Sequence[str]) -> TrainConfig:
    """Return the configuration that Hydra composes of ``conf/train.yaml`` and overrides.

    With ``resume=RUN`` it is that of the run; other overrides must not ask for another fit.

    Raises:
        InvalidConfig: a key is unknown, a value is missing, of the wrong type or out of range.
    """
    given = dict(override.partition("=")[::2] for override in overrides)
    resume = given.get("resume", "").strip("'\"")
    if resume in ("", "null"):
        return read_train_config(compose("train", overrides))
    folder = expand_home(resume)
    dataset = given.get("dataset.path")
    others = given.keys() - {"resume", "runs_dir", "dataset.path"}
    # Hydra wants a dataset; that of the run is put in its place. Only a transformer is resumed.
    more = [] if dataset else [f"dataset.path={folder}"]
    more += [] if {"model", "experiment"} & given.keys() else ["model=transformer"]
    composed = compose("train", [*overrides, *more])
    groups = {key.partition(".")[0] for key in others if key not in HOW}
    if groups - {"tracker", "profiler"}:
        check_same_fit(folder, composed)
    continued = resumed_config(folder, dataset)
    names = [key.partition(".")[2] for key in HOW if key in given]
    model = {**continued["model"], **{name: composed["model"][name] for name in names}}
    of_this_command = ("tracker", "profiler") if others else ("profiler",)
    own = {group: composed[group] for group in of_this_command}
    return read_train_config({**continued, "model": model, **own})


def compose(
    name: str, overrides: Sequence[str], more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return what Hydra composes of a file of ``conf`` and overrides; nothing of it is checked.

    Args:
        name: of the file.
        overrides: ``KEY=VALUE`` and ``GROUP=CHOICE``.
        more: further groups of keys with their defaults, which the file takes as ``more/NAME``.

    Raises:
        InvalidConfig: a key is unknown, a value is missing or cannot be read.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    spelled = [_spelled_for_hydra(override) for override in overrides]
    ConfigStore.instance().store(group="more", name=name, package="_global_", node=dict(more))
    try:
        with initialize_config_module("classmark.conf", version_base="1.3"):
            config = hydra_compose(name, overrides=spelled)
        composed: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OverrideParseException as error:
        raise InvalidConfig(
            f"{error.override!r} cannot be read. Write KEY=VALUE, and put a value with special "
            "characters between quotes that reach classmark: \"KEY='a value'\"."
        ) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        reason = " ".join(str(error).partition("Config search path")[0].split())
        if unknown := _UNKNOWN.match(reason):
            raise _unknown_key(unknown[1], more) from error
        raise InvalidConfig(
            f"{reason} (given: {' '.join(overrides) or 'nothing'}). "
            "See `classmark train --help` for the keys."
        ) from error
    return dict(composed)


def _unknown_key(name: str, more: Mapping[str, Any] = MappingProxyType({})) -> InvalidConfig:
    """Return the error of a key that is not known: the nearest ones, or the kind that has it."""
    known = {
        *(key for key, _ in flat(more)),
        *(f"model.{field.name}" for kind in KINDS.values() for field in fields(kind.options)),
        *(f"tracker.{field.name}" for field in fields(TrackerConfig)),
        *(f"profiler.{field.name}" for field in fields(ProfilerConfig)),
        *("dataset.path", "seed", "runs_dir", "resume", "model", "tracker", "profiler"),
        "experiment",
    }
    if name in known:
        kinds = [
            kind
            for kind, found in KINDS.items()
            if name in {f"model.{field.name}" for field in fields(found.options)}
        ]
        return InvalidConfig(f"{name} is a key of model={' and model='.join(kinds)} only.")
    near = get_close_matches(name, sorted(known))
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    verb = "pipeline run" if more else "train"
    return InvalidConfig(f"{name} is unknown. {hint}See `classmark {verb} --help` for the keys.")


def _spelled_for_hydra(override: str) -> str:
    """Return an override as Hydra's grammar wants it.

    It knows no key such as ``2018-2019``, adds no key to a group without ``++``, and stumbles over
    what paths may hold.
    """
    key, equals, value = override.partition("=")
    if not equals and not key.startswith("~"):
        hint = f"dataset.path={key}" if Path(key).exists() else "dataset.path=DIR model.epochs=3"
        raise InvalidConfig(f"{override!r} is not KEY=VALUE. Write for example {hint}.")
    is_text = key in _TEXT_KEYS and not (key in _MAY_BE_NULL and value == "null")
    if is_text and value and not value.startswith(("'", '"')) and "${" not in value:
        return f"{key}={_quoted(value)}"
    for group in _BY_NAME:
        before, _, name = key.lstrip("+").partition(group + ".")
        if not before and _NAME.fullmatch(name):
            text = _quoted(value) if group == _COLUMNS and value[:1] not in ("'", '"') else value
            return f"++{group}={{{name}: {text}}}"
        if key == group and value.startswith("{"):
            return f"++{override}"
    return override


def _quoted(value: str) -> str:
    """Return a value in Hydra's quotes, where backslashes count only before a quote."""
    text = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def read_train_config(composed: dict[str, Any]) -> TrainConfig:
    """Return what was composed as the configuration of a fit, each value checked.

    Raises:
        InvalidConfig: a key is unknown or missing, a value is of the wrong type or out of range.
    """
    kind = _read_kind(composed)
    options = KINDS[kind].options
    groups = {"dataset", "model", "tracker", "profiler"}
    _check_keys("", composed, {"seed", "runs_dir", "resume", *groups})
    _check_keys("dataset.", composed["dataset"], {"path"})
    _check_keys("model.", composed["model"], {"kind", *(key.name for key in fields(options))})
    model = {key: value for key, value in composed["model"].items() if key != "kind"}
    for key, hint in get_type_hints(options).items():
        _check_value(f"model.{key}", model[key], hint)
    seed, resume = composed["seed"], composed["resume"]
    if type(seed) is not int or seed < 0:
        raise InvalidConfig(f"seed must be a whole number from 0, got {seed!r}.")
    if resume is not None and not KINDS[kind].can_resume:
        raise InvalidConfig(f"resume is for model=transformer; a {kind} fit is begun again.")
    return TrainConfig(
        dataset=expand_home(str(composed["dataset"]["path"])),
        model=options(**model),
        seed=seed,
        runs_dir=expand_home(str(composed["runs_dir"])),
        resume=None if resume is None else expand_home(str(resume)),
        tracker=read_tracker(composed),
        profiler=_read_profiler(composed, kind),
        composed=composed,
    )


def _read_profiler(composed: Mapping[str, Any], kind: Kind) -> ProfilerConfig:
    profiler = read_profiler(composed)
    if profiler.kind == "torch" and kind != "transformer":
        raise InvalidConfig(
            f"profiler=torch is for model=transformer; a {kind} fit has no operations of torch. "
            "Use profiler=cpu or profiler=memory."
        )
    return profiler


def _read_kind(composed: Mapping[str, Any]) -> Kind:
    model = composed.get("model")
    given = model.get("kind", "linear") if isinstance(model, dict) else "linear"
    for kind in KINDS:
        if kind == given:
            return kind
    raise InvalidConfig(f"model.kind must be {' or '.join(map(repr, KINDS))}, got {given!r}.")


def _check_keys(group: str, given: Any, keys: set[str]) -> None:
    """Refuse what Hydra lets through: ``+key`` adds an unknown key, ``~key`` takes one away."""
    if not isinstance(given, dict):
        raise InvalidConfig(f"{group.rstrip('.')} must be a group of keys, got {given!r}.")
    for key in sorted(keys ^ set(given)):
        if key in keys:
            raise InvalidConfig(f"{group}{key} is missing. See `classmark train --help`.")
        raise _unknown_key(f"{group}{key}")


def _check_value(name: str, value: Any, hint: Any) -> None:
    """Refuse a value of another type than the field's; the class of the options checks choices."""
    try:
        read_value(str if get_origin(hint) is Literal else hint, value, name)
    except WrongField as error:
        if error.wanted.startswith("a number") and isinstance(error.value, float):
            return  # it is not finite, and the options say what is in range
        raise InvalidConfig(f"{error.name} must be {error.wanted}, got {error.value!r}.") from error


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


def type_words(hint: Any) -> str:
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
