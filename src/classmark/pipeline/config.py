"""What `classmark train` is told: Hydra composes it, dataclasses check it, before any work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from classmark.errors import InvalidConfig
from classmark.tracking import TrackerConfig, read_tracker
from classmark.training import LinearConfig

_PATH_KEYS = ("dataset.path", "runs_dir")
_PERIODS = "model.period_weights"
_PERIOD_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One fit.

    Attributes:
        dataset: folder of the dataset, what ``dataset build`` or ``dataset sample`` wrote.
        model: what is fitted, and how.
        seed: of all that is drawn at random, from 0; the same seed gives the same weights.
        runs_dir: folder in which the run gets a folder of its own.
        tracker: who keeps the run beside that folder.
        composed: everything as Hydra composed it, for the record.
    """

    dataset: Path
    model: LinearConfig
    seed: int
    runs_dir: Path
    tracker: TrackerConfig
    composed: dict[str, Any]


def compose_config(overrides: Sequence[str]) -> TrainConfig:
    """Return the configuration that Hydra composes of ``conf/train.yaml`` and overrides.

    Raises:
        InvalidConfig: a key is unknown, a value is missing, of the wrong type or out of range.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    spelled = [_spelled_for_hydra(override) for override in overrides]
    try:
        with initialize_config_module("classmark.conf", version_base="1.3"):
            config = compose("train", overrides=spelled)
        composed: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OverrideParseException as error:
        raise InvalidConfig(
            f"{error.override!r} cannot be read. Write KEY=VALUE, and put a value with special "
            "characters between quotes that reach classmark: \"KEY='a value'\"."
        ) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        reason = " ".join(str(error).partition("Config search path")[0].split())
        raise InvalidConfig(
            f"{reason} (given: {' '.join(overrides) or 'nothing'}). "
            "See `classmark train --help` for the keys."
        ) from error
    return _read_config(composed)


def _spelled_for_hydra(override: str) -> str:
    """Return an override as Hydra's grammar wants it.

    It knows no key such as ``2018-2019``, adds no key to a group without ``++``, and stumbles over
    what paths may hold.
    """
    key, equals, value = override.partition("=")
    if not equals and not key.startswith("~"):
        hint = f"dataset.path={key}" if Path(key).exists() else "dataset.path=DIR model.epochs=3"
        raise InvalidConfig(f"{override!r} is not KEY=VALUE. Write for example {hint}.")
    if key in _PATH_KEYS and value and not value.startswith(("'", '"')) and "${" not in value:
        return f"{key}={_quoted(value)}"
    group, _, period = key.lstrip("+").partition(_PERIODS + ".")
    if not group and _PERIOD_NAME.fullmatch(period):
        return f"++{_PERIODS}={{{period}: {value}}}"
    if key == _PERIODS and value.startswith("{"):
        return f"++{override}"
    return override


def _quoted(value: str) -> str:
    """Return a value in Hydra's quotes, where backslashes count only before a quote."""
    text = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def _read_config(composed: dict[str, Any]) -> TrainConfig:
    _check_keys(composed)
    model = dict(composed["model"])
    if model.pop("kind") != "linear":
        raise InvalidConfig("model.kind must be 'linear', the only model that can be fitted yet.")
    integers = ("max_features", "min_papers", "epochs", "refine_epochs", "batch_size", "threads")
    _check_numbers("model", {key: model[key] for key in integers}, (int,))
    rates = (
        *("rate", "refine_rate", "head_rate"),
        *("weight_decay", "hidden_dropout", "label_smoothing"),
    )
    _check_numbers("model", {key: model[key] for key in rates}, (int, float))
    _check_numbers("model.period_weights", model["period_weights"], (int, float))
    if type(composed["seed"]) is not int or composed["seed"] < 0:
        raise InvalidConfig(f"seed must be a whole number from 0, got {composed['seed']!r}.")
    return TrainConfig(
        dataset=Path(str(composed["dataset"]["path"])).expanduser(),
        model=LinearConfig(**model),
        seed=composed["seed"],
        runs_dir=Path(str(composed["runs_dir"])).expanduser(),
        tracker=read_tracker(composed),
        composed=composed,
    )


def _check_keys(composed: Mapping[str, Any]) -> None:
    """Refuse what Hydra lets through: ``+key`` adds an unknown key, ``~key`` takes one away."""
    known = {
        "": {"seed", "runs_dir", "dataset", "model", "tracker"},
        "dataset": {"path"},
        "model": {"kind", *(field.name for field in fields(LinearConfig))},
    }
    for section, keys in known.items():
        given = composed[section] if section else composed
        if not isinstance(given, dict):
            raise InvalidConfig(f"{section} must be a group of keys, got {given!r}.")
        for key in sorted(keys ^ set(given)):
            name = f"{section}.{key}" if section else key
            problem = "missing" if key in keys else "unknown"
            raise InvalidConfig(f"{name} is {problem}. See `classmark train --help` for the keys.")


def _check_numbers(section: str, values: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(values, dict):
        raise InvalidConfig(f"{section} must be a group of keys, got {values!r}.")
    # By type, because a bool is an int to Python.
    for key, value in values.items():
        if type(value) not in kinds:
            what = "a number" if float in kinds else "a whole number"
            raise InvalidConfig(f"{section}.{key} must be {what}, got {value!r}.")
