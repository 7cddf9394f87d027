from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from classmark.evaluation import EvaluationConfig, evaluate_table
from classmark.pages import evaluation_text
from classmark.records import ScoreTable

MakeTable = Callable[..., ScoreTable]
FEW_DRAWS = EvaluationConfig(draws=50)
WARNING = "invented sample papers: these numbers say nothing about real ones"


def test_a_table_shows_values_intervals_slices_and_categories(random_table: ScoreTable) -> None:
    report = evaluate_table(random_table, config=FEW_DRAWS)
    text = evaluation_text(report)
    top_1 = report.metrics["top_1"]
    assert f"{top_1.value:.3f}  {top_1.low:.3f} - {top_1.high:.3f}" in text
    for shown in ("model    fast 1.0 (dddddddddddd)", "until-2017", "2019", "math.CO"):
        assert shown in text
    for title in ("95 % interval", "calibration error", "accuracy of the accepted"):
        assert title in text


def test_a_table_fits_into_100_columns(random_table: ScoreTable) -> None:
    text = evaluation_text(evaluate_table(random_table, config=FEW_DRAWS))
    assert max(map(len, text.splitlines())) <= 100


def test_columns_are_aligned(random_table: ScoreTable) -> None:
    lines = evaluation_text(evaluate_table(random_table, config=FEW_DRAWS)).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("period"))
    assert len({len(line) for line in lines[start : start + 3]}) == 1


def test_a_table_of_invented_papers_says_so_in_its_first_line(make_table: MakeTable) -> None:
    report = evaluate_table(make_table([[1, 0, 0, 0]], [0], generated=True), config=FEW_DRAWS)
    assert evaluation_text(report).splitlines()[0] == WARNING


def test_a_table_of_real_papers_does_not_say_so(random_table: ScoreTable) -> None:
    assert WARNING not in evaluation_text(evaluate_table(random_table, config=FEW_DRAWS))


def test_a_table_tells_what_was_left_out_and_where_the_papers_are_from(
    make_table: MakeTable,
) -> None:
    table = make_table([[1, 0, 0, 0]] * 2, [0, -1], dataset_digest="e" * 64, split="valid")
    text = evaluation_text(evaluate_table(table, config=EvaluationConfig(draws=0)))
    assert "papers   1, 1 more without a primary that the model knows" in text
    assert "data     valid split of dataset eeeeeeeeeeee" in text
    assert "interval" not in text
    assert "authors" not in text
    used = replace(table, used_authors=np.array([True, False]))
    text = evaluation_text(evaluate_table(used, config=EvaluationConfig(draws=0)))
    assert "authors  used for 1 papers" in text


def test_the_weakest_categories_come_first_and_those_of_few_papers_are_marked(
    make_table: MakeTable,
) -> None:
    primary = np.repeat([0, 1, 2], [25, 25, 2])
    scores = np.eye(4)[np.repeat([0, 0, 1, 3], [25, 10, 15, 2])]
    report = evaluate_table(make_table(scores, primary), config=FEW_DRAWS)
    found = evaluation_text(report).split("weakest categories")[1].splitlines()
    head, *rows = found
    assert " ".join(head.split()) == "papers precision recall F1 95 % range confused with"
    by_code = {row.split()[0]: row.split()[1:] for row in rows[:4]}
    assert [row.split()[0] for row in rows[:4]] == ["math.CO", "hep-th", "cs.LG", "cs.AI"]
    never = ["2?", "-", "0.000", "0.000", "0.000", "-", "0.793", "hep-th", "(2)"]
    assert by_code["math.CO"] == never
    assert by_code["cs.LG"][:4] == ["25", "1.000", "0.600", "0.750"]
    assert by_code["cs.LG"][-2:] == ["cs.AI", "(10)"]
    assert by_code["cs.AI"][-1] == "-"
    assert rows[4] == "? uncertain: fewer than 20 papers"
    assert rows[5] == "4 of 4 categories; the JSON report has them all"
    assert "1 of 4 categories" in evaluation_text(report, weakest=1)


def test_a_metric_that_a_slice_lacks_is_a_dash(random_table: ScoreTable) -> None:
    report = evaluate_table(random_table, config=FEW_DRAWS)
    report.periods[0].metrics.pop("ece")
    line = next(s for s in evaluation_text(report).splitlines() if s.startswith("until-2017"))
    assert " - " in line


def test_a_category_never_on_top_has_a_dash_for_precision(make_table: MakeTable) -> None:
    report = evaluate_table(make_table([[9, 0, 0, 0]], [1]), config=FEW_DRAWS)
    line = next(s for s in evaluation_text(report).splitlines() if s.startswith("cs.LG"))
    assert line.split()[2] == "-"
