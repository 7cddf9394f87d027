"""Options that several commands of ``classmark monitor`` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.options import columns_option, complete_model
from classmark.cli.places import ANYWHERE, COPY, AnyPlace

if TYPE_CHECKING:
    from classmark.monitor.history import History
    from classmark.monitor.labels import LabelSources
    from classmark.monitor.policy import WatchPolicy

DEFAULT_NEWEST = 2_000
"""``classmark.monitor.look.DEFAULT_NEWEST``, which would load numpy for a help text."""

Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[@VERSION]|PATH",
        help="Model whose predictions to look at.",
        show_default="the default model",
        autocompletion=complete_model,
    ),
]
WatchedRegistry = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="DIR",
        help="Watch the champion of this registry (folder or gs://...), whichever it is then; "
        "--model names another bundle of it.",
    ),
]
Kept = Annotated[
    AnyPlace | None,
    typer.Option(
        "--history",
        metavar="FILE",
        click_type=ANYWHERE,
        help="SQLite file that keeps the reports.",
        show_default="CLASSMARK_HOME/monitor.sqlite",
    ),
]
Newest = Annotated[int, typer.Option(min=1, metavar="N", help="Compare the newest N predictions.")]
WithStream = Annotated[
    bool, typer.Option("--stream/--no-stream", help="Continue the watch of every prediction.")
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="FROM..UNTIL",
        help="Compare with the predictions of this span, not with the reference of the model.",
    ),
]
Alpha = Annotated[
    float | None, typer.Option(metavar="P", help="Chance of a false alarm [default: 0.01].")
]
RetrainSize = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Share of papers from another field that asks for a new model [default: 0.05].",
    ),
]
PageSize = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Share from which somebody is called [default: 0.2]."),
]
MostLoss = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Accuracy that may be lost before a new model is asked for [default: 0.03].",
    ),
]

LabelFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--labels",
        click_type=COPY,
        metavar="FILE",
        help="Papers with categories, such as `classmark harvest` wrote: labels of papers drawn "
        "at random. May be repeated.",
    ),
]
RandomFeedback = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="API key (its id) whose feedback is about papers drawn at random, not about wrong "
        "answers; `all` for every key. May be repeated.",
    ),
]


def sources_of(
    files: list[Path] | None, feedback_of: list[str] | None, columns: str | None
) -> LabelSources:
    """Return the sources of labels of papers drawn at random."""
    from classmark.monitor.labels import LabelSources

    return LabelSources(
        files=tuple(files or ()),
        feedback_of=tuple(feedback_of or ()),
        columns=columns_option(columns),
    )


def policy_of(
    alpha: float | None,
    retrain_size: float | None,
    page_size: float | None,
    most_loss: float | None,
) -> WatchPolicy:
    """Return the policy of the options that were given, with the usual value of each other."""
    from classmark.monitor.policy import WatchPolicy

    given = {"alpha": alpha, "retrain_size": retrain_size, "page_size": page_size}
    given["most_loss"] = most_loss
    return WatchPolicy(**{name: value for name, value in given.items() if value is not None})


def registry_of(place: str | None) -> Path | None:
    """Return the folder of the option --registry, which may be in a bucket."""
    from classmark.cli.registry.options import place_of

    return place_of(place) if place else None


def history_of(path: Path | None) -> History:
    """Return the history of a file, of the usual one for None."""
    from classmark.bundle.find import home_folder
    from classmark.monitor.history import History

    if path is None:
        path = home_folder("the history of the monitor", "its file with --history")
        path /= "monitor.sqlite"
    return History(path)
