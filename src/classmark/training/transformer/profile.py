"""Where the time of a step goes: torch's profiler over a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from torch.profiler import ProfilerActivity, profile, schedule

from classmark.storage import write_text

_WARM_STEPS, _MEASURED_STEPS = 1, 3
_ROWS = 40


class ProfileSteps(Callback):
    """Writes ``operations.txt``, a table, and ``trace.json``, for a trace viewer."""

    def __init__(self, folder: Path) -> None:
        """Take the folder to write to."""
        self._folder = folder
        self._profile: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to measure."""
        del pl_module
        on_gpu = trainer.strategy.root_device.type == "cuda"
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        steps = schedule(wait=0, warmup=_WARM_STEPS, active=_MEASURED_STEPS, repeat=1)
        self._profile = profile(
            activities=activities, schedule=steps, on_trace_ready=self._write, acc_events=True
        )
        self._profile.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        """Count a step."""
        self._profile.step()

    def on_train_end(self, *_: Any) -> None:
        """End the measuring."""
        self._profile.__exit__(None, None, None)

    def on_exception(self, *_: Any) -> None:
        """End the measuring too."""
        self._profile.__exit__(None, None, None)

    def _write(self, measured: Any) -> None:
        averages = measured.key_averages()
        table = averages.table(sort_by="self_cpu_time_total", row_limit=_ROWS)
        write_text(self._folder / "operations.txt", table + "\n")
        measured.export_chrome_trace(str(self._folder / "trace.json"))
