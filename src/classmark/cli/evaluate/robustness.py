"""``classmark evaluate robustness``: how a model fares on perturbed papers and on other texts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.evaluate.report import (
    AsJson,
    Bootstrap,
    Html,
    Output,
    Split,
    check_endings,
    check_places,
    keep,
    print_report,
    resampling,
    resampling_words,
)
from classmark.cli.evaluate.sources import DEFAULT_SPLIT, model_folder
from classmark.cli.options import complete_model
from classmark.cli.output import check_ending, print_error
from classmark.cli.places import ANYWHERE, COPY, AnyPlace, address_of
from classmark.errors import GateFailed, UsageError

if TYPE_CHECKING:
    from classmark.evaluation import EvaluationConfig, RobustnessConfig
    from classmark.records import RobustnessGates, RobustnessReport


@dataclass(frozen=True)
class Subject:
    """A model, and the split of a dataset that is perturbed."""

    model: str
    dataset: Path
    split: str

    def words(self) -> list[str]:
        """Return the words that name them on a command line."""
        words = ["classmark", "evaluate", "robustness", "--model", self.model]
        return [*words, "--dataset", address_of(self.dataset), "--split", self.split]


@dataclass(frozen=True)
class Places:
    """Where results go and minima come from."""

    output: Path | None
    html: Path | None
    gates: Path | None
    write_gates: Path | None


def robustness(
    *,
    model: Annotated[
        str,
        typer.Option(
            metavar="M", help="NAME, NAME@VERSION or PATH.", autocompletion=complete_model
        ),
    ],
    dataset: Annotated[
        Path, typer.Option(click_type=COPY, metavar="DIR", help="Dataset folder with the papers.")
    ],
    split: Split = None,
    papers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Maximum number of papers [default: 5,000]."),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(metavar="KIND,...", help="Measure only these kinds [default: all]."),
    ] = None,
    output: Output = None,
    html: Html = None,
    gates: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY, metavar="FILE", help="Minimum values; exit code 1 if one is not met."
        ),
    ] = None,
    write_gates: Annotated[
        AnyPlace | None,
        typer.Option(
            click_type=ANYWHERE, metavar="FILE", help="Write the measured values as minima."
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="X",
            help="Subtracted from written minima [default: 0.01].",
        ),
    ] = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of papers and perturbations.")
    ] = None,
) -> None:
    """Measure a model on perturbed papers and on texts that are not papers.

    Typos, scanning errors, missing parts, broken LaTeX, case, noise, other languages, non-papers,
    later years: accuracy, probability and abstention at each level, against the clean papers.
    """
    from classmark.cli.dataset.needs import need_packages
    from classmark.pages import robustness_text

    if margin is not None and write_gates is None:
        raise UsageError("--margin belongs to --write-gates FILE; give both or neither.")
    places = Places(output, html, gates, write_gates)
    subject = Subject(model, dataset, split or DEFAULT_SPLIT)
    minima = _prepare(places, subject)
    need_packages("measuring robustness")
    config = _config(papers, kinds, resampling(bootstrap, seed))
    report = _measure(subject, config)
    failures = _check(report, minima, places)
    keep(report, places.output, "" if places.html is None else _as_page(report), places.html)
    _keep_gates(report, places, margin)
    print_report(report, robustness_text, as_json=as_json)
    _report_gates(failures, minima, places)


def _prepare(places: Places, subject: Subject) -> RobustnessGates | None:
    """Refuse what cannot work before the work is done; return the minima."""
    if places.gates is not None and places.write_gates is not None:
        raise UsageError(
            "--gates checks minima and --write-gates writes new ones; run the command for each."
        )
    check_places(
        (places.output, places.html, places.write_gates),
        (model_folder(subject.model), subject.dataset, places.gates),
    )
    check_endings(places.output, places.html)
    check_ending("--write-gates", places.write_gates, (".json",))
    from classmark.evaluation import read_gates

    return None if places.gates is None else read_gates(places.gates)


def _config(
    papers: int | None, kinds: str | None, measurement: EvaluationConfig
) -> RobustnessConfig:
    from classmark.evaluation import RobustnessConfig

    given: dict[str, Any] = {"papers": papers, "kinds": None if kinds is None else _kinds(kinds)}
    return RobustnessConfig(
        **{key: value for key, value in given.items() if value is not None},
        measurement=measurement,
    )


def _kinds(text: str) -> tuple[str, ...]:
    from classmark.evaluation import ROBUSTNESS_KINDS

    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in ROBUSTNESS_KINDS]
    if unknown:
        raise UsageError(
            f"--kinds: unknown kind {unknown[0]!r}. Choose from: {', '.join(ROBUSTNESS_KINDS)}."
        )
    return tuple(name for name in ROBUSTNESS_KINDS if name in names)


def _measure(subject: Subject, config: RobustnessConfig) -> RobustnessReport:
    from classmark.cli.progress import progress_bar
    from classmark.evaluation import ROBUSTNESS_KINDS, measure_robustness
    from classmark.pipeline import judge_robustness

    words = [*subject.words(), "--papers", str(config.papers)]
    if config.kinds != ROBUSTNESS_KINDS:
        words += ["--kinds", ",".join(config.kinds)]
    words += resampling_words(config.measurement)
    with progress_bar("classifying", unit="texts") as progress:
        study = judge_robustness(subject.model, subject.dataset, subject.split, config, progress)
    with progress_bar("measuring") as progress:
        progress.advance(study.clean.top.size)
        return measure_robustness(study, config=config, command=shlex.join(words))


def _check(
    report: RobustnessReport, minima: RobustnessGates | None, places: Places
) -> tuple[str, ...]:
    from classmark.evaluation import check_gates, other_papers

    if minima is None:
        return ()
    other = other_papers(report, minima)
    if other:
        print_error(f"note: the minima of {places.gates} were measured on other papers: {other}")
    return tuple(map(str, check_gates(report, minima)))


def _as_page(report: RobustnessReport) -> str:
    from classmark.pages import robustness_page

    return robustness_page(report)


def _keep_gates(report: RobustnessReport, places: Places, margin: float | None) -> None:
    from classmark.evaluation import make_gates
    from classmark.storage import write_json

    if places.write_gates is not None:
        made = make_gates(report) if margin is None else make_gates(report, margin)
        write_json(places.write_gates, made.to_dict())
        typer.echo(f"gates written to {places.write_gates}", err=True)


def _report_gates(
    failures: tuple[str, ...], minima: RobustnessGates | None, places: Places
) -> None:
    from classmark.evaluation import count_gates

    if minima is None:
        return
    total = count_gates(minima)
    if not failures:
        typer.echo(f"all {total} gates of {places.gates} hold", err=True)
        return
    for failure in failures:
        print_error(f"gate failed: {failure}")
    raise GateFailed(
        f"{len(failures)} of {total} gates of {places.gates} failed, named above. Find out what "
        "made the model worse, or agree on new minima with --write-gates."
    )
