"""``classmark evaluate robustness``: how a model fares on perturbed papers and on other texts."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.output import check_ending, open_sink, print_error, printable
from classmark.errors import GateFailed, InvalidGates, UsageError

if TYPE_CHECKING:
    from classmark.evaluation import RobustnessConfig
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
        return [*words, "--dataset", str(self.dataset), "--split", self.split]


@dataclass(frozen=True)
class Places:
    """Where results go and minima come from."""

    output: Path | None
    html: Path | None
    gates: Path | None
    write_gates: Path | None


def robustness(
    *,
    model: Annotated[str, typer.Option(metavar="M", help="NAME, NAME@VERSION or PATH.")],
    dataset: Annotated[Path, typer.Option(metavar="DIR", help="Dataset folder with the papers.")],
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split of the dataset [default: test].")
    ] = None,
    papers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Maximum number of papers [default: 5,000]."),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(metavar="KIND,...", help="Measure only these kinds [default: all]."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as JSON.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report as an HTML page with plots."),
    ] = None,
    gates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Minimum values; exit code 1 if one is not met."),
    ] = None,
    write_gates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the measured values as minima."),
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, not as a table.")
    ] = False,
    bootstrap: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Resamples for the intervals; 0 for none."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed of papers and perturbations.")
    ] = None,
) -> None:
    """Measure a model on perturbed papers and on texts that are not papers.

    Typos, scanning errors, missing parts, broken LaTeX, case, noise, other languages, non-papers,
    later years: accuracy, probability and abstention at each level, against the clean papers.
    """
    from classmark.cli.dataset.needs import need_packages
    from classmark.cli.evaluate.command import DEFAULT_SPLIT

    if margin is not None and write_gates is None:
        raise UsageError("--margin belongs to --write-gates FILE; give both or neither.")
    places = Places(output, html, gates, write_gates)
    subject = Subject(model, dataset, split or DEFAULT_SPLIT)
    minima = _prepare(places, subject)
    need_packages("measuring robustness")
    config = _config(papers, kinds, {"draws": bootstrap, "seed": seed})
    report = _measure(subject, config)
    failures = _check(report, minima, places)
    _keep(report, places, margin)
    with open_sink(None) as write:
        write((_as_json(report) if as_json else _as_text(report)) + "\n")
    _report_gates(failures, minima, places)


def _prepare(places: Places, subject: Subject) -> RobustnessGates | None:
    """Refuse what cannot work before the work is done; return the minima."""
    from classmark.cli.evaluate.command import check_endings, check_places, model_folder

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
    return None if places.gates is None else read_gates(places.gates)


def read_gates(file: Path) -> RobustnessGates:
    """Read a gate file.

    Raises:
        InvalidGates: it is missing, not JSON, of another format, or a minimum is not a share.
    """
    from classmark.records import RobustnessGates

    try:
        return RobustnessGates.from_dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError, InvalidGates) as error:
        raise InvalidGates(
            f"gate file {file} cannot be used: {error}. Write one with "
            "`classmark evaluate robustness --write-gates FILE`."
        ) from error


def _config(
    papers: int | None, kinds: str | None, measurement: dict[str, int | None]
) -> RobustnessConfig:
    from classmark.evaluation import EvaluationConfig, RobustnessConfig

    given: dict[str, Any] = {"papers": papers, "kinds": None if kinds is None else _kinds(kinds)}
    return RobustnessConfig(
        **{key: value for key, value in given.items() if value is not None},
        measurement=EvaluationConfig(**{k: n for k, n in measurement.items() if n is not None}),
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
    measurement = config.measurement
    words += ["--bootstrap", str(measurement.draws), "--seed", str(measurement.seed)]
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


def _keep(report: RobustnessReport, places: Places, margin: float | None) -> None:
    from classmark.evaluation import make_gates
    from classmark.pages import robustness_page
    from classmark.storage import write_json, write_text

    if places.output is not None:
        write_json(places.output, report.to_dict())
        typer.echo(f"report written to {places.output}", err=True)
    if places.html is not None:
        write_text(places.html, robustness_page(report))
        typer.echo(f"page written to {places.html}", err=True)
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


def _as_json(report: RobustnessReport) -> str:
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False)


def _as_text(report: RobustnessReport) -> str:
    from classmark.pages import robustness_text

    return "\n".join(printable(line) for line in robustness_text(report).split("\n"))
