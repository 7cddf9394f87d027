"""The built documentation names everything that is public, and its figures are not stale."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import fields
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import classmark
from classmark.cli.app import VERBS, load_verb

ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\bCLASSMARK_(?!SERVE_NAME)[A-Z_]*[A-Z]\b")


@pytest.fixture(scope="module")
def generated() -> Any:
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def configuration() -> str:
    return (ROOT / "docs" / "reference" / "configuration.md").read_text("utf-8")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_figures_are_those_of_the_committed_reports() -> None:
    result = run("benchmarks/figures", "--check")
    assert result.returncode == 0, result.stderr


def test_every_figure_stands_in_a_page_of_the_path() -> None:
    pages = sorted((ROOT / "docs" / "path").glob("*.md"))
    numbers = [int(page.name[:2]) for page in pages]
    assert numbers == [1, 2, 3, 3, 4, 5, 6, 7, 8, 9]  # a fast and a deep model are the third step
    for number, page in zip(numbers, pages, strict=True):
        assert re.search(rf"\.\./images/path-{number}-[\w-]+\.svg\)", page.read_text("utf-8"))


def test_every_part_stands_in_a_page(generated: Any) -> None:
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")]
    used = {name for page in pages for name in re.findall(r"<!-- generated: (.+?) -->", page)}
    assert {name for name in used if not name.startswith("classmark.")} == set(generated.PARTS)


@pytest.mark.slow  # reads the whole source, and starts every verb
@pytest.mark.skipif(importlib.util.find_spec("griffe") is None, reason="griffe is in make check")
def test_what_the_program_says_of_itself_is_not_stale() -> None:
    result = run("docs/generated.py", "--check")
    assert result.returncode == 0, result.stderr


def test_a_stale_page_is_filled_once_and_for_all(generated: Any) -> None:
    page = "# Title\n\n<!-- generated: keys of train -->\nan older table\n<!-- end -->\n\nend\n"
    filled = generated.fill(page)
    assert "an older table" not in filled
    assert "`model.epochs`" in filled
    assert filled.endswith("<!-- end -->\n\nend\n")
    assert generated.fill(filled) == filled


def test_every_verb_and_command_has_its_help(generated: Any) -> None:
    page = generated.cli_help()
    for verb in VERBS:
        assert f"## classmark {verb}\n" in page
        for command in getattr(load_verb(verb), "commands", ()):
            assert f"## classmark {verb} {command}\n" in page


def test_every_key_of_train_and_every_choice_stands_in_the_configuration(
    configuration: str,
) -> None:
    from classmark.training import LinearConfig, TransformerConfig

    keys = ["dataset.path", "seed", "runs_dir", "resume", "model.kind"]
    keys += [f"model.{f.name}" for kind in (LinearConfig, TransformerConfig) for f in fields(kind)]
    conf = Path(classmark.__file__).parent / "conf"
    keys += [
        path.relative_to(conf).with_suffix("").as_posix().replace("/", "=", 1)
        for path in conf.glob("*/**/*.yaml")
        if path.parent.name != "cloud"  # prices, which are data and no choice of a run
    ]
    assert not [key for key in keys if f"`{key}`" not in configuration]


def test_every_variable_that_the_source_names_stands_in_the_configuration(
    configuration: str,
) -> None:
    from classmark.service.bento_settings import BENTO_PREFIX, BentoSettings
    from classmark.service.settings import ServiceSettings

    named = {f"CLASSMARK_SERVE_{name.upper()}" for name in ServiceSettings.model_fields}
    named |= {f"{BENTO_PREFIX}{name.upper()}" for name in BentoSettings.model_fields}
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(_VARIABLE.findall(path.read_text("utf-8")))
    assert len(named) > 25
    assert not [name for name in sorted(named) if f"`{name}`" not in configuration]


def test_an_attribute_without_a_meaning_fails_the_build(generated: Any) -> None:
    class Config:
        """Options.

        Attributes:
            known: a number.
        """

        known: int
        forgotten: int

    with pytest.raises(LookupError, match=r"Config: no meaning of \['forgotten'\]"):
        generated.meanings(Config)


def test_every_path_of_the_service_is_listed_and_told(generated: Any) -> None:
    listed = set(re.findall(r"`[A-Z]+ (/\S*)`", generated.http_operations()))
    assert len(listed) >= 15
    page = (ROOT / "docs" / "reference" / "http.md").read_text("utf-8")
    overview = page.partition("## Every operation")[0]
    stems = {path.partition("{")[0].rstrip("/") for path in listed if not path.startswith("/v2/")}
    assert not [stem for stem in sorted(stems) if stem not in overview]


def test_every_report_is_described_with_its_command() -> None:
    page = (ROOT / "docs" / "reference" / "reports.md").read_text("utf-8")
    there = {path.name for path in (ROOT / "benchmarks" / "reports").glob("*.json")}
    assert set(re.findall(r"^\| `([\w.-]+\.json)` \|", page, re.MULTILINE)) == there
    scripts = set(re.findall(r"python (benchmarks/\w+(?:\.py)?)", page))
    assert len(scripts) >= 5
    assert not [name for name in sorted(scripts) if not (ROOT / name).exists()]


def test_the_data_card_is_of_the_data_of_the_shipped_model() -> None:
    from classmark.bundle import find_bundle

    bundle = json.loads((find_bundle("fast") / "bundle.json").read_text("utf-8"))
    card = json.loads((ROOT / "benchmarks" / "reports" / "data-card.json").read_text("utf-8"))
    assert card["dataset_digest"] == bundle["provenance"]["dataset_digest"]
    assert card["kept"] + sum(card["dropped"].values()) == card["read"]
    for kind in ("periods", "years", "groups", "archives", "categories"):
        for split, papers in card["splits"].items():
            assert sum(counts[split] for counts in card[kind].values()) == papers
    assert sorted(card["categories"]) == sorted(bundle["labels"])


def test_a_wide_table_of_the_model_card_is_turned(generated: Any) -> None:
    card = generated.model_card()
    assert "| top-1 |" in card
    assert max(line.count("|") for line in card.splitlines()) <= 10  # 4 rows, with and without
    assert r"hep-\*" in card


@pytest.mark.slow  # builds the whole site
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is in make check")
def test_the_built_site_names_everything_that_is_public(tmp_path: Path) -> None:
    result = run("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path))
    assert result.returncode == 0, result.stderr
    reference = "".join(
        unescape(path.read_text("utf-8")) for path in (tmp_path / "reference").rglob("*.html")
    )
    anchors = set(re.findall(r'id="(classmark[\w.]*)"', reference))
    homes = {
        name: f"{getattr(classmark, name).__module__}.{name}" for name in classmark.__all__[:-1]
    }
    assert classmark.__all__[-1] == "__version__"
    assert "classmark.__version__" in reference
    assert not [name for name, place in homes.items() if place not in anchors]
    pages = sorted((tmp_path / "path").glob("*/index.html"))
    assert len(pages) == len(list((ROOT / "docs" / "path").glob("*.md")))
    for page in pages:
        assert '<svg class="figure"' in page.read_text("utf-8")
