"""Real fits of a tiny encoder: it learns, each option does what it says, and it can be resumed."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark.records import SILENT
from recording import Recording

pytest.importorskip("lightning")

import torch
from deep_fits import Corpus, DeepRun, column, quick_config, read_log

from classmark.errors import OutOfMemory, TrainingFailed
from classmark.tracking import CsvTracker, Trackers
from classmark.training.pace import spell_time
from classmark.training.transformer import TokenisedPapers, score_papers
from classmark.training.transformer.checkpoint import drop_old_weights, read_start
from classmark.training.transformer.fit import memory_errors
from deep_models import write_tiny_encoder

pytestmark = pytest.mark.slow  # reason: imports Lightning, fits a network


@pytest.fixture(scope="module")
def plain(deep_run: DeepRun) -> Any:
    """Return a fit with every option as it comes, to compare others with."""
    return deep_run()


def of_encoder(fitted: Any) -> dict[str, torch.Tensor]:
    return {k: v for k, v in fitted.model.state_dict().items() if k.startswith("encoder.")}


def fresh_encoder(tiny_encoder: Path) -> dict[str, torch.Tensor]:
    from classmark.training.transformer import load_encoder

    states = load_encoder(str(tiny_encoder)).network.state_dict()
    return {f"encoder.{name}": tensor for name, tensor in states.items()}


def changed(fitted: Any, tiny_encoder: Path) -> set[str]:
    """Return which parts of the encoder are not as they came: ``embeddings``, ``0``, ``1``."""
    before = fresh_encoder(tiny_encoder)
    names = {k for k, v in of_encoder(fitted).items() if not torch.equal(v, before[k])}
    return {n.split(".")[3] if ".layer." in n else n.split(".")[1] for n in names}


def test_a_fit_learns_what_words_tell_apart(deep_run: DeepRun) -> None:
    fitted, rows, _ = deep_run("model.epochs=8")
    losses = column(rows, "loss")
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    assert column(rows, "top_1", "valid")[-1] > 0.8
    assert fitted.state.step == len(losses) == 48
    assert not fitted.model.training


def test_the_log_has_a_line_a_step_and_a_line_a_measure(plain: Any) -> None:
    _, rows, _ = plain
    stages = [(row["stage"], row["epoch"], row["step"]) for row in rows]
    assert stages[:7] == [("train", "1", str(n)) for n in range(1, 7)] + [("valid", "1", "6")]
    assert len(rows) == 14
    assert all(
        float(row["macro_f1"]) >= 0 and row["ece"] for row in rows if row["stage"] == "valid"
    )


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(
    deep_run: DeepRun, plain: Any
) -> None:
    assert column(deep_run()[1], "loss") == column(plain[1], "loss")
    assert column(deep_run(seed=8)[1], "loss") != column(plain[1], "loss")


def test_a_deterministic_fit_forbids_what_varies_and_puts_the_switch_back(
    deep_run: DeepRun, plain: Any
) -> None:
    seen: set[bool] = set()
    recording = Recording(
        on_advance=lambda _: seen.add(torch.are_deterministic_algorithms_enabled())
    )
    _, rows, _ = deep_run("model.deterministic=true", progress=recording)
    assert seen == {True}
    assert not torch.are_deterministic_algorithms_enabled()
    assert column(rows, "loss") == column(plain[1], "loss")


def test_a_frozen_encoder_stays_as_it_came_while_the_head_learns(
    deep_run: DeepRun, tiny_encoder: Path
) -> None:
    fitted, rows, _ = deep_run("model.trained_layers=0")
    assert changed(fitted, tiny_encoder) == set()
    assert set(column(rows, "layers")) == {0}
    losses = column(rows, "loss")
    assert losses[-1] < losses[0]


def test_the_top_layers_alone_can_be_fitted(deep_run: DeepRun, tiny_encoder: Path) -> None:
    assert changed(deep_run("model.trained_layers=1")[0], tiny_encoder) == {"1"}


def test_all_is_fitted_by_default_but_what_no_paper_reaches(plain: Any, tiny_encoder: Path) -> None:
    assert changed(plain[0], tiny_encoder) == {"embeddings", "0", "1"}


def test_layers_thaw_while_the_fit_goes_on(deep_run: DeepRun) -> None:
    layers = column(deep_run("model.unfreeze_epochs=0.5")[1], "layers")
    assert layers == [0.0] * 3 + [1.0] * 3 + [2.0] * 3 + [3.0] * 3


def test_encoder_and_head_have_rates_of_their_own_that_rise_and_fall(deep_run: DeepRun) -> None:
    _, rows, _ = deep_run("model.warmup=0.5", "model.rate=0.001", "model.head_rate=0.02")
    rates, head = column(rows, "lr"), column(rows, "head_lr")
    assert np.array(head) == pytest.approx(20 * np.array(rates))
    assert rates.index(max(rates)) == 6
    assert rates[:7] == sorted(rates[:7])
    assert rates[6:] == sorted(rates[6:], reverse=True)


@pytest.mark.parametrize(
    "override",
    ["label_smoothing=0.3", "cross_list_share=0.9", "dropout=0.6", "encoder_dropout=0.5"],
)
def test_what_shapes_the_loss_changes_it(deep_run: DeepRun, plain: Any, override: str) -> None:
    losses = column(deep_run(f"model.{override}")[1], "loss")
    assert losses[0] != column(plain[1], "loss")[0]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_pooling_changes_what_is_fitted(deep_run: DeepRun, plain: Any, pooling: str) -> None:
    fitted, rows, _ = deep_run(f"model.pooling={pooling}")
    assert fitted.model.pooling == pooling
    assert column(rows, "loss") != column(plain[1], "loss")


def test_class_weights_change_the_loss_of_an_uneven_corpus(
    deep_run: DeepRun, corpus: Corpus
) -> None:
    from dataclasses import replace

    from classmark.training.transformer import Targets, paper_weights

    labels = np.where(np.arange(48) < 40, 0, corpus.labels).astype(np.int16)
    targets = Targets(
        labels=labels,
        listed_indptr=corpus.listed_indptr,
        listed_indices=corpus.listed_indices,
        n_labels=3,
        smoothing=0.0,
        cross_list_share=0.0,
        weights=paper_weights(labels, 3, "none"),
    )
    weighted = replace(targets, weights=paper_weights(labels, 3, "balanced"))
    options = ("model.dropout=0", "model.encoder_dropout=0", "model.epochs=1")
    # The majority is soon learnt; with weights, the hard minority makes most of the loss.
    losses = [column(deep_run(*options, targets=t)[1], "loss") for t in (targets, weighted)]
    assert losses[0][-1] < losses[1][-1]


def test_accumulated_batches_make_the_step_of_one_large_batch(deep_run: DeepRun) -> None:
    still = ("model.dropout=0", "model.encoder_dropout=0", "model.bucketed=false")
    _, one, _ = deep_run(*still, "model.batch_size=16", "model.accumulation=1")
    _, two, _ = deep_run(*still, "model.batch_size=8", "model.accumulation=2")
    assert len(column(two, "loss")) == len(column(one, "loss")) == 6
    assert column(two, "loss") == pytest.approx(column(one, "loss"), rel=1e-4)


def test_mixed_precision_is_near_the_full_one_and_leaves_full_weights(
    deep_run: DeepRun, plain: Any
) -> None:
    fitted, rows, _ = deep_run("model.precision=bf16")
    losses, full = column(rows, "loss"), column(plain[1], "loss")
    assert losses != full
    assert losses[0] == pytest.approx(full[0], rel=0.02)
    assert {tensor.dtype for tensor in fitted.model.state_dict().values()} == {torch.float32}


def test_a_fit_that_gets_no_better_stops_early_and_keeps_the_best(deep_run: DeepRun) -> None:
    fitted, rows, _ = deep_run(
        "model.rate=1e-9", "model.head_rate=1e-9", "model.epochs=9", "model.patience=2"
    )
    assert fitted.state.stopped == "no better"
    assert fitted.state.best_epoch == 1
    assert len(column(rows, "top_1", "valid")) == 3


def test_the_epoch_with_the_lowest_loss_is_the_best_by_loss(deep_run: DeepRun) -> None:
    fitted, rows, _ = deep_run("model.monitor=loss", "model.epochs=4")
    losses = column(rows, "loss", "valid")
    assert fitted.state.best_epoch == 1 + int(np.argmin(losses))
    assert fitted.state.best == min(losses)


def test_the_time_limit_ends_a_fit_with_a_measured_model(deep_run: DeepRun) -> None:
    fitted, rows, _ = deep_run("model.time_limit_minutes=0.000001", "model.epochs=50")
    assert fitted.state.stopped == "time limit"
    assert fitted.state.step == 1
    assert len(column(rows, "loss", "valid")) == 1


def test_without_valid_papers_the_last_epoch_is_the_best(deep_run: DeepRun, corpus: Corpus) -> None:
    from classmark.training.transformer import Valid

    nothing = np.zeros(0, np.int32)
    papers = TokenisedPapers(
        nothing, nothing.astype(np.int8), np.zeros(1, np.int64), np.zeros(0, np.float32), 0
    )
    fitted, rows, _ = deep_run(valid=Valid(papers, np.zeros(0, np.int16)))
    assert fitted.state.best_epoch == 2
    assert column(rows, "loss", "valid") == []


class Kept(CsvTracker):
    """A tracker that keeps its numbers."""

    def __init__(self) -> None:
        self.rows: list[tuple[dict[str, float], int, int | None]] = []

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        self.rows.append((dict(values), step, epoch))


def test_progress_and_trackers_get_papers_speed_and_every_number(deep_run: DeepRun) -> None:
    recording, kept = Recording(), Kept()
    _, rows, _ = deep_run("model.epochs=1", progress=recording, trackers=Trackers([kept]))
    assert [values["train/loss"] for values, _, _ in kept.rows[:-1]] == column(rows, "loss")
    assert kept.rows[0][1:] == (1, 1)
    assert kept.rows[0][0]["train/papers_per_second"] > 0
    assert set(kept.rows[-1][0]) == {
        f"valid/{n}" for n in ("loss", "top_1", "top_5", "macro_f1", "ece")
    }
    assert sum(recording.counts) == 96
    assert "papers/s" in recording.notes[0]
    assert recording.notes[-1].endswith("0 s left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.4, "9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_time_is_spelled_in_two_units(seconds: float, text: str) -> None:
    assert spell_time(seconds) == text


EVERY_STEP = ("model.checkpoint_minutes=0", "model.epochs=3")


def test_a_loss_that_is_no_number_ends_the_fit_and_leaves_good_checkpoints(
    deep_run: DeepRun, tmp_path: Path
) -> None:
    wild = ("model.rate=10", "model.head_rate=10", "model.weight_decay=1", "model.clip=0")
    with pytest.raises(
        TrainingFailed, match=r"the (loss|gradient) is (nan|inf) in step \d+\. Lower"
    ):
        deep_run(*wild, *EVERY_STEP, "model.epochs=40", "model.decay=constant", folder=tmp_path)
    states = read_start(tmp_path)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in states.values())
    assert len(read_log(tmp_path)) > 0


def test_an_encoder_of_no_numbers_fails_in_its_first_step(
    deep_run: DeepRun, tmp_path: Path
) -> None:
    write_tiny_encoder(tmp_path / "encoder", initializer_range=float("inf"))
    with pytest.raises(TrainingFailed, match=r"the loss is nan in step 1\."):
        deep_run(encoder=tmp_path / "encoder")


def test_memory_that_ends_is_one_line_with_a_batch_that_may_fit(
    deep_run: DeepRun, corpus: Corpus
) -> None:
    from dataclasses import replace

    from classmark.training.transformer import Targets, Valid

    n, length = 4096, 250
    papers = TokenisedPapers(
        ids=np.full(n * length, 7, np.int32),
        types=np.zeros(n * length, np.int8),
        starts=np.arange(n + 1) * length,
        known_share=np.ones(n, np.float32),
        pad_id=0,
    )
    labels = (np.arange(n) % 3).astype(np.int16)
    targets = Targets(
        labels=labels, listed_indptr=np.arange(n + 1), listed_indices=labels, n_labels=3,
        smoothing=0.0, cross_list_share=0.0, weights=np.ones(n, np.float32),
    )  # fmt: skip
    valid = Valid(replace(papers, starts=papers.starts[:2]), labels[:1])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (400 << 20), limits[1]))
    try:
        with pytest.raises(OutOfMemory, match=r"batch_size=4096 .*Try model\.batch_size=2048 mod"):
            deep_run(
                "model.batch_size=4096", "model.max_length=250",
                papers=papers, targets=targets, valid=valid,
            )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_batch_of_one_that_does_not_fit_is_told_to_be_shorter() -> None:
    with (
        pytest.raises(OutOfMemory, match=r"Try model\.max_length=16, or a smaller model\.encoder"),
        memory_errors(quick_config("model.batch_size=1")),
    ):
        raise MemoryError
    with pytest.raises(RuntimeError, match="something else"), memory_errors(quick_config()):
        raise RuntimeError("something else")


def test_the_profiler_writes_a_table_and_a_trace(deep_run: DeepRun, tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    deep_run("model.epochs=1", profile=folder)
    assert "aten::" in (folder / "operations.txt").read_text()
    assert '"traceEvents"' in (folder / "trace.json").read_text()


def test_papers_are_scored_in_their_order_whatever_the_batch(
    plain: Any, deep_run: DeepRun, corpus: Corpus, tiny_encoder: Path
) -> None:
    from classmark.kernels.tokens import PairTokenizer
    from classmark.training.transformer import tokenise

    tokenizer = PairTokenizer(tiny_encoder / "tokenizer.json", 32)
    papers = tokenise(tokenizer, corpus.pairs, SILENT)
    assert papers.lengths.max() == 32
    scores = [score_papers(plain[0].model, papers, size, SILENT) for size in (48, 5)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    alone = tokenise(tokenizer, corpus.pairs[3:4], SILENT)
    assert score_papers(plain[0].model, alone, 1, SILENT)[0] == pytest.approx(
        scores[0][3], abs=1e-5
    )


def test_the_two_newest_weights_are_kept(tmp_path: Path) -> None:
    for epoch in (2, 9, 10):
        (tmp_path / f"epoch-{epoch}.safetensors").touch()
    drop_old_weights(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"epoch-9", "epoch-10"}
