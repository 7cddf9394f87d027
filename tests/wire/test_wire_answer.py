"""The published objects: keys, their order, what is left out, and texts that UTF-8 cannot spell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classmark import wire

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "wire.py"
RANKED = wire.Ranked("math.CO", "Combinatorics", 0.75)


def make_answer(**changes: Any) -> wire.Answer:
    fields: dict[str, Any] = {
        "id": None,
        "primary": None,
        "reason": "below_threshold",
        "probability": 0.75,
        "ranked": (RANKED,),
        "cross_lists": (),
        "set": ("math.CO",),
        "levels": wire.Levels(),
        "model": wire.ModelRef("fast", "1.1", "abc"),
    }
    return wire.Answer(**{**fields, **changes})


def test_an_answer_has_its_keys_in_order_and_nulls_where_they_mean_something() -> None:
    assert wire.to_json(make_answer()) == (
        b'{"id":null,"primary":null,"reason":"below_threshold","probability":0.75,'
        b'"ranked":[{"code":"math.CO","name":"Combinatorics","probability":0.75,'
        b'"reliability":null}],"cross_lists":[],"set":["math.CO"],'
        b'"levels":{"archive":[],"group":[]},'
        b'"model":{"name":"fast","version":"1.1","digest":"abc"}}'
    )


def test_keys_that_are_only_there_sometimes_keep_their_places() -> None:
    answer = make_answer(
        set=None,
        set_reason="few_known_terms",
        explanation=(wire.Evidence("graph", 1.5),),
        explanation_method="occlusion",
        author_category=wire.AuthorCategory("math.AG", "challenged"),
        prediction_id="x",
        title="Graphs",
    )
    assert list(answer.to_dict()) == [
        *("id", "primary", "reason", "probability", "ranked", "cross_lists", "set", "set_reason"),
        *("levels", "explanation", "explanation_method", "model", "author_category"),
        *("prediction_id", "title"),
    ]
    assert answer.to_dict()["author_category"]["rank"] is None


def test_a_dictionary_is_what_a_reader_of_the_json_gets() -> None:
    answer = make_answer()
    assert answer.to_dict() == json.loads(wire.to_json(answer))


def test_columns_seen_are_left_out_where_there_are_none() -> None:
    bad = wire.BadRecord("7", wire.RecordError("missing_text", "it is empty"))
    assert bad.to_dict() == {"id": "7", "error": {"kind": "missing_text", "message": "it is empty"}}


def test_half_of_a_surrogate_pair_becomes_a_question_mark() -> None:
    answer = make_answer(id="a\ud800", explanation=(wire.Evidence("\udc00", 1.0),))
    found = json.loads(wire.to_json(answer))
    assert (found["id"], found["explanation"][0]["term"]) == ("a?", "?")
    assert wire.to_json({"\ud800": [1]}) == b'{"?":[1]}'


def test_numbers_of_numpy_are_written_and_other_objects_refused() -> None:
    assert wire.to_json({"n": np.int64(3), "share": np.float64(0.5)}) == b'{"n":3,"share":0.5}'
    with pytest.raises(TypeError, match="object has no form in JSON"):
        wire.to_json(object())


def test_every_kind_of_problem_has_a_status_of_an_error_and_a_title() -> None:
    assert all(400 <= status <= 504 and title for status, title in wire.KINDS.values())


@pytest.mark.slow
def test_the_benchmark_measures_what_is_installed(tmp_path: Path) -> None:
    output = tmp_path / "wire.json"
    command = [sys.executable, str(BENCHMARK), "--papers", "3", "--output", str(output)]
    subprocess.run(command, capture_output=True, check=True)
    found = json.loads(output.read_text())
    assert found["times"]["msgspec, structs"].keys() == {"make_ms", "write_ms", "read_ms"}
    assert found["packages"]["msgspec"] == ["msgspec"]
