"""The configuration of the GPU job: one JSON file that has every key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """The configuration of the job; the JSON file has every key, nothing is composed here.

    Attributes:
        data: folder of ``prepare.py``; relative to the configuration file.
        pooling: ``mean``, ``cls`` or ``max`` of the last hidden states.
        max_length: longer papers are cut, in tokens.
        epochs: passes over the training papers.
        batch_tokens: tokens of a step, padding included.
        encoder_rate: peak step of the top layer (AdamW).
        head_rate: the same for the head.
        layer_decay: each layer below has its rate multiplied by this.
        weight_decay: of matrices; vectors have none.
        warmup: share of the steps over which the rate rises; it falls linearly after it.
        dropout: before the head.
        label_smoothing: share of the target spread over all labels.
        listed_share: share of the target spread over the paper's other listed categories.
        average_decay: of the running average of the weights, per step; 0 keeps the last ones.
        clip: longest gradient.
        period_weights: weight of a paper in the loss by its period; others weigh 1.
        seed: of order, dropout and head.
        precision: ``bf16`` or ``fp32`` of the forward pass; weights are float32.
        compile: let torch compile the encoder.
        time_limit_s: the fit ends here, measured from its first step.
        peak_tflops: of the device at that precision, for the share of peak; null if unknown.
    """

    data: str
    pooling: str
    max_length: int
    epochs: int
    batch_tokens: int
    encoder_rate: float
    head_rate: float
    layer_decay: float
    weight_decay: float
    warmup: float
    dropout: float
    label_smoothing: float
    listed_share: float
    average_decay: float
    clip: float
    period_weights: Mapping[str, float]
    seed: int
    precision: str
    compile: bool
    time_limit_s: float
    peak_tflops: float | None

    @classmethod
    def read(cls, path: Path, changes: Sequence[str]) -> JobConfig:
        """Read a configuration, change some keys, and refuse unknown or missing ones."""
        values = json.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            key, equals, value = change.partition("=")
            if not equals:
                raise SystemExit(f"{change!r} is not KEY=VALUE, e.g. epochs=1.")
            try:
                values[key] = json.loads(value)
            except ValueError:
                values[key] = value
        names = {field.name for field in fields(cls)}
        for key in sorted(names ^ set(values)):
            problem = "is missing" if key in names else "is unknown"
            raise SystemExit(f"{path.name}: {key} {problem}. It has: {', '.join(sorted(names))}.")
        if values["pooling"] not in ("mean", "cls", "max"):
            raise SystemExit(f"pooling is {values['pooling']!r}; choose mean, cls or max.")
        if values["precision"] not in ("bf16", "fp32"):
            raise SystemExit(f"precision is {values['precision']!r}; choose bf16 or fp32.")
        data = (path.parent / values["data"]).resolve()
        return replace(cls(**values), data=str(data))
