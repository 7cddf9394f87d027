"""``classmark dataset extend``: new papers join a dataset, from archives and from feedback."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classmark.cli.dataset.needs import need_packages
from classmark.cli.dataset.report import command_line, report, summary
from classmark.cli.options import columns_option, parse_output, parse_source
from classmark.cli.places import COPY
from classmark.cli.progress import progress_bar
from classmark.cli.service.journal import existing_journal
from classmark.dataset.config import ExtendConfig, FeedbackPolicy
from classmark.errors import UsageError

if TYPE_CHECKING:
    from classmark.journal import Place
    from classmark.records import DatasetManifest, Prediction

_CONFIG, _POLICY = ExtendConfig(), FeedbackPolicy()
_MOST_SHOWN = 10

Parent = Annotated[
    Path,
    typer.Argument(
        click_type=COPY, metavar="DATASET", help="Folder of the dataset; it stays as it is."
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILES]",
        help="Files of new papers: what `classmark harvest` writes, or any that "
        "`dataset build` reads.",
    ),
]
Output = Annotated[str, typer.Option(metavar="DIR", help="Folder to write.")]
Journals = Annotated[
    list[str] | None,
    typer.Option(
        "--journal",
        metavar="PLACE",
        help="Journal whose feedback becomes labels: a file or postgresql://USER@HOST/NAME; may be "
        "repeated. Papers whose text it does not keep are left out.",
    ),
]
Agree = Annotated[
    float, typer.Option(metavar="N", help="API keys that must name the category of a paper.")
]
Agreement = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Share of the keys that count for a paper that must agree."),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=N",
        help="Id of an API key, and how many keys it counts for; 0: ignored. May be repeated.",
    ),
]
Checks = Annotated[
    int,
    typer.Option(
        metavar="N", help="Known papers after which a key that is often wrong is ignored."
    ),
]
LeastRight = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Share of known papers that a key must get right to count."),
]
ClientShare = Annotated[
    float, typer.Option(metavar="SHARE", help="Maximum share of the new papers of one key.")
]
CategoryShare = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Maximum share of a category, old and new, of one key."),
]
TestShare = Annotated[
    float, typer.Option(metavar="SHARE", help="Share for testing: the newest of the new period.")
]
ValidShare = Annotated[
    float, typer.Option(metavar="SHARE", help="Share for validation: those before them.")
]
Columns = Annotated[
    str,
    typer.Option(metavar="FIELD=COLUMN,...", help="Map columns of the files, as in build."),
]
Format = Annotated[str, typer.Option(metavar="F", help="Format, as in classify --format.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first unusable record.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the dataset in DIR.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the manifest's summary as JSON.")]


def extend(
    dataset: Parent,
    sources: Sources = None,
    *,
    output: Output,
    journal: Journals = None,
    agree: Agree = _POLICY.agree,
    agreement: Agreement = _POLICY.agreement,
    trust: Trust = None,
    checks: Checks = _POLICY.checks,
    least_right: LeastRight = _POLICY.least_right,
    client_share: ClientShare = _POLICY.client_share,
    category_share: CategoryShare = _POLICY.category_share,
    test_share: TestShare = _CONFIG.test_share,
    valid_share: ValidShare = _CONFIG.valid_share,
    columns: Columns = "",
    format: Format = _CONFIG.format,
    strict: Strict = _CONFIG.strict,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Add harvested papers, and papers with feedback, to a dataset; the last line is the folder.

    The papers of DATASET keep their splits. New papers that it has already, by arXiv id or
    abstract, are dropped. Those newer than it are a period of their own, whose last papers are
    held out.
    """
    policy = FeedbackPolicy(
        agree=agree,
        agreement=agreement,
        trust=_trust(trust or []),
        checks=checks,
        least_right=least_right,
        client_share=client_share,
        category_share=category_share,
    )
    config = ExtendConfig(
        test_share=test_share,
        valid_share=valid_share,
        feedback=policy,
        columns=columns_option(columns).given,
        format=format,
        strict=strict,
    )
    need_packages("extending datasets")
    from classmark.dataset import MANIFEST_FILE, NewPapers, extend_dataset
    from classmark.journal.place import without_passwords
    from classmark.storage import staged_folder

    command = without_passwords(command_line())
    places = [existing_journal(one) for one in journal or []]
    new = NewPapers(
        sources=[parse_source(source) for source in sources or []],
        feedback=(lambda: predictions_of(places)) if places else None,
        command=command,
    )
    target = parse_output(output)
    with (
        progress_bar() as progress,
        staged_folder(target, last=MANIFEST_FILE, overwrite=overwrite) as folder,
    ):
        manifest = extend_dataset(
            dataset, new, folder, config, overwrite=overwrite, progress=progress
        )
    _report(manifest, target, as_json=as_json)


def predictions_of(places: Iterable[Place]) -> Iterator[Prediction]:
    """Yield the predictions of journals, one after the other."""
    from classmark.journal.reading import read_predictions

    return chain.from_iterable(map(read_predictions, places))


def _trust(given: list[str]) -> dict[str, float]:
    """Return the trust of each key that --trust names."""
    found = {}
    for text in given:
        client, _, weight = text.partition("=")
        try:
            found[client] = float(weight)
        except ValueError as error:
            raise UsageError(
                f"--trust {text[:60]!r} is not KEY=N. Give the id of an API key (see `classmark "
                "keys list`) and a number: --trust 3f2a=2."
            ) from error
    return found


def _report(manifest: DatasetManifest, output: Path, *, as_json: bool) -> None:
    changes: dict[str, Any] = manifest.config["extension"]
    if as_json:
        facts = {"path": str(output), **summary(manifest), "extension": changes}
        typer.echo(json.dumps({**facts, "lineage": list(manifest.lineage)}))
        return
    for split, n in changes["new"].items():
        typer.echo(f"{f'new in {split}':<32}{n:>12,}")
    typer.echo(f"{'new by feedback':<32}{changes['feedback']['labels']:>12,}")
    grown = [(c["after"] - c["before"], code, c) for code, c in changes["categories"].items()]
    grown.sort(key=lambda one: (-one[0], one[1]))
    for added, code, count in grown[:_MOST_SHOWN]:
        if added:
            counts = f"{count['before']:,} -> {count['after']:,}"
            typer.echo(f"{f'  {code}':<24}{counts:>20}")
    report(manifest, output, as_json=False)
