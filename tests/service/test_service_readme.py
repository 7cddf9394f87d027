"""The curl of README gets the answer that README shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
_CURL = re.compile(
    r"^\$ curl -s \S+/v1/classify --json '(?P<body>.*?)' "
    r"\| python3 -m json\.tool \| head -(?P<n>\d+)\n(?P<shown>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"\d\.\d+")


def test_the_curl_of_readme_gets_the_answer_shown(client: httpx.Client) -> None:
    found = _CURL.search(README)
    assert found is not None
    response = client.post("/v1/classify", json=json.loads(found["body"]))
    printed = json.dumps(response.json(), indent=4).splitlines()[: int(found["n"])]
    shown = found["shown"].splitlines()
    assert [_NUMBER.sub("N", line) for line in printed] == [_NUMBER.sub("N", s) for s in shown]
    numbers = [[float(n) for n in _NUMBER.findall("\n".join(x))] for x in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-6)
