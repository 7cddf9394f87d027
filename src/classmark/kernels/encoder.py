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
from classmark.bundle.check import shown
from classmark.errors import (
    BundleIncompatible,
    InvalidConfig,
    InvalidScores,
    MissingExtra,
    UnreadableSource,
)
from classmark.kernels.calibration import CalibrationCurve
from classmark.kernels.checks import BundleReader
from classmark.kernels.explanation import OCCLUSION, occlude
from classmark.kernels.scorer import RawScores
from classmark.kernels.tokens import LEAST_LENGTH, TOKENS_VERSION, Encoded, PairTokenizer

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
MOST_LENGTH = 8192
PRECISIONS = ("fp32", "fp16", "int8")
RUN_TOKENS = 512
"""Tokens of a run in fp32, padding among them: one paper a run costs 3 % more, 2,048 tokens cost
20 % more, 8,192 cost 45 % more (MiniLM-L6, one thread; docs/log.md)."""
THREADS_VARIABLE = "CLASSMARK_THREADS"
MOST_THREADS = 4
"""Threads of a run where nobody says otherwise: a paper of 200 tokens does not fill more."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"
_ODD_TEXT = "\u4e00 \U0001f600 \xff"


@dataclass(frozen=True)
class EncoderConfig:
    """The network of a transformer bundle.

    Attributes:
        precision: of the weights, ``fp32``, ``fp16`` or ``int8``.
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

    def __init__(self, model: bytes, tokenizer: PairTokenizer, config: EncoderConfig) -> None:
        """Load the network.

        Args:
            model: an ONNX model with all of its weights; kept for processes that are forked.
            tokenizer: makes its tokens.
            config: its part of the bundle's parameters.

        Raises:
            MissingExtra: the package onnxruntime is not installed.
            BundleIncompatible: onnxruntime cannot load it, or its inputs or labels are others.
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

        A paper's scores do not depend on the others: to the bit in int8, else to 1e-4.
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

    def try_out(self) -> None:
        """Run papers that reach for the ends of every table: no token, the last one, the most.

        Raises:
            BundleIncompatible: the network cannot run one of them, or gives no finite logits.
        """
        most, longest = self._tokenizer.max_length, "graph " * self._tokenizer.max_length
        try:
            *short, long = self._tokenizer.encode([("", ""), (_ODD_TEXT, "graph"), (longest,) * 2])
            last = np.full(max(most, len(long)), self._tokenizer.last_id, dtype=np.int32)
            furthest = Encoded(last, np.resize(long.types, len(last)), np.float32(0))
            parts = [self._run(short[:1]), self._run(short[1:]), self._run([furthest])]
        except (InvalidScores, OverflowError, IndexError) as error:
            raise BundleIncompatible(
                f"the network and its tokenizer do not fit ({_first_line(error)}). Export the "
                "model again."
            ) from error
        if not all(np.isfinite(part).all() for part in parts):
            raise BundleIncompatible(
                "the network gives logits that are not finite numbers. Export the model again."
            )

    @property
    def _run_tokens(self) -> int:
        return 1 if self._config.precision == "int8" else RUN_TOKENS

    def _run(self, group: list[Encoded]) -> NDArray[np.float32]:
        feed = padded(group, self._tokenizer.pad_id)
        wanted = {name: feed[name] for name in self._config.inputs}
        session, expected = self._in_this_process(), (len(group), self._config.n_labels)
        try:
            logits: NDArray[np.float32] = session.run([OUTPUT], wanted)[0]
        except Exception as error:  # onnxruntime raises many kinds
            raise InvalidScores(
                f"the network cannot run this paper ({_first_line(error)}). Export the model again."
            ) from error
        if logits.shape != expected:
            raise InvalidScores(
                f"the network gives logits of shape {logits.shape}, expected {expected}. Export "
                "the model again."
            )
        return logits

    def _in_this_process(self) -> Any:
        """Return the session; a process that was forked lacks its threads and opens another."""
        if self._process != os.getpid():
            # Kept, because its end would wait for threads that a fork does not copy.
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
    config = _read_config(BundleReader(bundle), len(manifest.labels))
    max_length = BundleReader(bundle).whole_number("max_length", LEAST_LENGTH, MOST_LENGTH)
    try:
        tokenizer = PairTokenizer(bundle.content(TOKENIZER_FILE), max_length)
    except UnreadableSource as error:
        raise BundleIncompatible(
            f"model {manifest.name} {manifest.version} lacks what an encoder needs ({error}). "
            "Export it again."
        ) from error
    scorer = EncoderScorer(bundle.content(MODEL_FILE), tokenizer, config)
    scorer.try_out()
    return scorer


def _read_config(bundle: BundleReader, n_labels: int) -> EncoderConfig:
    precision, inputs = bundle.parameter("precision"), bundle.parameter("inputs")
    if precision not in PRECISIONS:
        bundle.refuse(f"is in {shown(precision)}, this classmark runs {', '.join(PRECISIONS)}")
    if not isinstance(inputs, list | tuple) or not all(name in INPUTS for name in inputs):
        bundle.refuse(f"has inputs {shown(inputs)}, they must be of {', '.join(INPUTS)}")
    return EncoderConfig(precision, tuple(inputs), n_labels, bundle.curve())


def default_threads() -> int:
    """Return the threads of a run: ``$CLASSMARK_THREADS``, else the cores there are, at most 4.

    Raises:
        InvalidConfig: the variable is not a whole number from 1.
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
        run_tokens: of a run with its padding; a paper with more gets a run of its own.
    """
    run: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if run and (len(run) + 1) * lengths[place] > run_tokens:
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def padded(group: list[Encoded], pad_id: int) -> dict[str, NDArray[np.int64]]:
    """Return the inputs of a run: int64 [n, t] each."""
    shape = (len(group), max(len(encoded) for encoded in group))
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask, types = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, encoded in enumerate(group):
        ids[row, : len(encoded)] = encoded.ids
        mask[row, : len(encoded)] = 1
        types[row, : len(encoded)] = encoded.types
    return dict(zip(INPUTS, (ids, mask, types), strict=True))


def _open_session(model: bytes, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("a model with an encoder", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that wait by spinning take the time of those that work, of this process and of others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Bytes that look like another format, or settings inside the model, are not followed.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.load_config_from_model", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        raise BundleIncompatible(
            f"onnxruntime {onnxruntime.__version__} cannot load the network "
            f"({_first_line(error)}). Install a newer onnxruntime, or export the "
            "model again."
        ) from error


def _check_session(session: Any, config: EncoderConfig) -> None:
    inputs = {item.name: item for item in session.get_inputs()}
    outputs = {item.name: item for item in session.get_outputs()}
    n_labels = outputs[OUTPUT].shape[-1] if OUTPUT in outputs and outputs[OUTPUT].shape else None
    if sorted(inputs) != sorted(config.inputs) or n_labels != config.n_labels:
        raise BundleIncompatible(
            f"the network takes {', '.join(sorted(map(shown, inputs)))} and gives {n_labels} "
            f"logits; the bundle says {', '.join(sorted(config.inputs))} and {config.n_labels}. "
            "Export the model again."
        )
    types = {*(item.type for item in inputs.values()), outputs[OUTPUT].type}
    free = [n for item in inputs.values() for n in item.shape] + outputs[OUTPUT].shape[:-1]
    ranks = {*(len(item.shape) for item in inputs.values()), len(outputs[OUTPUT].shape)}
    if types != {"tensor(int64)", "tensor(float)"} or ranks != {2} or int in map(type, free):
        raise BundleIncompatible(
            f"the network takes and gives {', '.join(sorted(types))} of shapes {shown(free)}; it "
            "must be int64 [n, t] and float [n, k], with n and t free. Export the model again."
        )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
