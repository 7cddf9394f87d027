"""`.ci/github.py`: one comment per pull request and subject, and releases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import github as ci
import pytest
from github_server import PULL_REQUEST, REPOSITORY, TOKEN, FakeGitHub, Fault, serving

SCRIPT = Path(__file__).parents[2] / ".ci" / "github.py"
NOW = {"Retry-After": "0"}


@pytest.fixture
def server() -> Iterator[FakeGitHub]:
    with serving() as started:
        yield started


@pytest.fixture
def github(server: FakeGitHub) -> Any:
    return ci.GitHub(server.address, REPOSITORY, TOKEN, pauses_s=(0, 0))


def put(github: Any, text: str = "Ten papers more.", about: str = "data") -> str:
    return str(ci.put_comment(github, PULL_REQUEST, about, text))


def bodies(server: FakeGitHub) -> list[str]:
    return [comment["body"] for comment in server.comments]


def test_the_first_comment_is_created_and_the_next_one_updates_it(
    server: FakeGitHub, github: Any
) -> None:
    server.add_comment("Looks good to me.")
    first = put(github, "Ten papers more.")
    assert put(github, "Twelve papers more.") == first
    assert bodies(server) == [
        "Looks good to me.",
        "<!-- classmark: data -->\nTwelve papers more.\n",
    ]


def test_a_comment_that_says_the_same_already_is_left_alone(
    server: FakeGitHub, github: Any
) -> None:
    put(github)
    put(github)
    assert [line.split()[0] for line in server.requests] == ["GET", "POST", "GET"]


def test_each_subject_has_a_comment_of_its_own(server: FakeGitHub, github: Any) -> None:
    assert put(github, about="data") != put(github, about="model")
    assert len(bodies(server)) == 2


def test_a_comment_that_quotes_ours_is_not_ours(server: FakeGitHub, github: Any) -> None:
    quoted = server.add_comment("> <!-- classmark: data -->\n> Ten papers more.\n\nWhy?")
    put(github)
    assert quoted["body"].startswith(">")
    assert len(bodies(server)) == 2


def test_our_comment_is_found_on_the_third_page(server: FakeGitHub, github: Any) -> None:
    for number in range(230):
        server.add_comment(f"Remark {number}")
    own = server.add_comment("<!-- classmark: data -->\nOld.")
    put(github, "New.")
    assert own["body"] == "<!-- classmark: data -->\nNew.\n"
    assert sum(line.startswith("GET") for line in server.requests) == 3


@pytest.mark.parametrize("fault", [Fault(502), Fault(503, headers=NOW), Fault(None)])
def test_a_list_that_fails_for_a_moment_is_asked_for_again(
    server: FakeGitHub, github: Any, fault: Fault
) -> None:
    server.faults = [fault]
    put(github)
    assert len(bodies(server)) == 1


@pytest.mark.parametrize("status", [502, None])
def test_a_comment_whose_creation_only_seemed_to_fail_is_not_repeated(
    server: FakeGitHub, github: Any, status: int | None
) -> None:
    server.faults = [Fault(status, "POST", after=True)]
    put(github)
    assert len(bodies(server)) == 1


def test_a_limit_is_waited_for_as_long_as_github_asks(
    server: FakeGitHub, github: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = "You have exceeded a secondary rate limit"
    server.faults = [Fault(403, "POST", limit, NOW)]
    put(github)
    assert len(bodies(server)) == 1
    assert f"403 {limit}. Trying again in 0 s." in capsys.readouterr().err


def test_a_server_that_stays_broken_is_given_up(server: FakeGitHub, github: Any) -> None:
    server.faults = [Fault(500, message="Server Error") for _ in range(9)]
    with pytest.raises(ci.GitHubError, match=r"GET .*/issues/7/comments.*500 Server Error"):
        put(github)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            Fault(403, "POST", "Resource not accessible by integration"),
            "403 Resource not accessible by integration. Give the job the permission",
        ),
        (Fault(404, "POST", "Not Found"), "404 Not Found. Check the number"),
        (Fault(422, "POST", "Validation Failed"), "422 Validation Failed."),
    ],
)
def test_a_refusal_is_not_repeated_and_says_what_to_do(
    server: FakeGitHub, github: Any, fault: Fault, text: str
) -> None:
    server.faults = [fault]
    with pytest.raises(ci.GitHubError, match=text):
        put(github)
    assert sum(line.startswith("POST") for line in server.requests) == 1


def test_a_wrong_token_is_named_as_the_reason(server: FakeGitHub) -> None:
    wrong = ci.GitHub(server.address, REPOSITORY, "old", pauses_s=())
    with pytest.raises(ci.GitHubError, match="401 Bad credentials"):
        put(wrong)


def test_a_text_too_long_for_github_is_cut_at_a_line(server: FakeGitHub, github: Any) -> None:
    put(github, "\n".join(f"| row {number} |" for number in range(9_000)))
    assert len(bodies(server)[0]) <= ci.MOST_CHARACTERS
    assert bodies(server)[0].endswith(" |\n\n*The rest was cut.*\n")


def run(server: FakeGitHub, folder: Path, event: Any, *words: str) -> Any:
    """Run the script as a workflow does."""
    (folder / "event.json").write_text(json.dumps(event))
    environment = {
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_API_URL": server.address,
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    return subprocess.run(
        [sys.executable, SCRIPT, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def event(head: int) -> Any:
    sides = {"head": {"repo": {"id": head}}, "base": {"repo": {"id": 1}}}
    return {"pull_request": {"number": PULL_REQUEST, **sides}}


def test_the_command_comments_on_the_pull_request_of_the_event(
    server: FakeGitHub, tmp_path: Path
) -> None:
    text = tmp_path / "data.md"
    text.write_text("Ten papers more.\n")
    done = run(server, tmp_path, event(head=1), "comment", "--about", "data", str(text))
    assert (done.returncode, done.stdout.strip()) == (0, f"{server.address}/comment/1")
    assert bodies(server) == ["<!-- classmark: data -->\nTen papers more.\n"]
    assert (tmp_path / "summary.md").read_text() == "Ten papers more.\n\n"


def test_the_text_of_a_fork_goes_to_the_summary_only(server: FakeGitHub, tmp_path: Path) -> None:
    text = tmp_path / "data.md"
    text.write_text("Ten papers more.\n")
    done = run(server, tmp_path, event(head=2), "comment", "--about", "data", str(text))
    assert done.returncode == 0
    assert "the token of a fork may not write" in done.stdout
    assert not server.requests
    assert "Ten papers more." in (tmp_path / "summary.md").read_text()


def test_without_a_pull_request_the_command_asks_for_its_number(
    server: FakeGitHub, tmp_path: Path
) -> None:
    done = run(server, tmp_path, {}, "comment", "--about", "data", __file__)
    assert done.returncode == 1
    assert "the event has no pull request. Name one: --pull-request N." in done.stderr


def test_a_release_is_public_once_all_its_files_are_there(
    server: FakeGitHub, tmp_path: Path
) -> None:
    notes, wheel = tmp_path / "notes.md", tmp_path / "classmark 1.whl"
    notes.write_text("- A new verb.\n")
    wheel.write_bytes(b"wheel")
    words = ("release", "--tag", "v1.0.0", "--notes", str(notes), str(wheel))
    server.faults = [Fault(422, "PATCH", "Validation Failed")]
    assert run(server, tmp_path, {}, *words).returncode == 1
    assert [one["draft"] for one in server.releases] == [True]
    done = run(server, tmp_path, {}, *words)
    assert (done.returncode, done.stdout.strip()) == (0, f"{server.address}/release/1")
    (release,) = server.releases
    assert release["assets"] == [{"name": "classmark 1.whl", "size": 5}]
    assert (release["draft"], release["body"]) == (False, "- A new verb.\n")
