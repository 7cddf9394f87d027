"""Which processes make a fit, and what becomes of an error in one of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from classmark.errors import InvalidConfig, InvalidDataset, WorkerFailed
from classmark.pipeline import compose_config
from classmark.training.transformer.processes import (
    VARIABLES,
    joined,
    processors,
    read_variables,
)

pytestmark = pytest.mark.timeout(900)  # reason: processes import torch, on a busy machine slowly

SET = {
    "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip


def config(*overrides: str) -> Any:
    words = ["model=transformer", "model.device=cpu", "dataset.path=data", *overrides]
    return compose_config(words).model


def test_torchrun_gives_each_process_its_place() -> None:
    place = read_variables(SET)
    assert place is not None
    assert (place.rank, place.count, place.local_rank, place.local_count) == (3, 4, 1, 2)
    assert (place.machines, place.is_first) == (2, False)
    assert read_variables({}) is None


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_of_torchrun_that_are_half_set_are_refused_by_name(name: str) -> None:
    given = {key: value for key, value in SET.items() if key != name}
    with pytest.raises(InvalidConfig, match=rf"but {name} is not\. Start the command with torch"):
        read_variables(given)
    with pytest.raises(InvalidConfig, match=rf"^{name} is set, but .* unset {name}\."):
        read_variables({name: SET[name]})


@pytest.mark.parametrize(
    "wrong",
    [{"RANK": "4"}, {"RANK": "-1"}, {"WORLD_SIZE": "three"}, {"LOCAL_RANK": "2"},
     {"WORLD_SIZE": "5"}, {"LOCAL_WORLD_SIZE": "0"}],
)  # fmt: skip
def test_variables_of_torchrun_that_contradict_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="are not the place of one process among others"):
        read_variables({**SET, **wrong})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.strategy=horovod", r"model\.strategy is 'horovod', choose one of: ddp, fsdp\."),
        ("model.devices=0", r"model\.devices is 0, it must be from 1 to 1024\."),
        ("model.devices=two", r"model\.devices must be a whole number"),
        ("model.workers=-1", r"model\.workers is -1, it must be from 0 to 256\."),
    ],
)
def test_an_impossible_option_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        config(override)


@pytest.mark.parametrize("override", ["model.unfreeze_epochs=1", "model.precision=fp16"])
def test_fsdp_refuses_what_it_cannot_divide(override: str) -> None:
    with pytest.raises(InvalidConfig, match=r"model\.strategy=fsdp fits the same layers from"):
        config("model.strategy=fsdp", override)


def test_another_kind_of_model_is_not_fitted_by_several_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from classmark.pipeline import train

    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidConfig, match="model=linear is fitted by one process, and torchrun"):
        train(compose_config(["dataset.path=data"]), command="a test")


def enter(found: Any) -> None:
    with joined(found, never):
        raise AssertionError("nothing was refused")


def never() -> None:
    raise AssertionError("a process was started")


needs_torch = pytest.mark.slow  # reason: imports torch, starts processes


@needs_torch
def test_more_devices_than_the_machine_has_are_refused() -> None:
    pytest.importorskip("torch")
    has = processors()
    message = rf"model\.devices is {has + 1}, this machine has {has} processors\. Give model\.dev"
    with pytest.raises(InvalidConfig, match=message):
        enter(config(f"model.devices={has + 1}", f"model.accumulation={has + 1}"))


@needs_torch
@pytest.mark.skipif(processors() < 2, reason="two processes need two processors")
def test_batches_that_cannot_be_shared_equally_are_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(InvalidConfig, match=r"accumulation is 3: 3 batches of a step cannot be sh"):
        enter(config("model.devices=2", "model.accumulation=3"))


def test_a_model_cannot_be_divided_among_one_process() -> None:
    with pytest.raises(InvalidConfig, match=r"'fsdp', which divides a model .* only one\. Give mo"):
        enter(config("model.strategy=fsdp"))


@needs_torch
def test_other_devices_than_torchrun_has_started_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidConfig, match=r"is 3, but torchrun has started 2 .*-per-node 3\."):
        enter(config("model.devices=3", "model.accumulation=12"))


def fails() -> None:
    with joined(config("model.devices=2"), never):
        raise InvalidDataset("the papers of process 1 are damaged.")


def dies() -> None:
    with joined(config("model.devices=2"), never):
        os.kill(os.getpid(), signal.SIGKILL)


def breaks() -> None:
    with joined(config("model.devices=2"), never):
        raise ZeroDivisionError("of its own")


@needs_torch
@pytest.mark.skipif(processors() < 2, reason="two processes need two processors")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("beside", "kind", "message"),
    [
        (fails, InvalidDataset, r"the papers of process 1 are damaged\."),
        (dies, WorkerFailed, r"process 1 of the fit was ended by signal 9\."),
        (breaks, WorkerFailed, r"process 1 of the fit failed: ZeroDivisionError: of its own"),
    ],
)
def test_an_error_in_another_process_is_that_of_the_fit(
    beside: Callable[[], None], kind: type[Exception], message: str
) -> None:
    pytest.importorskip("torch")
    with (
        pytest.raises(kind, match=message),
        joined(config("model.devices=2"), beside) as processes,
        processes.lost_ones(),
    ):
        processes.sum(1.0)
    assert not {*VARIABLES, "GLOO_SOCKET_IFNAME"} & os.environ.keys()


def does_not_start() -> None:
    """Is pickled by a name that the other process does not find."""


@needs_torch
@pytest.mark.skipif(processors() < 2, reason="two processes need two processors")
def test_a_process_that_does_not_start_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(sys.modules[__name__], "absent", does_not_start, raising=False)
    monkeypatch.setattr(does_not_start, "__qualname__", "absent")
    with (
        pytest.raises(WorkerFailed, match=r"did not start \(exit code 1\)"),
        joined(config("model.devices=2"), does_not_start),
    ):
        raise AssertionError("it did not start")


@needs_torch
def test_the_state_of_an_optimiser_is_divided_in_the_order_of_its_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    from lightning.fabric.plugins.environments.lightning import find_free_network_port
    from torch.distributed import destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from classmark.training.transformer.strategies import _divided_state

    def with_optimiser(model: Any) -> Any:
        reversed_ = [{"params": [p]} for p in reversed(list(model.parameters()))]
        return torch.optim.AdamW(reversed_)

    for name, value in {**SET, "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": str(find_free_network_port())}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    whole, divided = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    before = with_optimiser(whole)
    whole(torch.ones(1, 3)).sum().backward()
    before.step()
    init_process_group("gloo")
    try:
        fully_shard(divided, mesh=init_device_mesh("cpu", (1,)))
        after = with_optimiser(divided)
        after.load_state_dict(_divided_state(after, before.state_dict()))
        for mine, theirs in zip(whole.parameters(), divided.parameters(), strict=True):
            kept = after.state[theirs]["exp_avg"].full_tensor()
            assert torch.equal(kept, before.state[mine]["exp_avg"])
    finally:
        destroy_process_group()
