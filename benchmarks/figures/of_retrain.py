"""Figure 9: the stages of the pipeline, as ``dvc.yaml`` has them, and the steps of an order."""

from __future__ import annotations

from typing import Any, get_args

import yaml
from marks import WIDTH, arrow, box, document, lines, words

from classmark.pipeline.retraining.work import STEPS
from classmark.pipeline.stages import compose_pipeline, pipeline_files
from classmark.records.registry import RETRAIN_ENDS, RetrainStep

LABEL = (
    "Each stage of the pipeline with what it reads and writes, and beside it the step of an order "
    "to retrain that carries it out; then shadow and canary, and the ways in which an order ends"
)
LEFT, STAGE, OUT, STEP = 190, 206, 340, 580
BOX, HEIGHT, ROW, TOP = 108, 40, 62, 48
NAMES_IN_ROW = 2
FIRST, TRIED = "extended", ("shadow", "canary")
TRIES = {"shadow": "scores papers beside the champion", "canary": "answers a share of the clients"}
ENDS = {
    "promoted": "it is the champion",
    "rolled_back": "by the rules of the canary",
    "refused": "by gate or shadow",
    "abandoned": "a step failed three times",
}


def draw() -> str:
    """Return the figure."""
    stages = yaml.safe_load(pipeline_files(compose_pipeline([]))["dvc.yaml"])["stages"]
    heads = ((LEFT, "reads", "end"), (STAGE + BOX / 2, "stage", "middle"), (OUT, "writes", "start"))
    marks = [words(x, TOP - 20, name, "name", side) for x, name, side in heads]
    marks.append(words(STEP, TOP - 20, "step of an order", "name"))
    for row, (name, stage) in enumerate(stages.items()):
        marks += _stage(TOP + row * ROW, name, stage)
    y = TOP + len(stages) * ROW
    for row, step in enumerate(TRIED):
        marks += _tried(y + row * ROW, step)
    y += len(TRIED) * ROW + 14
    marks.append(words(8, y - 4, "and ends as", "name"))
    width = (WIDTH - 16) / len(RETRAIN_ENDS)
    for number, end in enumerate(RETRAIN_ENDS):
        x = 8 + number * width
        marks.append(box(x, y + 8, width - 10, 48, "result" if end == "promoted" else "card"))
        marks.append(words(x + 10, y + 27, end.replace("_", " "), "head"))
        marks.append(words(x + 10, y + 45, ENDS[end], "tick"))
    return document(LABEL, y + 66, marks)


def _stage(y: float, name: str, stage: dict[str, Any]) -> list[str]:
    """Return a row: what a stage of ``dvc.yaml`` reads and writes, and its step of an order."""
    middle = y + HEIGHT / 2
    reads = [_name_of(each) for each in stage.get("deps", ())]
    writes = [_name_of(each) for key in ("outs", "metrics", "plots") for each in stage.get(key, ())]
    marks = [box(STAGE, y, BOX, HEIGHT), words(STAGE + BOX / 2, middle + 5, name, "head", "middle")]
    if reads:
        marks += _names(LEFT - 8, middle, reads, "end")
        marks.append(arrow(LEFT - 2, middle, STAGE - 3, middle))
    marks.append(arrow(STAGE + BOX + 3, middle, OUT - 6, middle))
    marks += _names(OUT, middle, writes, "start")
    step = STEPS.get(name, FIRST)
    marks.append(words(STEP, middle + 4, step.replace("_", " "), "code"))
    if step == FIRST:
        marks.append(words(STEP, middle + 19, "new papers join instead", "tick"))
    return marks


def _names(x: float, middle: float, names: list[str], side: str) -> list[str]:
    rows = [", ".join(names[i : i + NAMES_IN_ROW]) for i in range(0, len(names), NAMES_IN_ROW)]
    top = middle + 4 - 7 * (len(rows) - 1)
    return [words(x, top + 14 * i, row, "code", side) for i, row in enumerate(rows)]


def _name_of(entry: str | dict[str, Any]) -> str:
    return entry if isinstance(entry, str) else next(iter(entry))


def _tried(y: float, step: str) -> list[str]:
    """Return a row of a step that the service takes part in."""
    if step not in get_args(RetrainStep):
        raise ValueError(f"{step} is not a step of an order")
    middle = y + HEIGHT / 2
    return [
        box(STAGE, y, BOX, HEIGHT, "result"),
        words(STAGE + BOX / 2, middle + 5, "the service", "head", "middle"),
        *lines(OUT, middle + 4, [TRIES[step]], "tick"),
        words(STEP, middle + 4, step, "code"),
    ]
