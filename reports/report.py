"""The project's report: sets its checklist, checks its rules, and makes one page of it.

python reports/report.py status [--json] [--write]   run the check of every item
python reports/report.py check                       refuse a report that breaks a rule
python reports/report.py html [--output FILE]        write one page that stands alone
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script finds only what is beside it

from reports.document import page_of, problems_of, with_checklist
from reports.items import ITEMS, find_states

REPORT = Path(__file__).with_name("README.md")
Report = Annotated[Path, typer.Argument(help="The report, a Markdown file.", show_default=False)]
app = typer.Typer(help=__doc__, add_completion=False, rich_markup_mode=None)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write it into the report.")] = False,
    only: Annotated[
        list[int] | None,
        typer.Option(min=1, max=len(ITEMS), help="Run only the check of this item."),
    ] = None,
    report: Report = REPORT,
) -> None:
    """Run the check of every item of the checklist, and print its state."""
    if write and only:
        _fail("--write needs every item. Leave out --only.")
    findings = find_states(only or ())
    if write:
        text = _read(report)
        try:
            report.write_text(with_checklist(text, findings), encoding="utf-8")
        except ValueError as error:
            _fail(f"{report}: {error}")
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    titles = {item.number: item.title for item in ITEMS}
    for found in findings:
        why = f" ({found.missing})" if found.missing else ""
        typer.echo(f"{found.number:2}  {found.state:14}  {titles[found.number]}{why}")
    counts = Counter(finding.state for finding in findings)
    typer.echo(", ".join(f"{number} {state}" for state, number in counts.most_common()))


@app.command()
def check(report: Report = REPORT) -> None:
    """Check word limits, images, questions, placeholders and the checklist of a report."""
    _read(report)
    problems = problems_of(report, find_states())
    for problem in problems:
        typer.echo(f"{report}: {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{report}: every rule holds")


@app.command()
def html(
    output: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    report: Report = REPORT,
) -> None:
    """Write the report as one HTML page that holds its images."""
    _read(report)
    try:
        output.write_text(page_of(report), encoding="utf-8")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}. Run `python reports/report.py check`.")
    typer.echo(output)


def _read(report: Path) -> str:
    try:
        return report.read_text("utf-8")
    except OSError as error:
        _fail(f"{report} cannot be read ({error.strerror}). Name the Markdown file of a report.")


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
