"""The network: pooling sees tokens only, frozen layers stand still, rates go by depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from deep_fits import quick_config
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from classmark.errors import InvalidConfig, TrainingFailed
from classmark.training.transformer.model import check_length, longest_text
from classmark.training.transformer.module import parameter_groups, rate_share, trained_layers
from classmark.training.transformer.network import EncoderClassifier, pool

pytestmark = pytest.mark.slow  # reason: imports torch and Lightning

HIDDEN = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]]])
MASK = torch.tensor([[1, 1, 0]])


@pytest.fixture
def network(tiny_encoder: Path) -> Any:
    from classmark.training.transformer import load_encoder

    return load_encoder(str(tiny_encoder)).network


@pytest.fixture
def model(network: Any) -> EncoderClassifier:
    torch.manual_seed(1)
    return EncoderClassifier(network, 3, "mean", 0.1)


@pytest.mark.parametrize(
    ("pooling", "vector"), [("mean", [2.0, -3.0]), ("cls", [1.0, -4.0]), ("max", [3.0, -2.0])]
)
def test_pooling_makes_one_vector_of_the_tokens_and_none_of_the_padding(
    pooling: Any, vector: list[float]
) -> None:
    assert pool(HIDDEN, MASK, pooling).tolist() == [vector]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_padding_does_not_change_the_logits(network: Any, pooling: Any) -> None:
    model = EncoderClassifier(network, 3, pooling, 0.5).eval()
    ids = torch.tensor([[2, 40, 41, 3, 42, 3]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1]])
    short = model(ids, torch.ones_like(ids), types)
    fill = torch.zeros((1, 5), dtype=torch.int64)
    longer = [torch.cat([part, fill], dim=1) for part in (ids, torch.ones_like(ids), types)]
    assert torch.allclose(model(*longer), short, atol=1e-6)
    assert not torch.allclose(model(ids, torch.ones_like(ids), torch.zeros_like(ids)), short)


def test_dropout_only_happens_while_fitting(model: EncoderClassifier) -> None:
    ids = torch.tensor([[2, 40, 41, 3, 42, 3]])
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    model.dropout.p = 0.9
    model.train_top(0)
    assert not torch.equal(model(*inputs), model(*inputs))
    model.eval()
    assert torch.equal(model(*inputs), model(*inputs))


def test_the_dropout_inside_the_encoder_can_be_set(tiny_encoder: Path) -> None:
    from classmark.training.transformer import load_encoder

    own, none = (load_encoder(str(tiny_encoder), p).network.config for p in (None, 0.0))
    assert (own.hidden_dropout_prob, own.attention_probs_dropout_prob) == (0.1, 0.1)
    assert (none.hidden_dropout_prob, none.attention_probs_dropout_prob) == (0.0, 0.0)


@pytest.mark.parametrize(("n", "trained"), [(0, set()), (1, {2}), (2, {1, 2}), (3, {0, 1, 2})])
def test_only_the_top_layers_are_fitted_and_only_they_drop(
    model: EncoderClassifier, n: int, trained: set[int]
) -> None:
    model.train_top(n)
    names = [name for name, p in model.encoder.named_parameters() if p.requires_grad]
    assert {model.depth_of(name) for name in names} == trained
    assert model.head.weight.requires_grad
    assert model.dropout.training
    layers = [model.encoder.get_submodule(name) for name in model.layers]
    assert [layer.training for layer in layers] == [1 in trained, 2 in trained]
    assert model.encoder.embeddings.training is (0 in trained)


def test_rates_fall_from_the_head_to_the_embeddings(model: EncoderClassifier) -> None:
    config = quick_config("model.rate=0.01", "model.head_rate=0.5", "model.layer_decay=0.5")
    groups = parameter_groups(model, config)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(rate) == len(list(model.parameters()))
    assert rate[id(model.head.weight)] == 0.5
    parameters = dict(model.encoder.named_parameters())
    for prefix, expected in (("layer.1.", 0.01), ("layer.0.", 0.005), ("embeddings", 0.0025)):
        assert {rate[id(p)] for n, p in parameters.items() if prefix in n} == {expected}
    assert decay[id(model.head.bias)] == 0
    assert decay[id(model.head.weight)] == config.weight_decay > 0


@pytest.mark.parametrize(
    ("decay", "half", "last"),
    [("linear", 0.5, 0.0125), ("cosine", 0.5, 0.0004), ("constant", 1, 1)],
)
def test_rates_rise_and_fall(decay: str, half: float, last: float) -> None:
    config = quick_config("model.warmup=0.2", f"model.decay={decay}")
    shares = [rate_share(step, 100, config) for step in range(100)]
    assert shares[:21] == sorted(shares[:21])
    assert shares[0] == pytest.approx(1 / 21)
    assert shares[20] == pytest.approx(1)
    assert shares[60] == pytest.approx(half)
    assert shares[99] == pytest.approx(last, abs=1e-4)


def test_without_warm_up_the_first_step_is_the_longest() -> None:
    assert rate_share(0, 10, quick_config("model.warmup=0")) == 1


def test_layers_thaw_one_after_another_up_to_those_that_are_fitted() -> None:
    gradual = quick_config("model.unfreeze_epochs=0.5")
    assert [trained_layers(e / 4, 2, gradual) for e in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    two = quick_config("model.unfreeze_epochs=0.5", "model.trained_layers=1")
    assert [trained_layers(e / 4, 2, two) for e in range(8)] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert trained_layers(0.0, 2, quick_config()) == 3
    assert trained_layers(9.0, 2, quick_config("model.trained_layers=0")) == 0


def test_a_text_must_fit_the_positions_of_the_encoder(network: Any) -> None:
    assert longest_text(network) == 256
    check_length(network, 256)
    with pytest.raises(InvalidConfig, match="is 257, the encoder reads at most 256 tokens"):
        check_length(network, 257)


def test_an_encoder_of_robertas_kind_has_two_positions_less_and_no_types() -> None:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=34, type_vocab_size=1,
    )  # fmt: skip
    model = EncoderClassifier(RobertaModel(config), 2, "cls", 0.0)
    assert longest_text(model.encoder) == 32
    assert not model.reads_types


def test_a_long_gradient_is_shortened_and_one_that_is_no_number_ends_the_fit(
    model: EncoderClassifier,
) -> None:
    from classmark.training.transformer.module import TransformerModule

    def norm_after(clip: float) -> float:
        module = TransformerModule(model, quick_config(f"model.clip={clip}"), n_steps=4, n_epochs=1)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        module.on_before_optimizer_step(None)
        gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        return float(torch.stack(gradients).norm())

    assert norm_after(0.5) == pytest.approx(0.5, rel=1e-3)
    assert norm_after(0) > 10
    module = TransformerModule(model, quick_config(), n_steps=4, n_epochs=1)
    model.head.bias.grad = torch.full((3,), float("inf"))
    with pytest.raises(TrainingFailed, match=r"gradient is .* in step 1\. Lower model\.rate"):
        module.on_before_optimizer_step(None)


def test_the_schedule_is_that_of_every_group(model: EncoderClassifier) -> None:
    from classmark.training.transformer.module import TransformerModule

    module = TransformerModule(model, quick_config("model.warmup=0.5"), n_steps=10, n_epochs=1)
    made = module.configure_optimizers()
    assert isinstance(made["optimizer"], AdamW)
    assert isinstance(made["lr_scheduler"], LambdaLR)
    assert made["lr_scheduler"].get_last_lr()[-1] == pytest.approx(0.01 / 6)


def test_an_encoder_without_layers_is_refused() -> None:
    class Flat(torch.nn.Module):
        config = type("Config", (), {"num_hidden_layers": 2, "hidden_size": 4})()

    with pytest.raises(ValueError, match="Flat has no list of 2 layers"):
        EncoderClassifier(Flat(), 2, "mean", 0.0)
