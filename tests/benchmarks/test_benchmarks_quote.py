"""What MODELS.md says of reports: goals are judged by the code, and every group is quoted."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest

import quote
import quote_prose
import report


def goals(**changed: Any) -> dict[str, list[str]]:
    """Return the cells of the table of goals by their goal; some reports may be others."""
    reports = {name.replace("_", "-"): found for name, found in changed.items()}
    table = quote_prose.aims(
        lambda name: reports.get(name) or report.read_report(name), bundle_bytes=26_100_000
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {goal: cells for goal, *cells in rows}


def test_a_goal_for_time_memory_or_size_is_met_at_its_limit_and_missed_beyond_it() -> None:
    speed, service = deepcopy(report.read_report("fast-speed")), report.read_report("service")
    speed["authors"]["cost"] = 0.15
    speed["c"]["papers_per_cpu_second"], speed["c"]["one_paper_us"] = 49_999, 50.4
    speed["published"] = {
        way: {"times": {"TF-IDF": times}} for way, times in (("list", 7.5), ("bulk", 7.4))
    }
    share = {**service, "headline": {**service["headline"], "share_of_echo": 0.84}}
    notes = {goal: cells[-1] for goal, cells in goals(fast_speed=speed, service=share).items()}
    assert notes["authors cost at most 15% of the time of a list of answers"] == "15%, yes"
    assert notes["50,000 papers per CPU-second (C)"] == "49,999, short"
    assert notes["one paper in 50 µs (C)"] == "50, yes"
    assert notes["answers 7.5 times as fast as scikit-learn's TF-IDF"] == (
        "list 7.5, yes; bulk 7.4, short"
    )
    assert notes["with a journal, 0.85 of the requests/s of a bare echo"] == "0.84, short"
    assert notes["wheel of at most 26 MB (the model)"] == "26.1, short"


def test_the_gain_of_authors_in_macro_f1_is_judged_by_period() -> None:
    authors = deepcopy(report.read_report("authors"))
    for name, gain in (("until-2017", 0.041), ("2018-2019", 0.039), ("from-2020", 0.05)):
        authors["with_authors"][name]["macro_f1"] = authors["text"][name]["macro_f1"] + gain
    cells = goals(authors=authors)["with authors: macro-F1 4 points above the text's"]
    assert cells == ["4.1, yes", "3.9, short", "5.0, yes", ""]


@pytest.mark.parametrize("name", ["authors", "authors-next"])
def test_every_group_of_papers_of_both_reports_of_authors_is_quoted(name: str) -> None:
    found = report.read_report(name)
    prefix = {"authors": "", "authors-next": "next_"}[name]
    for block, group in (("known", "by_known_authors"), ("careers", "by_earlier_papers")):
        key = f"{prefix}authors_{block}"
        assert f"<!-- {key} -->" in (report.ROOT / "MODELS.md").read_text(encoding="utf-8")
        papers = re.findall(r"^\| [\d a-z]+ \| ([\d,]+) \|", quote.BLOCKS[key](), re.MULTILINE)
        assert [int(n.replace(",", "")) for n in papers] == [p["papers"] for p in found[group]]


def test_the_table_of_the_service_says_which_aims_are_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = deepcopy(report.read_report("service"))
    found["headline"].update(resident_mb_one_worker=250, share_of_echo=0.84, single_p99_ms=20.1)
    monkeypatch.setattr(quote, "read_report", lambda _name: found)
    met = dict(re.findall(r"^\| ([^|]+) \|.*\| (yes|short) \|$", quote.service(), re.MULTILINE))
    assert [name for name, word in met.items() if word == "short"] == [
        "single papers, requests/s (p99)",
        "share of a bare one-worker FastAPI echo",
    ]
    assert met["resident memory, one worker"] == "yes"
