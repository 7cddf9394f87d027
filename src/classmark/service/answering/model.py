"""The model of a service: found, verified, loaded, and warmed up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from classmark.bundle import Bundle, find_bundle, load_bundle
from classmark.bundle.files import CARD_FILE
from classmark.errors import BundleIncompatible, BundleNotFound, MissingExtra, UsageError
from classmark.kernels.cascade import with_members
from classmark.kernels.encoder import THREADS_VARIABLE, default_threads, usable_cores
from classmark.neighbours import Index
from classmark.records import Paper
from classmark.registry import Registry
from classmark.runtime import Classifier
from classmark.service.settings import ServiceSettings
from classmark.wire import ModelRef

WARM_UP = Paper(
    title="Graph colouring with learned heuristics",
    abstract="We prove a bound on the chromatic number of sparse graphs and learn a heuristic.",
)
LINEAR = "linear"


class Model:
    """A loaded model that has answered once.

    Attributes:
        bundle: as it was read.
        classifier: ready to answer.
        card: its card in Markdown, "" if it has none.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Make a classifier of a bundle, and classify a paper with it.

        Raises:
            BundleIncompatible: it cannot run here.
        """
        self.bundle = bundle
        self.classifier = Classifier.from_bundle(self.bundle)
        self.card = _read_card(self.bundle)
        self.warm_up()

    @property
    def spec(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.classifier.model.name}@{self.classifier.model.version}"

    @property
    def made_s(self) -> float | None:
        """When it was fitted, in Unix time; None if its bundle does not say."""
        try:
            made = datetime.fromisoformat(self.bundle.manifest.provenance["date"])
        except (KeyError, TypeError, ValueError):
            return None
        return made.timestamp()

    @property
    def is_linear(self) -> bool:
        """Whether it answers requests as they come, without a queue; see ``Batcher``."""
        return self.bundle.manifest.kind == LINEAR

    def warm_up(self) -> None:
        """Classify a paper, alone and in a batch, so that every array and cache is touched."""
        self.classifier.classify(WARM_UP)
        self.classifier.classify([WARM_UP], explain=True)


@dataclass(frozen=True)
class OpenedModel:
    """What the supervisor knows of the model.

    Attributes:
        spec: ``NAME@VERSION``.
        digest: of its bundle.
        worker_count: processes to run.
        shared: what workers are forked with. A deep model has threads, which do not survive a fork:
            its workers make their own from the bundle that was read.
    """

    spec: str
    digest: str
    worker_count: int
    shared: Model | Bundle

    @property
    def is_deep(self) -> bool:
        """Whether it has a queue of its own; see ``Batcher``."""
        return not isinstance(self.shared, Model)


def open_model(settings: ServiceSettings) -> OpenedModel:
    """Find and verify the model of a service, and load it if workers can share it.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: it cannot be loaded.
        MissingExtra: it needs packages that are not installed.
        IndexCorrupt, IndexIncompatible: the index cannot be read, or is of another model.
        UsageError: an index is given, but the model has no vectors.
    """
    if settings.registry is not None and (settings.model or settings.index):
        extra = "--model" if settings.model else "--index"
        raise UsageError(
            f"{extra} cannot be combined with --registry, which names a model that changes. Leave "
            "one of them out."
        )
    bundle = read_bundle(settings)
    manifest = bundle.manifest
    if settings.registry is not None:  # a deep one may follow
        _share_cores(settings)
    if manifest.kind == LINEAR:
        loaded = Model(bundle)
        open_index(settings, loaded.classifier.model)
        return OpenedModel(loaded.spec, bundle.digest, settings.worker_count, loaded)
    if settings.index is not None:
        raise UsageError(
            f"--index needs a model of the fast tier; {manifest.name} is of kind {manifest.kind}. "
            "Leave --index out, or serve the model that the index was built with."
        )
    if any(find_spec(name) is None for name in ("onnxruntime", "tokenizers")):
        raise MissingExtra(f"the model {manifest.name} of kind {manifest.kind}", "onnx")
    spec = f"{manifest.name}@{manifest.version}"
    return OpenedModel(spec, bundle.digest, _share_cores(settings), bundle)


def _share_cores(settings: ServiceSettings) -> int:
    """Return how many workers of a deep model to run, each with its share of the cores."""
    cores, threads = usable_cores(), default_threads()
    count = settings.workers or max(1, cores // threads)
    # If the operator chose the number of workers but not of threads, workers share the cores.
    os.environ.setdefault(THREADS_VARIABLE, str(max(1, min(threads, cores // count))))
    return count


def open_index(settings: ServiceSettings, model: ModelRef) -> Index | None:
    """Return the index of a service, None if it has none.

    Raises:
        IndexCorrupt, IndexIncompatible: it cannot be read, or is of another model.
    """
    return None if settings.index is None else Index.open(settings.index, model=model)


def with_evidence(classifier: Classifier, index: Index | None) -> Classifier:
    """Return the classifier of a service, which uses an index that is calibrated as evidence."""
    if index is None or index.manifest.evidence is None:
        return classifier
    return classifier.with_index(index)


def read_bundle(settings: ServiceSettings) -> Bundle:
    """Find, read and verify the bundle of a service, with the members of a cascade.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: it cannot be loaded.
        RegistryNotFound, RegistryCorrupt, RegistryTooNew: the registry cannot be read.
        SignatureRefused: the registry has trusted keys, and none of them signed it.
        UsageError: the registry has no such channel.
    """
    if settings.registry is None:
        return with_members(load_bundle(find_bundle(settings.model)))
    registry = Registry.open(settings.registry, trusted_keys=_trusted(settings))
    digest = registry.pointer().channel(settings.channel)
    if digest is None:
        verb = {"challenger": "canary", "shadow": "shadow"}.get(settings.channel, "promote")
        raise BundleNotFound(
            f"the channel {settings.channel} of the registry {settings.registry} is empty. Run "
            f"`classmark registry {verb}` first, or choose another --channel."
        )
    return with_members(registry.load(digest))


def open_registry(path: Path, settings: ServiceSettings) -> Registry:
    """Return a registry with the trusted key of a service; its files are read when asked for.

    Raises:
        InvalidKeys: the key cannot be read.
    """
    return Registry(path, _trusted(settings))


def _trusted(settings: ServiceSettings) -> tuple[Path, ...]:
    return () if settings.trusted_key is None else (settings.trusted_key,)


def check_usable(bundle: Bundle) -> None:
    """Check that a bundle can answer; of a deep one only that its members can be read.

    Raises:
        ClassmarkError: it cannot.
    """
    whole = with_members(bundle)
    if whole.manifest.kind == LINEAR:
        Model(whole)


def _read_card(bundle: Bundle) -> str:
    if CARD_FILE not in bundle.contents:
        return ""
    try:
        return bundle.content(CARD_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleIncompatible(
            f"{bundle.path / CARD_FILE} is not UTF-8 ({error.reason} at byte {error.start}). "
            "Install or export the model again."
        ) from error
