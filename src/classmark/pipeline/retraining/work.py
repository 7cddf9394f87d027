"""Carries out an order: extend, fit, gate and register a model, and let it replace the champion.

Each step is an event in ``orders/ID/order.json``. A step that was interrupted is done again, and
what it had finished is found: the stages know what they were made of, the registry has its events.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from classmark.dataset import extend_dataset, load_manifest
from classmark.errors import (
    CandidateRefused,
    ClassmarkError,
    Interrupted,
    OutputBusy,
    StorageFailed,
    UsageError,
)
from classmark.pipeline.retraining.policy import Retraining
from classmark.pipeline.retraining.replace import replacements
from classmark.pipeline.stages.config import PipelineConfig, started_from, with_groups
from classmark.pipeline.stages.stages import BUNDLE, DATASET, RUN
from classmark.pipeline.stages.walk import summary, walk
from classmark.records import SILENT, Progress, RetrainOrder, RetrainState
from classmark.records.registry import RetrainStep
from classmark.retrain import Orders
from classmark.storage import leased, locked_folder, remove

ATTEMPTS = 3
"""Failures of one step after which an order is given up."""
STEPS: dict[str, RetrainStep] = {
    "train": "trained",
    "export": "exported",
    "evaluate": "evaluated",
    "gate": "gated",
    "register": "registered",
}
"""The stages of the pipeline that follow the dataset, and what their events are called."""


@contextmanager
def held(folder: Path, lease: Path | None = None) -> Iterator[Orders]:
    """Yield the orders of a folder, which no other process carries out meanwhile.

    Args:
        folder: of the orders.
        lease: object in a bucket that keeps other machines away, where they share the folder.

    Raises:
        OutputBusy: another process does.
        StorageFailed: the folder, or the object, cannot be written.
    """
    with ExitStack() as stack:
        if lease is not None:
            stack.enter_context(leased(lease))
        stack.enter_context(locked_folder(folder, otherwise="use another --folder"))
        yield Orders(folder)


def carry_out(
    orders: Orders,
    task: Retraining,
    order: RetrainOrder | RetrainState,
    progress: Progress = SILENT,
) -> RetrainState:
    """Do of an order what can be done now; return its state, which may still be open.

    An open one waits for a service that follows the registry: call this again later.

    Args:
        orders: of the folder, which is held.
        task: what it is carried out with.
        order: a new one, or one that was begun.
        progress: of the steps.

    Raises:
        ClassmarkError: a step failed; the next call repeats it, after three failures the order is
            given up.
    """
    if isinstance(order, RetrainOrder):
        order = orders.begin(order, _named(task, order))
    work = _Work(orders, task, order, progress)
    try:
        work.advance()
    except (Interrupted, OutputBusy):
        raise
    except ClassmarkError as error:
        work.failed(error)
        raise
    if work.state.outcome:
        _tidy(orders)
    return work.state


def current_dataset(orders: Orders, given: Path | None) -> Path:
    """Return the dataset that new papers join: that of the last promoted model, or the first one.

    If there is neither, it is that of the open order, which has all that its steps need.

    Raises:
        UsageError: there is no such dataset.
    """
    states = orders.all()
    promoted = [state for state in states if state.outcome == "promoted"]
    if promoted:
        return orders.place(promoted[-1].order) / DATASET
    opened = [state for state in states if not state.outcome and state.event("extended")]
    if given is None and opened:
        return orders.place(opened[-1].order) / DATASET
    if given is None:
        raise UsageError(
            f"no model of {orders.folder} has been promoted yet, so it has no dataset to extend. "
            "Name the dataset of the champion with --dataset."
        )
    return given


def _named(task: Retraining, order: RetrainOrder) -> dict[str, Any]:
    """Return name and version of the new bundle: the champion's name, and the next version."""
    pointer = task.registry.pointer()
    name = pointer.bundles[order.champion].name
    versions = [known.version for known in pointer.bundles.values() if known.name == name]
    return {"name": name, "version": next_version(versions), "dataset": task.dataset.name}


def next_version(versions: list[str]) -> str:
    """Return the version after the greatest one: 2.1 after 2.0, and 2.10 after 2.9.

    Args:
        versions: such as ``2.0`` or ``1.4.2rc1``; other parts than numbers count as 0.
    """
    greatest = max((_numbers(version) for version in versions), default=(0,))
    padded = (*greatest, 0) if len(greatest) == 1 else greatest
    return ".".join(str(n) for n in (*padded[:-1], padded[-1] + 1))


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) if part.isascii() and part.isdecimal() else 0 for part in parts)


class _Work:
    """The work of one call on one order."""

    def __init__(
        self, orders: Orders, task: Retraining, state: RetrainState, progress: Progress
    ) -> None:
        self._orders, self._task, self._progress = orders, task, progress
        self.state = state
        self._place = orders.place(state.order)
        self._spent = _cpu_s()
        self._step = "extended"

    def advance(self) -> None:
        """Do step after step, until one has to wait or the order has ended."""
        if not self.state.event("registered"):
            self._extend()
            if not self._fit():
                return
        self._step = "replaced"
        for step, facts in replacements(self._task, self.state, self._progress):
            self._add(step, facts)

    def failed(self, error: ClassmarkError) -> None:
        """Keep that a step failed, and give the order up if it did so too often."""
        with suppress(StorageFailed):  # the disk may be what failed
            self._add("failed", {"step": self._step, "error": str(error)})
            since = reversed(self.state.events)
            repeated = [event for event in since if event.facts.get("step") == self._step]
            if len(repeated) >= ATTEMPTS:
                why = f"{self._step} failed {len(repeated)} times"
                self._add("abandoned", {"why": why})

    def _add(self, step: RetrainStep, facts: Mapping[str, Any]) -> None:
        now = _cpu_s()
        self.state = self._orders.add(self.state, step, facts, now - self._spent)
        self._spent = now

    def _extend(self) -> None:
        if self.state.event("extended"):
            return
        self._progress.step("extending the dataset")
        task, output = self._task, self._place / DATASET
        manifest = extend_dataset(
            *(task.dataset, task.new, output, task.extend), overwrite=True, progress=self._progress
        )
        new = manifest.config["extension"]["new"]
        self._add("extended", {"digest": manifest.digest, "new": new})

    def _fit(self) -> bool:
        """Walk the stages after the dataset; return whether the new bundle passed the gate."""
        config, order = self._config(), tuple(STEPS)
        with chdir(self._place):
            try:
                self._step = STEPS[order[0]]
                for report in walk(config, only=order, progress=self._progress):
                    done = STEPS[report.stage]
                    if not self.state.event(done):
                        self._add(done, _facts_of(report.stage))
                    self._step = STEPS[order[min(order.index(report.stage) + 1, len(order) - 1)]]
            except CandidateRefused as error:
                self._add("refused", {"by": "gate", "why": str(error)})
                return False
        return True

    def _config(self) -> PipelineConfig:
        """Return the configuration of the stages, with paths that hold in the order's folder."""
        config, ordered = self._task.config, self.state.events[0].facts
        export = replace(config.export, name=ordered["name"], version=ordered["version"])
        gate = replace(config.gate, registry=str(self._task.registry.path.resolve()))
        config = with_groups(config, export=export, gate=gate)
        run = _last_run(self._orders) if self.state.order.start == "warm" else None
        return started_from(config, run) if run else config


def _last_run(orders: Orders) -> Path | None:
    """Return the run of the last promoted model, None before the first: that fit is a full one."""
    promoted = [state.order for state in orders.all() if state.outcome == "promoted"]
    return orders.place(promoted[-1]) / RUN if promoted else None


def _facts_of(stage: str) -> dict[str, Any]:
    """Return what came of a stage in the current folder, for its event."""
    found = summary()
    if stage == "export":
        return dict(found.get("bundle", {}))
    if stage == "evaluate":
        return dict(found.get("metrics", {}))
    if stage == "register":
        return dict(found.get("registered", {}))
    return (
        {"dataset": load_manifest(Path(DATASET), verify=False).digest} if stage == "train" else {}
    )


def _tidy(orders: Orders) -> None:
    """Remove large folders of ended orders that nothing reads any more.

    The registry has the bundles. The dataset of the last promoted model stays, and so do the run
    and the reports of every order.
    """
    ended = [state for state in orders.all() if state.outcome]
    promoted = [state.order.id for state in ended if state.outcome == "promoted"]
    for state in ended:
        is_read = state.order.id in promoted[-1:]
        for name in (BUNDLE,) if is_read else (BUNDLE, DATASET):
            remove(orders.place(state.order) / name)


def _cpu_s() -> float:
    """Return the CPU-seconds of this process, and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
