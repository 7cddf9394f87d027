from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark import taxonomy
from classmark.dataset import (
    DatasetConfig,
    SampleConfig,
    build_dataset,
    load_manifest,
    sample_csv,
    sample_dataset,
    sample_dump,
    sample_papers,
)
from classmark.dataset.sample.wording import load_vocabulary
from classmark.errors import StorageFailed
from classmark.papers import abstract_fingerprint, read_papers, text_fingerprint
from classmark.records import Paper
from recording import Recording

configs = st.builds(
    SampleConfig,
    papers=st.integers(1, 40),
    seed=st.integers(0, 2**40),
    noise=st.floats(0, 1),
    drift=st.floats(0, 1),
    categories=st.integers(24, 28),
)


@settings(max_examples=25)
@given(configs)
def test_the_same_config_invents_the_same_papers(config: SampleConfig) -> None:
    papers = list(sample_papers(config))
    assert papers == list(sample_papers(config))
    assert len(papers) == config.papers
    for paper in papers:
        assert paper.categories[0] == paper.category_code
        assert len(set(paper.categories)) == len(paper.categories)
        assert "2007-01-01" <= (paper.published_date or "") <= (paper.updated_date or "")
        assert "{" not in paper.title.replace("\\mathbb{", "")


def test_a_longer_sample_begins_with_the_shorter_one() -> None:
    short = list(sample_papers(SampleConfig(papers=20)))
    assert list(sample_papers(SampleConfig(papers=30)))[:20] == short


def test_another_seed_invents_other_papers() -> None:
    first, second = (list(sample_papers(SampleConfig(papers=5, seed=s))) for s in (1, 2))
    assert first != second


def test_the_first_paper_is_pinned_because_demos_depend_on_the_generator() -> None:
    paper = next(sample_papers(SampleConfig(papers=1)))
    assert (paper.id, text_fingerprint(paper)) == (
        "invented-1201.00001",
        "bc1d40322a63608d",
    )


def test_texts_labels_and_dates_are_pinned_whatever_becomes_of_the_authors() -> None:
    papers = [replace(paper, authors=()) for paper in sample_papers(SampleConfig(papers=200))]
    assert sha256(repr(papers).encode()).hexdigest()[:16] == "be8efb999f1d3f80"


def test_most_papers_of_an_author_are_about_one_category() -> None:
    careers: dict[str, Counter[str]] = {}
    for paper in sample_papers(SampleConfig(papers=5000, noise=0)):
        for name in paper.authors:
            careers.setdefault(name, Counter())[paper.categories[0]] += 1
    long = [career for career in careers.values() if career.total() >= 10]
    share = sum(max(career.values()) for career in long) / sum(c.total() for c in long)
    assert len(long) > 200
    assert 0.5 < share < 0.9
    newcomers = sum(career.total() == 1 for career in careers.values())
    assert newcomers > 500


@pytest.mark.parametrize("categories", [24, 28])
def test_every_category_is_active_has_forty_terms_and_neighbours(categories: int) -> None:
    vocabulary = load_vocabulary(categories)
    assert len(vocabulary) == categories
    for code, entry in vocabulary.items():
        terms = [term for kind, values in entry.terms.items() if kind != "math" for term in values]
        assert taxonomy.is_active(code)
        assert len(set(terms)) >= 40
        assert len(entry.neighbours) >= 2
        assert set(entry.neighbours) <= set(vocabulary) - {code}


def test_categories_cover_the_groups_of_the_taxonomy() -> None:
    groups = {taxonomy.group(code) for code in load_vocabulary(24)}
    assert groups == {category.group for category in taxonomy.categories()}


def share_of_own_terms(papers: list[Paper], code_of: dict[str, str]) -> float:
    vocabulary = load_vocabulary(28)
    hits = [
        any(t in p.abstract.lower() for t in vocabulary[code_of[p.id or ""]].terms["objects"])
        for p in papers
    ]
    return sum(hits) / len(hits)


def test_label_and_cross_lists_are_reflected_in_the_text() -> None:
    papers = list(sample_papers(SampleConfig(papers=600, noise=0)))
    crossed = [paper for paper in papers if len(paper.categories) > 1]
    vocabulary = load_vocabulary(28)
    label = {p.id or "": p.categories[0] for p in papers}
    cross_list = {p.id or "": p.categories[1] for p in crossed}
    stranger = {
        p.id or "": next(c for c in vocabulary if c not in vocabulary[p.categories[0]].neighbours)
        for p in crossed
    }
    assert share_of_own_terms(papers, label) > 0.8
    assert share_of_own_terms(crossed, cross_list) > 2 * share_of_own_terms(crossed, stranger)


def test_noise_swaps_the_label_for_a_neighbour() -> None:
    clean = list(sample_papers(SampleConfig(papers=300, noise=0)))
    vocabulary = load_vocabulary(28)
    noisy = list(sample_papers(SampleConfig(papers=300, noise=1)))
    assert all(vocabulary[str(p.category_code)].neighbours for p in noisy)
    label = {p.id or "": str(p.category_code) for p in noisy}
    true = {p.id or "": str(p.category_code) for p in clean}
    assert share_of_own_terms(noisy, label) < share_of_own_terms(clean, true) - 0.3


def share_of_late_terms(papers: list[Paper]) -> float:
    late = [t for e in load_vocabulary(28).values() for t in e.terms["late_objects"]]
    return sum(any(t in p.abstract for t in late) for p in papers) / len(papers)


def test_drift_brings_new_terms_and_another_mix_to_later_years() -> None:
    papers = list(sample_papers(SampleConfig(papers=1500, drift=1.0)))
    early = [p for p in papers if (p.published_date or "") < "2010"]
    late = [p for p in papers if (p.published_date or "") >= "2022"]
    assert share_of_late_terms(late) > share_of_late_terms(early) + 0.4
    growing = {"cs.LG", "cs.CL", "stat.ML"}
    learning = [sum(p.category_code in growing for p in some) / len(some) for some in (early, late)]
    assert learning[1] > 1.5 * learning[0]


def test_without_drift_there_are_no_new_terms() -> None:
    papers = list(sample_papers(SampleConfig(papers=300, drift=0)))
    only_late = {"large language models", "halide perovskites", "smart contracts"}
    assert not any(term in p.abstract for p in papers for term in only_late)


def test_sample_dataset_says_that_it_is_generated_and_with_what(tmp_path: Path) -> None:
    config = SampleConfig(papers=300)
    manifest = sample_dataset(tmp_path / "d", config, periods=("2015-12-31",), command="cmd")
    assert load_manifest(tmp_path / "d") == manifest
    assert manifest.generated
    assert manifest.kept == manifest.read == 300
    assert manifest.config["sample"] == asdict(config)
    assert manifest.periods == ("until-2015", "from-2016")


def test_the_same_sample_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    config = SampleConfig(papers=200)
    for name in ("a", "b"):
        sample_dataset(tmp_path / name, config, command="cmd")
    files = [{f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("a", "b")]
    assert files[0] == files[1]


def test_sample_csv_has_the_kaggle_layout_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "papers.csv"
    sample_csv(path, SampleConfig(papers=30))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == (
        "id,title,category,category_code,published_date,updated_date,authors,first_author,"
        "summary,summary_word_count"
    )
    assert all(row["first_author"].startswith("'") for row in rows)
    read = [(p.id, p.title, p.abstract, p.published_date) for p in read_papers(path)]  # type: ignore[union-attr]
    made = [
        (p.id, p.title, p.abstract, p.published_date)
        for p in sample_papers(SampleConfig(papers=30))
    ]
    assert read == made


def test_a_dataset_built_from_an_invented_csv_is_still_marked_as_generated(tmp_path: Path) -> None:
    sample_csv(tmp_path / "papers.csv", SampleConfig(papers=300))
    build = DatasetConfig(min_papers=2)
    manifest = build_dataset([tmp_path / "papers.csv"], tmp_path / "d", build)
    assert manifest.generated
    assert manifest.kept == 300


def test_sample_csv_is_whole_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed, match="a part of the path is a file"):
        sample_csv(tmp_path / "file" / "papers.csv", SampleConfig(papers=1))


def test_vocabulary_and_phrasing_hold_no_term_twice() -> None:
    folder = Path(taxonomy.__file__).parents[1] / "dataset" / "sample"
    vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    for code, entry in vocabulary.items():
        terms = Counter(t for values in entry.values() if isinstance(values, list) for t in values)
        assert max(terms.values()) == 1, code


@pytest.mark.parametrize("name", ["dump.jsonl", "dump.jsonl.gz"])
def test_a_dump_has_the_keys_of_arxivs_and_is_read_back_as_the_papers(
    tmp_path: Path, name: str
) -> None:
    config = SampleConfig(papers=50)
    sample_dump(tmp_path / name, config)
    before = (tmp_path / name).read_bytes()
    sample_dump(tmp_path / name, config)
    assert (tmp_path / name).read_bytes() == before
    papers = [paper for paper in read_papers(tmp_path / name) if isinstance(paper, Paper)]
    for paper, invented in zip(papers, sample_papers(config), strict=True):
        for field in ("id", "title", "categories", "published_date", "updated_date"):
            assert getattr(paper, field) == getattr(invented, field)
        assert paper.abstract.split() == invented.abstract.split()
        assert paper.authors == invented.authors


def test_a_line_of_a_dump_looks_like_one_of_arxivs(tmp_path: Path) -> None:
    sample_dump(tmp_path / "dump.jsonl", SampleConfig(papers=1))
    line = json.loads((tmp_path / "dump.jsonl").read_text())
    assert line["versions"][0] == {"version": "v1", "created": "Fri, 13 Jan 2012 00:00:00 GMT"}
    assert line["update_date"] == "2012-01-13"
    assert line["authors_parsed"][0] == ["Norimoto", "N.", ""]
    assert line["categories"] == "cs.DS cs.CR"


def test_a_dump_that_is_interrupted_is_not_there(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_dump(
            tmp_path / "dump.jsonl", SampleConfig(papers=2000), Recording(on_advance=interrupt)
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_invented_papers_differ_so_that_hardly_any_is_a_duplicate() -> None:
    papers = list(sample_papers(SampleConfig(papers=20_000)))
    assert len({paper.id for paper in papers}) == len(papers)
    assert len({abstract_fingerprint(paper) for paper in papers}) > 0.999 * len(papers)
