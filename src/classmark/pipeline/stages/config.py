"""The configuration of all stages: composed by Hydra, or read from ``params.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from classmark import __version__
from classmark.bundle.find import NAME_PATTERN, VERSION_PATTERN
from classmark.dataset import DatasetConfig, SampleConfig
from classmark.errors import InvalidConfig
from classmark.evaluation import EvaluationConfig
from classmark.pipeline.config import TrainConfig, compose, read_train_config
from classmark.pipeline.export import ExportOptions, Quantize
from classmark.pipeline.keys import (
    ConfigKey,
    default_words,
    describe_keys,
    meanings,
    type_words,
)
from classmark.records.fields import WrongField, read_fields, read_value

_Group = TypeVar("_Group")

PARAMS_FILE = "params.yaml"
PARAMETERS = ("papers", "sample", "build", "seed", "model", "export", "evaluate", "gate")
"""What decides the outputs of the stages, by its name in the configuration; trackers do not."""
WRITER = "classmark"
"""The parameter that holds the version: other code may give other outputs."""
_OURS = ("dataset.path", "dataset", "runs_dir", "resume")
_AGAIN = f"Write it again with `classmark pipeline init --overwrite`, or correct {PARAMS_FILE}."


@dataclass(frozen=True, kw_only=True)
class ExportParams:
    """How the run becomes a bundle.

    Attributes:
        name, version: of the bundle.
        about: file with Markdown for the card; "": nothing is added.
        quantize: precision of a transformer's weights: ``auto`` measures fp32 and int8 and decides;
            ``fp32``, ``fp16`` and ``int8`` decide.
        prune: what to prune from a transformer, as ``vocabulary=SHARE,layers=N,heads=N``; "":
            nothing.
        most_loss: validation accuracy that pruning may lose, and int8 with ``auto``, 0..1.
        threshold: of a cascade: another point of its curve; None is the one the run chose.
    """

    name: str = "mine"
    version: str = "1.0"
    about: str = ""
    quantize: Quantize = ExportOptions.quantize
    prune: str = ExportOptions.prune
    most_loss: float = ExportOptions.most_loss
    threshold: float | None = ExportOptions.threshold

    def __post_init__(self) -> None:
        for pattern, name in ((NAME_PATTERN, "name"), (VERSION_PATTERN, "version")):
            if not pattern.fullmatch(getattr(self, name)):
                raise InvalidConfig(
                    f"export.{name} is {getattr(self, name)!r}. Choose for example name=mine and "
                    "version=1.0."
                )

    def options(self, command: str) -> ExportOptions:
        """Return what ``export_run`` takes, except dataset and text for the card.

        Raises:
            InvalidConfig: a value is out of range.
        """
        values = {key: value for key, value in asdict(self).items() if key != "about"}
        return ExportOptions(**values, overwrite=True, command=command)


@dataclass(frozen=True, kw_only=True)
class GateParams:
    """What the bundle must pass, and where it is registered.

    Attributes:
        rules: file of the gate's rules; "": those of the package, of which, for invented papers,
            only those that do not depend on accuracy.
        registry: folder of the registry, whose champion the bundle is compared with; it is made if
            it does not exist.
        key: file of a private key that signs the bundle; "": it is not signed.
    """

    rules: str = ""
    registry: str = "registry"
    key: str = ""

    def __post_init__(self) -> None:
        if not self.registry:
            raise InvalidConfig("gate.registry is empty. Name a folder, for example registry.")


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """What the stages do. Paths are relative to the folder of the pipeline.

    Attributes:
        papers: files that the dataset is built from; none: a sample is invented.
        sample: what is invented if there are no papers.
        build: how papers become a dataset; of a sample, only its periods.
        train: the fit, as Hydra composed it; its dataset and its folder are the pipeline's.
        export: how the run becomes a bundle.
        evaluate: how the bundle is measured.
        gate: what the bundle must pass, and where it is registered.
        params: what decides the outputs, with the names of the configuration.
        overrides: the command line that gave it; none if it was read from a file.
        written: version of classmark that wrote that file.
    """

    papers: tuple[str, ...]
    sample: SampleConfig
    build: DatasetConfig
    train: TrainConfig
    export: ExportParams
    evaluate: EvaluationConfig
    gate: GateParams
    params: dict[str, Any]
    overrides: tuple[str, ...] = ()
    written: str = ""


def compose_pipeline(overrides: Sequence[str]) -> PipelineConfig:
    """Return the configuration that Hydra composes of ``conf/pipeline.yaml`` and overrides.

    Raises:
        InvalidConfig: a key is unknown, a value is of the wrong type or out of range.
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key in _OURS:
            raise InvalidConfig(
                f"{key} is not a choice: the stages have folders of their own. Leave it out, or "
                "use `classmark train`."
            )
    composed = compose("pipeline", ["dataset.path=dataset", *overrides], _defaults())
    return _read_config(composed, tuple(overrides))


def read_params(file: Path, *, any_version: bool = False) -> PipelineConfig:
    """Return the configuration that a ``params.yaml`` holds.

    Args:
        file: to read.
        any_version: another version of classmark may have written it.

    Raises:
        InvalidConfig: it cannot be read, was written by another version, or is not complete.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise InvalidConfig(f"{file} cannot be read: {reason}. {_AGAIN}") from error
    if not isinstance(given, dict):
        raise InvalidConfig(f"{file} holds no keys. {_AGAIN}")
    written = given.pop(WRITER, None)
    if written != __version__ and not any_version:
        raise InvalidConfig(
            f"{file} is of classmark {written}, this is {__version__}. Run `classmark pipeline "
            "init`: it keeps the values, and states the version."
        )
    if any_version and written != __version__:  # it may be older than a group
        given = {**_defaults(), **given}
    for key in sorted(given.keys() ^ set(PARAMETERS)):
        state = "unknown" if key in given else "missing"
        raise InvalidConfig(f"{file}: {key} is {state}. {_AGAIN}")
    composed = compose("pipeline", ["dataset.path=dataset"], _defaults())
    return replace(_read_config({**composed, **given}, ()), written=str(written))


def with_groups(
    config: PipelineConfig, *, export: ExportParams, gate: GateParams
) -> PipelineConfig:
    """Return a configuration with another name of the bundle, and another registry."""
    params = {**config.params, "export": asdict(export), "gate": asdict(gate)}
    return replace(config, export=export, gate=gate, params=params)


def started_from(config: PipelineConfig, run: Path) -> PipelineConfig:
    """Return a configuration whose fit starts from another run.

    Raises:
        InvalidConfig: this kind of model cannot.
    """
    model = dict(config.params["model"])
    if "start" not in model:
        raise InvalidConfig(
            f"a fit of model={config.train.kind} cannot start from another run. Choose a policy "
            "with start: full."
        )
    model["start"] = str(run)
    train = read_train_config({**config.train.composed, "model": model})
    return replace(config, train=train, params={**config.params, "model": model})


def _defaults() -> dict[str, Any]:
    """Return the keys that the fit does not have; the rooms define their defaults."""
    return {
        "papers": [],
        "sample": asdict(SampleConfig()),
        "build": DatasetConfig().to_dict(),
        "export": asdict(ExportParams()),
        "evaluate": asdict(EvaluationConfig()),
        "gate": asdict(GateParams()),
    }


def _read_config(composed: dict[str, Any], overrides: tuple[str, ...]) -> PipelineConfig:
    fit = {key: value for key, value in composed.items() if key not in _defaults()}
    fit = {**fit, "dataset": {"path": "dataset"}, "runs_dir": "."}
    try:
        papers = read_value(tuple[str, ...], composed["papers"], "papers")
        config = PipelineConfig(
            papers=papers,
            sample=_read_group(SampleConfig, composed, "sample"),
            build=_read_group(DatasetConfig, composed, "build"),
            train=read_train_config(fit),
            export=_read_group(ExportParams, composed, "export"),
            evaluate=_read_group(EvaluationConfig, composed, "evaluate"),
            gate=_read_group(GateParams, composed, "gate"),
            params={WRITER: __version__, **{key: composed[key] for key in PARAMETERS}},
            overrides=overrides,
        )
    except WrongField as error:
        wanted = f" must be {error.wanted}, got {error.value!r}" if error.wanted else ""
        text = f"{error.name}{wanted}" if wanted else str(error)
        raise InvalidConfig(f"{text}. See `classmark pipeline run --help`.") from error
    config.export.options("")
    return config


def _read_group(record: type[_Group], composed: Mapping[str, Any], name: str) -> _Group:
    group = composed[name]
    if not isinstance(group, dict):
        raise WrongField(name, group, "a group of keys")
    for key in sorted({field.name for field in fields(record)} - group.keys()):  # type: ignore[arg-type]
        raise WrongField(problem=f"{name}.{key} is missing")
    return read_fields(record, group, f"{name}.")


def describe_stage_keys() -> dict[str, list[ConfigKey]]:
    """Return the keys of every stage; those of the fit are the keys of ``classmark train``."""
    found = [ConfigKey("papers", "list of paths", "", meanings(PipelineConfig)["papers"])]
    for name, record in (
        *(("sample", SampleConfig), ("build", DatasetConfig)),
        *(("export", ExportParams), ("evaluate", EvaluationConfig), ("gate", GateParams)),
    ):
        said, defaults, hints = meanings(record), _defaults()[name], get_type_hints(record)
        found += [
            ConfigKey(
                f"{name}.{field.name}",
                type_words(hints[field.name]),
                default_words(None if defaults[field.name] == [] else defaults[field.name]),
                said[field.name],
            )
            for field in fields(record)
        ]
    hidden = {*_OURS, "dataset.path"}
    fit = {
        group: [key for key in keys if key.name not in hidden]
        for group, keys in describe_keys().items()
    }
    return {"the stages": found, **fit}
