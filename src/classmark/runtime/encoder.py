"""The deep tier: a fine-tuned encoder as ONNX, from the text to the logits. Needs ``[onnx]``.

Papers are sorted by length and run in groups of nearly the same length, so that hardly anything is
padding. A model in int8 runs each paper by itself: its activations are scaled by the largest number
of the whole run, so that a neighbour would change the answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle
from classmark.errors import BundleIncompatible, InvalidConfig, MissingExtra, UnreadableSource
from classmark.runtime.curve import CalibrationCurve, read_curve
from classmark.runtime.explain import OCCLUSION
from classmark.runtime.occlusion import occlude
from classmark.runtime.scorer import RawScores
from classmark.runtime.tokens import TOKENS_VERSION, Encoded, PairTokenizer

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
PRECISIONS = ("fp32", "int8")
RUN_TOKENS = 512
"""Tokens of a run in fp32, padding among them: one paper a run costs 3 % more, 2,048 tokens cost
20 % more, 8,192 cost 45 % more (MiniLM-L6, one thread; docs/log.md)."""
THREADS_VARIABLE = "CLASSMARK_THREADS"
MOST_THREADS = 4
"""Threads of a run where nobody says otherwise: a paper of 200 tokens does not fill more."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"


@dataclass(frozen=True)
class EncoderConfig:
    """What a deep bundle says of its network.

    Attributes:
        precision: ``fp32`` or ``int8``.
        inputs: names of the inputs that the network takes, of ``INPUTS``.
        n_labels: k, columns of the logits.
        curve: from logits to scores; None leaves them.
        threads: of a run; None means ``default_threads()``.
    """

    precision: str
    inputs: tuple[str, ...]
    n_labels: int
    curve: CalibrationCurve | None = None
    threads: int | None = None


class EncoderScorer:
    """Scores papers with an encoder; may be shared by threads, which share one session.

    Attributes:
        explanation_method: how ``contributions`` finds what it says.
        threads: of a run.
    """

    explanation_method = OCCLUSION

    def __init__(self, model: bytes | str, tokenizer: PairTokenizer, config: EncoderConfig) -> None:
        """Load the network.

        Args:
            model: an ONNX model, or the path of its file.
            tokenizer: makes its tokens.
            config: what the bundle says of it.

        Raises:
            MissingExtra: the package onnxruntime is not installed.
            BundleIncompatible: onnxruntime cannot run it, or its inputs or labels are others.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._config = config
        self.threads = config.threads or default_threads()
        self._session = _open_session(model, self.threads)
        self._process = os.getpid()
        self._parents: Any = None
        _check_session(self._session, config)

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        """Return the scores and whole-token shares of raw (title, abstract) pairs.

        A paper's scores do not depend on the others: to the bit in int8, to 1e-4 in fp32.
        """
        encoded = self._tokenizer.encode(papers)
        logits = np.empty((len(encoded), self._config.n_labels), dtype=np.float32)
        for rows in plan_runs([len(e) for e in encoded], self._run_tokens):
            logits[rows] = self._run([encoded[row] for row in rows])
        curve = self._config.curve
        scores = logits if curve is None or not len(logits) else curve.apply(logits)
        return RawScores(scores, np.array([e.whole_share for e in encoded], dtype=np.float32))

    def contributions(
        self, title: str, abstract: str, top: int, other: int
    ) -> list[tuple[str, float]]:
        """Return what each word adds to ``score[top] - score[other]``, by leaving it out.

        What the words do not explain is listed as ``(residual)``, so that all sum to it.
        """
        return occlude(self.score, title, abstract, top, other)

    def token_counts(self, papers: Sequence[tuple[str, str]]) -> list[int]:
        """Return how many tokens each paper has, as it is run."""
        return [len(encoded) for encoded in self._tokenizer.encode(papers)]

    @property
    def _run_tokens(self) -> int:
        return 1 if self._config.precision == "int8" else RUN_TOKENS

    def _run(self, group: list[Encoded]) -> NDArray[np.float32]:
        feed = _padded(group, self._tokenizer.pad_id)
        wanted = {name: feed[name] for name in self._config.inputs}
        logits: NDArray[np.float32] = self._in_this_process().run([OUTPUT], wanted)[0]
        return logits

    def _in_this_process(self) -> Any:
        """Return the session; a process that was forked lacks its threads and opens another."""
        if self._process != os.getpid():
            # Kept, because its end would wait for the threads that are not there.
            self._parents = self._session
            self._session = _open_session(self._model, self.threads)
            self._process = os.getpid()
        return self._session


def load_scorer(bundle: Bundle) -> EncoderScorer:
    """Return the scorer of a bundle of kind ``transformer``.

    Raises:
        MissingExtra: the packages of ``[onnx]`` are not installed.
        BundleIncompatible: it was made for other tokens, or cannot be run here.
    """
    manifest = bundle.manifest
    if manifest.featuriser != TOKENS_VERSION:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} needs tokens {manifest.featuriser!r}, "
            f"this classmark has {TOKENS_VERSION!r}. Install the classmark that it was made for, "
            "or export it again."
        )
    parameters = manifest.parameters
    try:
        config = EncoderConfig(
            precision=parameters["precision"],
            inputs=tuple(parameters["inputs"]),
            n_labels=len(manifest.labels),
            curve=read_curve(parameters["curve"]),
        )
        tokenizer = PairTokenizer(bundle.file(TOKENIZER_FILE), parameters["max_length"])
    except (KeyError, TypeError, UnreadableSource) as error:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} lacks what an encoder needs ({error}). "
            "Export it again."
        ) from error
    if config.precision not in PRECISIONS:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} is in {config.precision!r}, this classmark "
            f"runs {' and '.join(PRECISIONS)}. Install a newer classmark."
        )
    return EncoderScorer(str(bundle.file(MODEL_FILE)), tokenizer, config)


def default_threads() -> int:
    """Return the threads of a run: ``$CLASSMARK_THREADS``, else the cores there are, at most 4.

    Raises:
        InvalidConfig: the variable is no whole number from 1.
    """
    given = os.environ.get(THREADS_VARIABLE)
    if given is None:
        return min(MOST_THREADS, usable_cores())
    if not (given.isdigit() and 1 <= int(given) <= 512):
        raise InvalidConfig(f"{THREADS_VARIABLE} is {given!r}, it must be from 1 to 512.")
    return int(given)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - not on Linux


def plan_runs(lengths: Sequence[int], run_tokens: int) -> Iterator[list[int]]:
    """Yield the papers of each run, by their places: sorted by length, bounded by tokens.

    Args:
        lengths: tokens of each paper.
        run_tokens: of a run with its padding; a paper with more stands alone.
    """
    run: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if run and (len(run) + 1) * lengths[place] > run_tokens:
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def _padded(group: list[Encoded], pad_id: int) -> dict[str, NDArray[np.int64]]:
    """Return the inputs of a run: int64 [n, t] each."""
    shape = (len(group), max(len(encoded) for encoded in group))
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask, types = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, encoded in enumerate(group):
        ids[row, : len(encoded)] = encoded.ids
        mask[row, : len(encoded)] = 1
        types[row, : len(encoded)] = encoded.types
    return dict(zip(INPUTS, (ids, mask, types), strict=True))


def _open_session(model: bytes | str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("a model with an encoder", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that wait by spinning take the time of those that work, of this process and of others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        raise BundleIncompatible(
            f"onnxruntime {onnxruntime.__version__} cannot load the network "
            f"({str(error).splitlines()[0][:200]}). Install a newer onnxruntime, or export the "
            "model again."
        ) from error


def _check_session(session: Any, config: EncoderConfig) -> None:
    inputs = {item.name for item in session.get_inputs()}
    outputs = {item.name: item.shape for item in session.get_outputs()}
    n_labels = outputs.get(OUTPUT, [None])[-1]
    if inputs != set(config.inputs) or n_labels != config.n_labels:
        raise BundleIncompatible(
            f"the network takes {', '.join(sorted(inputs))} and gives {n_labels} logits; the "
            f"bundle says {', '.join(sorted(config.inputs))} and {config.n_labels}. Export the "
            "model again."
        )
