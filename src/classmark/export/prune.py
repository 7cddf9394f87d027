"""Makes a fitted encoder smaller: the layers, heads and pieces of words that matter least leave.

A head of labels is then fitted to what the whole network says of training papers, which need no
labels for it. Pieces are in ``export.pieces``.

Sources: Michel et al. 2019, arXiv:1905.10650, for how much a head matters; Hinton et al. 2015,
arXiv:1503.02531, for the soft targets.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidConfig, MissingExtra
from classmark.export.onnx import Network, Papers, network_scorer, one_thread, to_onnx
from classmark.kernels.encoder import RUN_TOKENS, padded, plan_runs

RANKED_PAPERS = 32
"""Papers that layers and heads are compared on: each layer that could leave is tried on all."""
_REFIT_ROUNDS = 60
_STAY_CLOSE = 1e-3
_PROJECTIONS = (
    (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    ),
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
)
"""Where encoders of BERT's and of DistilBERT's type have the projections of a layer's heads."""


def prune_layers(network: Network, n: int, papers: Papers) -> Network:
    """Return a network with n layers less: one after another, the one whose absence changes least.

    Args:
        network: not changed.
        n: how many leave.
        papers: raw pairs that show the change; some ``RANKED_PAPERS`` are enough.

    Raises:
        InvalidConfig: it has no more than n layers.
    """
    module: Any = copy.deepcopy(network.module)
    if n >= len(module.layers):
        raise InvalidConfig(
            f"--prune layers={n}: the encoder has {len(module.layers)} layers, and one must stay. "
            f"Give layers={len(module.layers) - 1} or less."
        )
    batches = list(_batches(network, papers))
    wanted = _log_probabilities(module, batches)
    stack, name = _stack_of(module)
    for _ in range(n):
        layers = list(stack)
        changes = []
        for gone in range(len(layers)):
            _set_layers(module, name, layers[:gone] + layers[gone + 1 :])
            changes.append(_divergence(wanted, _log_probabilities(module, batches)))
        gone = int(np.argmin(changes))
        stack = _set_layers(module, name, layers[:gone] + layers[gone + 1 :])
    return replace(network, module=module)


def prune_heads(network: Network, n: int, papers: Papers) -> Network:
    """Return a network with n attention heads less; each layer keeps one at least.

    Those leave whose size in the output moves the loss least, on papers with the label that the
    network itself gives them.

    Raises:
        InvalidConfig: its heads cannot be found, or it has not so many to spare.
    """
    module: Any = copy.deepcopy(network.module)
    layers = [_projections(module.encoder.get_submodule(name)) for name in module.layers]
    counts = [len(_split(query.out_features, size)) for (query, *_), size in layers]
    spare = sum(counts) - len(counts)
    if n > spare:
        raise InvalidConfig(
            f"--prune heads={n}: the encoder has {sum(counts)} heads in {len(counts)} layers, and "
            f"one in each must stay. Give heads={spare} or less."
        )
    importance = _head_importance(module, layers, list(_batches(network, papers)))
    kept = _most_important(importance, n)
    for (projections, size), keep in zip(layers, kept, strict=True):
        _keep_heads(projections, size, keep)
    return replace(network, module=module)


def refit_head(network: Network, wanted: NDArray[np.float32], papers: Papers) -> Network:
    """Return a pruned network whose last layer says what the whole network says, as far as it can.

    Args:
        network: pruned; its encoder stays as it is.
        wanted: float32 [n, k], the logits of the whole network.
        papers: n raw pairs of the training split; nothing is learned from labels.
    """
    torch = _torch()
    vectors = torch.from_numpy(pooled(network, papers)).double()
    module: Any = copy.deepcopy(network.module)
    targets = torch.from_numpy(wanted).double().softmax(dim=1)
    weight, bias = (p.detach().double().clone() for p in (module.head.weight, module.head.bias))
    start = weight.clone()
    weight.requires_grad_(requires_grad=True)
    bias.requires_grad_(requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=_REFIT_ROUNDS, line_search_fn="strong_wolfe"
    )

    def loss() -> Any:
        optimiser.zero_grad()
        logs = (vectors @ weight.T + bias).log_softmax(dim=1)
        value = -(targets * logs).sum(dim=1).mean() + _STAY_CLOSE * ((weight - start) ** 2).sum()
        value.backward()
        return value

    with one_thread():
        optimiser.step(loss)
    with torch.no_grad():
        module.head.weight.copy_(weight)
        module.head.bias.copy_(bias)
    return replace(network, module=module)


def pooled(network: Network, papers: Papers) -> NDArray[np.float32]:
    """Return the vectors that the last layer reads: float32 [n, h]."""
    torch = _torch()
    module: Any = copy.deepcopy(network.module)
    width = module.head.in_features
    module.head = torch.nn.Linear(width, width, bias=False)
    with torch.no_grad():
        module.head.weight.copy_(torch.eye(width))
    bare = replace(network, module=module, n_labels=width)
    return network_scorer(bare, to_onnx(bare)).score(papers).scores


def _batches(network: Network, papers: Papers) -> Iterator[tuple[Any, Any, Any]]:
    """Yield ids, mask and types of papers of similar length, as the module takes them."""
    torch = _torch()
    encoded = network.tokenizer.encode(papers[:RANKED_PAPERS])
    for rows in plan_runs([len(paper) for paper in encoded], 4 * RUN_TOKENS):
        feed = padded([encoded[row] for row in rows], network.tokenizer.pad_id)
        ids, mask, types = (torch.from_numpy(part) for part in feed.values())
        yield ids, mask, types


def _log_probabilities(module: Any, batches: Sequence[tuple[Any, Any, Any]]) -> Any:
    torch = _torch()
    with torch.inference_mode(), one_thread():
        return torch.cat([module(*batch).log_softmax(dim=1) for batch in batches])


def _divergence(wanted: Any, given: Any) -> float:
    return float((wanted.exp() * (wanted - given)).sum(dim=1).mean())


def _stack_of(module: Any) -> tuple[Any, str]:
    name = module.layers[0].rpartition(".")[0]
    return module.encoder.get_submodule(name), name


def _set_layers(module: Any, name: str, layers: list[Any]) -> Any:
    """Give the encoder these layers in place of its own, and return their list."""
    parent, _, last = name.rpartition(".")
    stack = _torch().nn.ModuleList(layers)
    setattr(module.encoder.get_submodule(parent), last, stack)
    module.encoder.config.num_hidden_layers = len(layers)
    module.layers = [f"{name}.{i}" for i in range(len(layers))]
    return stack


def _projections(layer: Any) -> tuple[list[Any], int]:
    """Return query, key, value and output of a layer's heads, and the width of a head."""
    for names in _PROJECTIONS:
        try:
            found = [layer.get_submodule(name) for name in names]
        except AttributeError:
            continue
        holder = layer.get_submodule(names[0].rpartition(".")[0])
        return found, int(holder.attention_head_size)
    raise InvalidConfig(
        f"--prune heads: the heads of a {type(layer).__name__} cannot be found (those of BERT's "
        "and DistilBERT's type can). Prune layers or vocabulary instead."
    )


def _split(width: int, size: int) -> range:
    return range(0, width, size)


def _head_importance(
    module: Any, layers: Sequence[tuple[list[Any], int]], batches: Sequence[tuple[Any, Any, Any]]
) -> list[NDArray[np.float64]]:
    """Return of each layer how much each head matters: the mean change of the loss with its size.

    Of each layer in proportion, because gradients shrink from layer to layer.
    """
    torch = _torch()
    sums = [np.zeros(len(_split(parts[0].out_features, size))) for parts, size in layers]
    for batch in batches:
        sizes, hooks = [], []
        for (*_, output), size in layers:
            gate = torch.ones(len(batch[0]), 1, output.in_features // size, requires_grad=True)
            sizes.append(gate)
            hooks.append(output.register_forward_pre_hook(_gated(gate, size)))
        with one_thread():
            logits = module(*batch)
            loss = torch.nn.functional.cross_entropy(
                logits, logits.detach().argmax(dim=1), reduction="sum"
            )
            gradients = torch.autograd.grad(loss, sizes)
        for hook in hooks:
            hook.remove()
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient.abs().sum(dim=(0, 1)).double().numpy()
    return [total / max(float(np.linalg.norm(total)), 1e-30) for total in sums]


def _gated(gate: Any, size: int) -> Any:
    def multiply(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0] * gate.repeat_interleave(size, dim=2), *inputs[1:])

    return multiply


def _most_important(importance: list[NDArray[np.float64]], n: int) -> list[NDArray[np.intp]]:
    """Return the heads of each layer that stay when the n least important leave."""
    kept = [list(range(len(of_layer))) for of_layer in importance]
    ranked = sorted(
        (float(value), layer, head)
        for layer, of_layer in enumerate(importance)
        for head, value in enumerate(of_layer)
    )
    left = n
    for _, layer, head in ranked:
        if left and len(kept[layer]) > 1:
            kept[layer].remove(head)
            left -= 1
    return [np.array(of_layer, dtype=np.intp) for of_layer in kept]


def _keep_heads(projections: list[Any], size: int, kept: NDArray[np.intp]) -> None:
    torch = _torch()
    columns = torch.from_numpy((kept[:, None] * size + np.arange(size)).ravel())
    *inner, output = projections
    with torch.no_grad():
        for linear in inner:
            linear.weight = torch.nn.Parameter(linear.weight[columns].clone())
            linear.bias = torch.nn.Parameter(linear.bias[columns].clone())
            linear.out_features = len(columns)
        output.weight = torch.nn.Parameter(output.weight[:, columns].clone())
        output.in_features = len(columns)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("pruning an encoder", "deep") from error
    return torch
