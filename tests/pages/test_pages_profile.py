"""The page of a profile: it stands alone, and shows what cost how much."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from classmark.pages.profile import flame_graph, write_profile
from classmark.profiling import Meter, Profile, Stacks
from classmark.profiling.profiler import make_profile

LINES = [
    "start (a.py:1);fit (classmark/training/linear.py:2);<step> (b.py:3) 60",
    "start (a.py:1);fit (classmark/training/linear.py:2) 30",
    "start (a.py:1);write (c.py:4) 10",
]


@pytest.fixture
def profile() -> Profile:
    meter = Meter(os.getpid(), left_out="py-spy")
    meter.begin_step("fitting <it>")
    meter.stop()
    return make_profile(Stacks.read(LINES), meter, command="classmark train", rate=100)


def test_a_call_is_as_wide_as_its_cost_and_below_its_caller() -> None:
    tree = ET.fromstring(flame_graph(Stacks.read(LINES), "samples"))
    found = {g[0].text: g[1].attrib for g in tree.findall("g")}
    fit = found["fit (classmark/training/linear.py:2): 90, 90.0 %"]
    step = found["<step> (b.py:3): 60, 60.0 %"]
    assert float(fit["width"]) / float(step["width"]) == pytest.approx(1.5, rel=0.01)
    assert float(step["y"]) > float(fit["y"])
    assert (fit["class"], step["class"]) == ("band first", "count")


def test_calls_that_everything_begins_with_are_left_out() -> None:
    whole = [f"main (a.py:1);run (a.py:2);{line}" for line in LINES]
    assert "run (a.py:2)" not in flame_graph(Stacks.read(whole), "samples")


def test_a_profile_is_four_files_of_which_the_page_needs_no_other(
    profile: Profile, tmp_path: Path
) -> None:
    write_profile(tmp_path, profile)
    names = ["flame.svg", "profile.html", "profile.json", "stacks.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    page = (tmp_path / "profile.html").read_text("utf-8")
    loaded: list[str] = []

    class Loads(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            loaded.extend(f"{tag} {name}" for name, _ in attrs if name in ("src", "href"))

    Loads().feed(page)
    assert loaded == []
    assert "&lt;step&gt;" in page
    assert "fitting &lt;it&gt;" in page
    ET.fromstring((tmp_path / "flame.svg").read_text("utf-8"))
    report = json.loads((tmp_path / "profile.json").read_text("utf-8"))
    assert (report["total"], report["unit"], report["rate"]) == (100, "samples", 100)
    assert report["functions"][0] == {"name": "<step>", "file": "b.py", "own": 60, "total": 60}
    assert report["peak_mb"] == report["processes"][0]["peak_mb"] > 0


def test_a_profile_of_nothing_has_a_page_too(tmp_path: Path) -> None:
    meter = Meter(os.getpid(), left_out="py-spy")
    meter.stop()
    write_profile(tmp_path, make_profile(Stacks({}), meter, command="c", rate=None))
    assert json.loads((tmp_path / "profile.json").read_text("utf-8"))["total"] == 0
