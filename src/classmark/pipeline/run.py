"""One fit of any kind: the configuration says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from classmark.pipeline.config import TrainConfig
from classmark.pipeline.offline import train_linear
from classmark.tracking import warn_on_stderr
from classmark.training.transformer.listeners import Listeners


def train(
    config: TrainConfig,
    *,
    command: str,
    on_step: Callable[[str], None],
    on_progress: Callable[[int], None],
    on_note: Callable[[str], None] = lambda _: None,
    on_warning: Callable[[str], None] = warn_on_stderr,
) -> Path:
    """Fit a model of the configured kind, score the other splits, and return the run folder.

    Args:
        config: what to fit on what.
        command: the command line, for the provenance.
        on_step: hears of every step.
        on_progress: hears of papers done.
        on_note: hears of loss, speed and time left, if the kind knows them.
        on_warning: hears of a tracker that fails.

    Raises:
        ClassmarkError: as ``train_linear`` and ``train_deep`` say.
    """
    if config.kind == "linear":
        return train_linear(
            config,
            command=command,
            on_step=on_step,
            on_progress=on_progress,
            on_note=on_note,
            on_warning=on_warning,
        )
    if config.kind == "cascade":
        from classmark.pipeline.cascade import train_cascade

        return train_cascade(config, command=command, on_step=on_step, on_progress=on_progress)
    from classmark.pipeline.deep import train_deep

    listeners = Listeners(on_step=on_step, on_progress=on_progress, on_note=on_note)
    return train_deep(config, command=command, listeners=listeners, on_warning=on_warning)
