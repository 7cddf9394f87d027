"""Fewer layers and heads: what is left runs, is smaller, and follows the whole network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="encoders are pruned in torch")

import torch
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from classmark.errors import InvalidConfig
from classmark.export.onnx import FP32_TOLERANCE, Network, check_parity, to_onnx, torch_logits
from classmark.export.pieces import prune_vocabulary
from classmark.export.prune import pooled, prune_heads, prune_layers, refit_head
from classmark.kernels.tokens import PairTokenizer
from classmark.training.transformer.network import EncoderClassifier
from deep_models import sample_words, write_tiny_encoder, write_tokenizer

pytestmark = pytest.mark.slow  # importing torch and exporting an encoder take seconds

LABELS = 7
PAPERS = [
    (f"{topic} of {kind}", f"we {verb} the {topic} of {kind} and show that it is {verb}.")
    for topic in ("sparse graph", "network", "galaxy", "market")
    for kind in ("models", "stars", "groups")
    for verb in ("prove", "measure", "train")
]


def network_of(encoder: Any, content: bytes) -> Network:
    torch.manual_seed(3)
    module = EncoderClassifier(encoder.eval(), LABELS, "mean", 0.0, head_spread=1.0).eval()
    return Network(module, module.reads_types, LABELS, PairTokenizer(content, 64), content)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Return a random encoder of 4 layers with 4 heads each, and a head."""
    folder = tmp_path_factory.mktemp("encoder")
    write_tiny_encoder(folder, num_hidden_layers=4, num_attention_heads=4, initializer_range=0.3)
    encoder = AutoModel.from_pretrained(folder, attn_implementation="eager")
    return network_of(encoder, (folder / "tokenizer.json").read_bytes())


def n_weights(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.module.parameters())


def silence(layer: Any) -> None:
    """Make a layer add nothing to what goes through it, and count."""
    with torch.no_grad():
        for part in (layer.attention.output.dense, layer.output.dense):
            part.weight.zero_()
            part.bias.zero_()


def divergence(network: Network, wanted: Any) -> float:
    given = torch.from_numpy(torch_logits(network, PAPERS)).double().log_softmax(dim=1)
    logs = torch.from_numpy(wanted).double().log_softmax(dim=1)
    return float((logs.exp() * (logs - given)).sum(dim=1).mean())


def test_the_layers_that_change_least_leave_and_the_rest_runs_in_onnx(whole: Network) -> None:
    prepared = prune_layers(whole, 0, PAPERS)  # a copy
    layers: Any = prepared.module.encoder.encoder.layer  # type: ignore[union-attr]
    for place in (1, 3):
        silence(layers[place])
    kept = [layers[0].output.dense.weight, layers[2].output.dense.weight]
    pruned = prune_layers(prepared, 2, PAPERS)
    module: Any = pruned.module
    assert module.n_layers == len(module.encoder.encoder.layer) == 2
    for layer, weight in zip(module.encoder.encoder.layer, kept, strict=True):
        assert torch.equal(layer.output.dense.weight, weight)
    assert check_parity(pruned, to_onnx(pruned), PAPERS) < FP32_TOLERANCE
    assert n_weights(pruned) < n_weights(whole)
    assert whole.module.n_layers == 4, "the whole network is not changed"


def test_heads_that_do_nothing_leave_first_and_nothing_changes(whole: Network) -> None:
    prepared = prune_layers(whole, 0, PAPERS)
    layers: Any = prepared.module.encoder.encoder.layer  # type: ignore[union-attr]
    width = layers[0].attention.self.attention_head_size
    with torch.no_grad():
        for layer, head in ((0, 1), (2, 0), (2, 3)):
            columns = slice(head * width, (head + 1) * width)
            layers[layer].attention.output.dense.weight[:, columns] = 0
    pruned = prune_heads(prepared, 3, PAPERS)
    left = [layer.attention.self.query.out_features // width for layer in layers_of(pruned)]
    assert left == [3, 4, 2, 4]
    np.testing.assert_allclose(
        torch_logits(pruned, PAPERS), torch_logits(prepared, PAPERS), atol=1e-4
    )
    assert check_parity(pruned, to_onnx(pruned), PAPERS) < FP32_TOLERANCE
    assert len(to_onnx(pruned)) < len(to_onnx(prepared))


def layers_of(network: Network) -> Any:
    module: Any = network.module
    return module.encoder.encoder.layer


def test_one_head_stays_in_each_layer(whole: Network) -> None:
    pruned = prune_heads(whole, 12, PAPERS)
    width = layers_of(whole)[0].attention.self.attention_head_size
    assert [layer.attention.self.key.out_features for layer in layers_of(pruned)] == [width] * 4
    assert check_parity(pruned, to_onnx(pruned), PAPERS) < FP32_TOLERANCE


def test_a_refitted_head_is_closer_to_the_whole_network(whole: Network) -> None:
    wanted = torch_logits(whole, PAPERS)
    pruned = prune_layers(whole, 2, PAPERS)
    refitted = refit_head(pruned, wanted, PAPERS)
    assert divergence(refitted, wanted) < divergence(pruned, wanted) / 2
    np.testing.assert_allclose(
        pooled(pruned, PAPERS), pooled(refitted, PAPERS), err_msg="only the head is fitted"
    )


def test_the_vectors_are_what_the_head_reads(whole: Network) -> None:
    head: Any = whole.module.head
    logits = pooled(whole, PAPERS) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(logits, torch_logits(whole, PAPERS), atol=1e-3)


def test_a_pruned_embedding_gives_the_logits_of_the_whole_one(whole: Network) -> None:
    used = {
        number for paper in whole.tokenizer.encode(PAPERS) for number in paper.ids.tolist()
    } | set(range(60))
    pruned = prune_vocabulary(whole, np.array(sorted(used)))
    np.testing.assert_allclose(torch_logits(pruned, PAPERS), torch_logits(whole, PAPERS), atol=1e-5)
    module: Any = pruned.module
    assert (
        module.encoder.config.vocab_size
        == len(used)
        == module.encoder.get_input_embeddings().num_embeddings
    )
    assert pruned.tokenizer.last_id == len(used) - 1


def test_distilbert_can_lose_layers_and_heads(tmp_path: Path) -> None:
    config = DistilBertConfig(
        vocab_size=len(sample_words()), dim=32, n_layers=3, n_heads=4, hidden_dim=64
    )
    encoder = DistilBertModel(config)
    encoder.set_attn_implementation("eager")
    write_tokenizer(tmp_path / "tokenizer.json", sample_words())
    network = network_of(encoder, (tmp_path / "tokenizer.json").read_bytes())
    pruned = prune_heads(prune_layers(network, 1, PAPERS), 4, PAPERS)
    assert check_parity(pruned, to_onnx(pruned), PAPERS) < FP32_TOLERANCE
    assert len(to_onnx(pruned)) < len(to_onnx(network))


def test_more_than_there_is_is_refused_with_the_most_that_can_leave(whole: Network) -> None:
    with pytest.raises(
        InvalidConfig, match=r"layers=4: the encoder has 4 layers.*layers=3 or less"
    ):
        prune_layers(whole, 4, PAPERS)
    with pytest.raises(InvalidConfig, match=r"heads=13: .* 16 heads in 4 layers.*heads=12 or less"):
        prune_heads(whole, 13, PAPERS)


def test_heads_of_an_unknown_encoder_are_not_guessed(whole: Network) -> None:
    copy: Any = prune_layers(whole, 0, PAPERS).module
    for layer in copy.encoder.encoder.layer:
        layer.attention.inner = layer.attention.self
        del layer.attention.self
    with pytest.raises(InvalidConfig, match="the heads of a BertLayer cannot be found"):
        prune_heads(replace(whole, module=copy), 1, PAPERS)
