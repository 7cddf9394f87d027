"""The curl of README gets the answer that README shows, and those of other pages get one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
_CURL = re.compile(
    r"^\$ curl -s \S+/v1/classify --json '(?P<body>.*?)' "
    r"\| python3 -m json\.tool \| head -(?P<n>\d+)\n(?P<shown>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_JSON_CURL = re.compile(r"^curl http://127\.0\.0\.1:8000(\S+) --json '([^']+)'$", re.MULTILINE)
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


@pytest.mark.parametrize(("page", "n"), [("how-to/ask-over-http.md", 2), ("reference/http.md", 2)])
def test_what_a_page_sends_with_curl_is_accepted(client: httpx.Client, page: str, n: int) -> None:
    found = _JSON_CURL.findall((ROOT / "docs" / page).read_text("utf-8"))
    assert len(found) == n
    for path, body in found:
        sent = body.encode()
        response = client.post(path, content=sent, headers={"Content-Type": "application/json"})
        assert response.is_success, response.text
