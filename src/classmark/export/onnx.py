"""A fitted encoder to ONNX: pooling and head inside the graph, batch and length free; int8.

The TorchScript exporter, because its graphs run faster here (docs/decisions).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import MissingExtra, ParityFailed
from classmark.export.precision import Choice, Trial, choose_precision
from classmark.export.weights import halve_network, quantise_network
from classmark.kernels.encoder import INPUTS, OUTPUT, EncoderConfig, EncoderScorer
from classmark.kernels.tokens import PairTokenizer
from classmark.storage import scratch_folder

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
FP32_TOLERANCE = 1e-3
"""Largest difference of a logit between torch and ONNX in fp32, for logits up to 10; of larger ones
a ten-thousandth. Some 1e-6 is usual."""
PARITY_PAPERS, TIMED_PAPERS = 64, 128
"""Papers of the sample that are compared with torch, and that speed is measured on."""
_ROUNDS = 3
_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "fp32": bytes,
    "fp16": halve_network,
    "int8": quantise_network,
}
_EDGES = (("", "a"), ("On", ""), ("Word " * 400, "word " * 4000), ("", r"$x^2$ \alpha"))

Papers = Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Network:
    """A network to export.

    Attributes:
        module: takes ids, mask and types (int64 [n, t] each) and gives logits float32 [n, k].
        reads_types: it looks at the types.
        n_labels: k.
        tokenizer: makes its tokens.
        tokenizer_json: what the tokenizer was read from.
    """

    module: nn.Module
    reads_types: bool
    n_labels: int
    tokenizer: PairTokenizer
    tokenizer_json: bytes

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the inputs of the graph."""
        return INPUTS if self.reads_types else INPUTS[:2]


@dataclass(frozen=True, eq=False)
class Exported:
    """A network in ONNX.

    Attributes:
        model: its bytes.
        plain: the same in fp32.
        trials: what was measured, by precision.
        choice: the precision that it is in, and why.
    """

    model: bytes
    plain: bytes
    trials: dict[str, Trial]
    choice: Choice


@dataclass(frozen=True, eq=False)
class Sample:
    """Papers that an export is measured on.

    Attributes:
        papers: raw (title, abstract) pairs.
        labels: int [n], the right columns; -1 where there is none.
    """

    papers: Papers
    labels: NDArray[np.intp]


def export_network(
    network: Network, sample: Sample, *, precision: str, most_loss: float
) -> Exported:
    """Return a network in ONNX, in the precision asked for or in the one that wins here.

    Args:
        network: the fitted one.
        sample: papers of the validation split: for parity, speed and accuracy.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``, as ``choose_precision`` takes it.
        most_loss: the same.

    Raises:
        ParityFailed: ONNX in fp32 does not say what torch says.
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    plain = to_onnx(network)
    check_parity(network, plain, sample.papers[:PARITY_PAPERS])
    names = ("fp32", "int8") if precision == "auto" else (precision,)
    models = {name: _CHANGES[name](plain) for name in names}
    trials = {name: _try(network, model, name, sample) for name, model in models.items()}
    choice = choose_precision(trials, precision, most_loss)
    return Exported(models[choice.kept], plain, trials, choice)


def check_parity(network: Network, model: bytes, papers: Papers) -> float:
    """Return the largest difference of a logit between torch and ONNX in fp32.

    Args:
        network: the fitted one.
        model: its graph.
        papers: to try beside texts that are empty, endless or in other scripts.

    Raises:
        ParityFailed: it is more than ``FP32_TOLERANCE`` allows.
    """
    tried = [*papers, *_EDGES]
    given = network_scorer(network, model, "fp32").score(tried).scores
    expected = torch_logits(network, tried)
    difference = float(np.abs(given - expected).max())
    allowed = FP32_TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10)
    if not difference <= allowed:  # so that NaN fails too
        raise ParityFailed(
            f"the exported network differs from torch by {difference:.2g} in a logit, more than "
            f"{allowed:.2g}. Report this with the versions of torch and onnxruntime."
        )
    return difference


def to_onnx(network: Network) -> bytes:
    """Return the graph in fp32, with free batch and length.

    Raises:
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    torch = _torch()
    module = _by_name(network)
    example = torch.ones((2, 8), dtype=torch.int64)
    free = {name: {0: "n", 1: "t"} for name in network.inputs}
    with scratch_folder() as folder, warnings.catch_warnings():
        # The exporter is deprecated and says so; torch is pinned where bundles are made.
        warnings.simplefilter("ignore")
        path = folder / "model.onnx"
        torch.onnx.export(
            module,
            (example,) * len(network.inputs),
            str(path),
            input_names=list(network.inputs),
            output_names=[OUTPUT],
            dynamic_axes={**free, OUTPUT: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def torch_logits(network: Network, papers: Papers) -> NDArray[np.float32]:
    """Return the logits that torch gives, each paper by itself: float32 [n, k]."""
    torch = _torch()
    module = network.module.eval()
    rows = []
    with torch.inference_mode(), one_thread():
        for encoded in network.tokenizer.encode(papers):
            ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
            types = torch.from_numpy(encoded.types.astype(np.int64))[None]
            rows.append(module(ids, torch.ones_like(ids), types)[0].numpy())
    return np.stack(rows)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch run on one thread: several that wait for each other stand still on a busy host."""
    torch = _torch()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _by_name(network: Network) -> Any:
    """Return a module that takes only the inputs the network reads, in eval mode all through."""
    torch = _torch()

    class WithoutTypes(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module = module

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.module(ids, mask, torch.zeros_like(ids))

    module = network.module if network.reads_types else WithoutTypes(network.module)
    return module.eval()


def _try(network: Network, model: bytes, precision: str, sample: Sample) -> Trial:
    scorer = network_scorer(network, model, precision)
    timed = sample.papers[:TIMED_PAPERS]
    speeds = []
    for _ in range(_ROUNDS if timed else 0):
        started = time.process_time()
        scorer.score(timed)
        speeds.append(len(timed) / max(time.process_time() - started, 1e-9))
    known = np.flatnonzero(sample.labels >= 0).tolist()
    given = scorer.score([sample.papers[i] for i in known]).scores.argmax(axis=1)
    return Trial(
        bytes=len(model),
        papers_per_cpu_s=round(max(speeds, default=0.0), 2),
        right=given == sample.labels[known],
    )


def network_scorer(network: Network, model: bytes, precision: str = "fp32") -> EncoderScorer:
    """Return what scores papers with the graph of a network, on one thread."""
    config = EncoderConfig(precision, network.inputs, network.n_labels, threads=1)
    return EncoderScorer(model, network.tokenizer, config)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("exporting an encoder", "deep") from error
    return torch
