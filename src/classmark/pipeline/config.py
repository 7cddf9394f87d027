"""The configuration of `classmark train`: Hydra composes it, dataclasses check it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_origin, get_type_hints

from classmark.errors import InvalidConfig
from classmark.pipeline.kinds import DEFAULT_KIND, KINDS, ModelConfig, kinds_that
from classmark.pipeline.unfinished import HOW, check_same_fit, resumed_config
from classmark.profiling import ProfilerConfig, read_profiler
from classmark.records.fields import WrongField, read_value
from classmark.records.run import Kind
from classmark.storage import expand_home, is_remote, local_copy, named_place
from classmark.tracking import TrackerConfig, read_tracker
from classmark.tracking.tracker import Tracker, flat
from classmark.training import TrainerConfig

_Options = TypeVar("_Options", bound=ModelConfig)

_TEXT_KEYS = (
    *("dataset.path", "runs_dir", "resume", "export.name", "export.version", "export.about"),
    *("model.encoder", "model.start", "model.fast", "model.deep", "profiler.folder"),
)
_MAY_BE_NULL = ("resume", "model.start", "profiler.folder")
_WHO = ("tracker", "profiler", "trainer")
"""Groups of keys that decide nothing about a fit."""
_COLUMNS = "build.columns"
_BY_NAME = ("model.period_weights", _COLUMNS)
"""Keys that hold values by any name."""
_NAME = re.compile(r"[\w-]+")
_UNKNOWN = re.compile(r"Could not override '([^']+)'\.")
"""How Hydra says that there is no such key."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One fit.

    Attributes:
        dataset: folder of the dataset, what ``dataset build`` or ``dataset sample`` wrote.
        model: what is fitted, and how; the class of the options is the kind.
        seed: seed of all random draws, from 0; the same seed gives the same weights.
        runs_dir: folder in which each run gets its own folder.
        tracker: who keeps the run beside its own folder.
        trainer: who makes the fit of a transformer.
        profiler: what the fit is profiled for.
        resume: folder of an unfinished run to resume; None: a new run.
        composed: everything as Hydra composed it, for the record.
        watchers: further trackers, which may end the fit; it measures every epoch for them.
    """

    dataset: Path
    model: ModelConfig
    seed: int
    runs_dir: Path
    resume: Path | None
    tracker: TrackerConfig
    trainer: TrainerConfig
    profiler: ProfilerConfig
    composed: dict[str, Any]
    watchers: tuple[Tracker, ...] = ()

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
                f"model.kind is {self.kind!r}, this works with {_kind_of(wanted)!r} only."
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
    place = named_place(resume)
    folder = local_copy(place)
    dataset = given.get("dataset.path")
    others = given.keys() - {"resume", "runs_dir", "dataset.path"}
    # Hydra wants a dataset; that of the run is put in its place. Only a transformer is resumed.
    more = [] if dataset else [f"dataset.path={folder}"]
    more += [] if {"model", "experiment"} & given.keys() else ["model=transformer"]
    composed = compose("train", [*overrides, *more])
    if any(key.partition(".")[0] not in _WHO and key not in HOW for key in others):
        check_same_fit(folder, composed)
    continued = resumed_config(folder, dataset)
    if is_remote(place):
        continued |= {"runs_dir": str(place.parent), "resume": str(place)}
    names = [key.partition(".")[2] for key in HOW if key in given]
    model = {**continued["model"], **{name: composed["model"][name] for name in names}}
    own = {name: composed[name] for name in (_WHO if others else ("profiler",))}
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
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    given = f"(given: {' '.join(overrides) or 'nothing'})"
    spelled = [_spelled_for_hydra(_stored_experiment(override)) for override in overrides]
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
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        raise InvalidConfig(
            f"{key} has no value {given}. Write {key}=VALUE; see `{_help_of(name)}` for the keys."
        ) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        reason = " ".join(str(error).partition("Config search path")[0].split())
        if unknown := _UNKNOWN.match(reason):
            raise _unknown_key(unknown[1], more, name) from error
        raise InvalidConfig(f"{reason} {given}. See `{_help_of(name)}` for the keys.") from error
    return dict(composed)


def _help_of(file: str) -> str:
    """Return the command that lists the keys of a file of ``conf``."""
    verb = {"pipeline": "pipeline run", "sweep": "sweep run"}.get(file, file)
    return f"classmark {verb} --help"


def _unknown_key(
    name: str, more: Mapping[str, Any] = MappingProxyType({}), file: str = "train"
) -> InvalidConfig:
    """Return the error of a key that is not known: the nearest ones, or the kind that has it."""
    known = {
        *(key for key, _ in flat(more)),
        *(f"model.{field.name}" for kind in KINDS.values() for field in fields(kind.options)),
        *(f"tracker.{field.name}" for field in fields(TrackerConfig)),
        *(f"profiler.{field.name}" for field in fields(ProfilerConfig)),
        *(f"trainer.{field.name}" for field in fields(TrainerConfig)),
        *("dataset.path", "seed", "runs_dir", "resume", "model", *_WHO),
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
    return InvalidConfig(f"{name} is unknown. {hint}See `{_help_of(file)}` for the keys.")


def _stored_experiment(override: str) -> str:
    """Return an override that names a file of the user's as an experiment, stored for Hydra."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import DictConfig, OmegaConf

    key, _, value = override.partition("=")
    file = Path(value.strip("'\""))
    if key != "experiment" or file.suffix not in (".yaml", ".yml"):
        return override
    try:
        content = OmegaConf.load(expand_home(str(file)))
    except Exception as error:  # YAML has a tree of errors of its own
        raise InvalidConfig(
            f"{override} cannot be read ({' '.join(str(error).split())}). Give a file such as "
            "best.yaml of a sweep, or the name of an experiment."
        ) from error
    if not isinstance(content, DictConfig):
        raise InvalidConfig(f"{override} is not an experiment: it holds no keys.")
    name = f"file-{hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:12]}"
    store = ConfigStore.instance()
    store.store(group="experiment", name=name, package="_global_", node=content)
    return f"experiment={name}"


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
    # Runs of before have no trainer.
    composed = {"trainer": vars(TrainerConfig()), **composed}
    _check_keys("", composed, {"seed", "runs_dir", "resume", "dataset", "model", *_WHO})
    _check_keys("trainer.", composed["trainer"], {key.name for key in fields(TrainerConfig)})
    _check_keys("dataset.", composed["dataset"], {"path"})
    _check_keys("model.", composed["model"], {"kind", *(key.name for key in fields(options))})
    model = {key: value for key, value in composed["model"].items() if key != "kind"}
    for group, documented in (("model", options), ("trainer", TrainerConfig)):
        for key, hint in get_type_hints(documented).items():
            _check_value(f"{group}.{key}", composed[group][key], hint)
    seed, resume = composed["seed"], composed["resume"]
    if type(seed) is not int or seed < 0:
        raise InvalidConfig(f"seed must be a whole number from 0, got {seed!r}.")
    if resume is not None and not KINDS[kind].can_resume:
        raise InvalidConfig(
            f"resume is for model=transformer; a {kind} fit starts from the beginning."
        )
    return TrainConfig(
        dataset=named_place(str(composed["dataset"]["path"])),
        model=options(**model),
        seed=seed,
        runs_dir=named_place(str(composed["runs_dir"])),
        resume=None if resume is None else named_place(str(resume)),
        tracker=read_tracker(composed),
        profiler=_read_profiler(composed, kind),
        trainer=TrainerConfig(**composed["trainer"]),
        composed=composed,
    )


def _read_profiler(composed: Mapping[str, Any], kind: Kind) -> ProfilerConfig:
    profiler = read_profiler(composed)
    if profiler.kind == "torch" and not KINDS[kind].uses_torch:
        possible = kinds_that(lambda other: other.uses_torch)
        raise InvalidConfig(
            f"profiler=torch is for {possible}; a {kind} fit has no operations of torch. Use "
            "profiler=cpu or profiler=memory."
        )
    return profiler


def _read_kind(composed: Mapping[str, Any]) -> Kind:
    model = composed.get("model")
    given = model.get("kind", DEFAULT_KIND) if isinstance(model, dict) else DEFAULT_KIND
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
