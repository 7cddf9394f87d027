"""``classmark registry gate`` and ``goldens``: may a candidate be promoted?"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.evaluate.report import (
    AsJson,
    Html,
    Output,
    check_endings,
    check_places,
    keep,
    print_report,
)
from classmark.cli.options import ColumnsOption, columns_option, complete_model
from classmark.cli.places import ANYWHERE, COPY, AnyPlace, address_of
from classmark.cli.registry.options import Place, TrustedKeys, open_registry
from classmark.errors import (
    BundleNotFound,
    CandidateRefused,
    NoHomeFolder,
    RegistryNotFound,
    UsageError,
)

if TYPE_CHECKING:
    from classmark.pipeline.gate import GateSubject
    from classmark.records import GateReport
    from classmark.registry import Registry

CHAMPION = "champion"


@dataclass(frozen=True)
class Names:
    """What the command line calls candidate, champion, dataset, rules and registry."""

    candidate: str
    against: str
    dataset: Path
    rules: Path | None
    registry: str | None

    def words(self) -> list[str]:
        """Return the command line."""
        words = [
            "classmark",
            "registry",
            "gate",
            self.candidate,
            "--dataset",
            address_of(self.dataset),
        ]
        words += ["--against", self.against]
        for option, place in (("--rules", self.rules), ("--registry", self.registry)):
            words += [option, str(place)] if place is not None else []
        return words


def gate(
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            help="A bundle of the registry, or NAME, NAME@VERSION or PATH.",
            autocompletion=complete_model,
        ),
    ],
    *,
    dataset: Annotated[
        Path,
        typer.Option(click_type=COPY, metavar="DIR", help="Dataset folder with the test papers."),
    ],
    against: Annotated[
        str,
        typer.Option(
            metavar="CHAMPION|BUNDLE",
            help="What to compare with: the champion of the registry, or a bundle.",
            autocompletion=complete_model,
        ),
    ] = CHAMPION,
    rules: Annotated[
        Path | None,
        typer.Option(
            click_type=COPY,
            metavar="FILE",
            help="YAML of limits; the package has rules of its own.",
        ),
    ] = None,
    place: Place = None,
    trusted_keys: TrustedKeys = None,
    output: Output = None,
    html: Html = None,
    as_json: AsJson = False,
) -> None:
    """Measure whether a bundle may be promoted.

    Metrics over all test papers, by period and by category, with paired intervals against the
    champion; robustness, behaviour, golden answers, both kernels, time, memory, size, signature,
    and whether test papers were in the fit.

    Exit code 3 if a line fails; each is named with how far it is beyond its limit. With --registry
    the report is kept there, for `classmark registry promote`.
    """
    from classmark.cli.progress import StepLines
    from classmark.pages import gate_page, gate_text
    from classmark.pipeline.gate import gate_candidate, read_rules_file

    names = Names(candidate, against, dataset, rules, place)
    registry = _open(place, trusted_keys)
    subject = _subject(names, registry)
    check_places((output, html), (subject.candidate, subject.champion, dataset, rules))
    check_endings(output, html)
    limits = read_rules_file(rules)
    with StepLines() as progress:
        report = gate_candidate(subject, limits, progress, command=shlex.join(names.words()))
    keep(report, output, "" if html is None else gate_page(report), html)
    _keep_in(registry, report)
    print_report(report, gate_text, as_json=as_json)
    if not report.passed:
        raise CandidateRefused(_refusal(report))


def goldens(
    papers: Annotated[
        Path,
        typer.Argument(click_type=COPY, metavar="FILE", help="Papers, in any format that is read."),
    ],
    *,
    model: Annotated[
        str,
        typer.Option(
            metavar="M", help="NAME, NAME@VERSION or PATH.", autocompletion=complete_model
        ),
    ],
    output: Annotated[
        AnyPlace,
        typer.Option(click_type=ANYWHERE, metavar="FILE", help="Write the answers as JSON."),
    ],
    columns: ColumnsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
) -> None:
    """Record the answers of a model, which a gate can require later models to repeat.

    The file holds titles, abstracts and answers, and no author. Name it under `goldens` in the
    rules.
    """
    from classmark.cli.evaluate.sources import model_folder
    from classmark.papers import read_papers
    from classmark.pipeline.gate import record_goldens
    from classmark.records import Paper
    from classmark.runtime import Classifier
    from classmark.storage import write_json

    check_places((output,), (papers, model_folder(model)))
    check_endings(output, None)
    read = read_papers(papers, columns=columns_option(columns))
    texts = [paper for paper in read if isinstance(paper, Paper)]
    recorded = record_goldens(Classifier(model), texts)
    write_json(output, recorded.to_dict())
    if as_json:
        facts = {"file": str(output), "answers": len(texts), "model": recorded.model.to_dict()}
        typer.echo(json.dumps(facts))
        return
    answers = "1 golden answer" if len(texts) == 1 else f"{len(texts):,} golden answers"
    typer.echo(f"{answers} written to {output}", err=True)


def _open(place: str | None, trusted_keys: list[Path] | None) -> Registry | None:
    """Return the registry of the option, or the usual one if it exists; a gate can do without."""
    if place is not None or trusted_keys:
        return open_registry(place, trusted_keys)
    with suppress(RegistryNotFound, NoHomeFolder):
        return open_registry(None)
    return None


def _subject(names: Names, registry: Registry | None) -> GateSubject:
    from classmark.pipeline.gate import GateSubject

    champion: Path | None
    if names.against != CHAMPION:
        champion = _folder(names.against, registry)
    elif registry is None:
        raise UsageError(
            "--against champion needs a registry that has one. Give --registry DIR, or --against "
            "BUNDLE."
        )
    else:
        digest = registry.pointer().channels.champion
        champion = None if digest is None else registry.bundle(digest)
    return GateSubject(
        candidate=_folder(names.candidate, registry),
        champion=champion,
        dataset=names.dataset,
        registry=registry,
    )


def _folder(spec: str, registry: Registry | None) -> Path:
    """Return the folder of a bundle of the registry, else of an installed one or a path."""
    from classmark.bundle import find_bundle

    if registry is None:
        return find_bundle(spec)
    try:
        return registry.bundle(registry.find(spec))
    except BundleNotFound as unknown:
        try:
            return find_bundle(spec)
        except BundleNotFound as error:
            raise BundleNotFound(f"{unknown} Elsewhere, {error}") from error


def _keep_in(registry: Registry | None, report: GateReport) -> None:
    if registry is None:
        return
    content = json.dumps(report.to_dict(), indent=2, ensure_ascii=False).encode()
    kept = registry.keep_report(content)
    typer.echo(f"report kept in the registry: {kept}", err=True)


def _refusal(report: GateReport) -> str:
    from classmark.pages.text import verdict

    name = f"{report.candidate.name} {report.candidate.version}"
    return f"{name} may not be promoted: {verdict(report)}, named above."
