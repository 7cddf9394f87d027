"""What the workflows ask of GitHub: one comment per pull request and subject, and a release.

python .ci/github.py comment --about SUBJECT FILE
python .ci/github.py release --tag TAG --notes FILE [ASSET ...]

Only the standard library, so that a job that may write needs no packages. GITHUB_TOKEN,
GITHUB_REPOSITORY, GITHUB_API_URL and GITHUB_EVENT_PATH come from the workflow.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_CHARACTERS = 65_536  # of a comment
_NEXT = re.compile(r'<([^>]+)>; *rel="next"')
_PAUSES_S = (1.0, 4.0, 15.0)
_LONGEST_PAUSE_S = 60.0
_TIMEOUT_S = 30


class GitHubError(Exception):
    """GitHub refused a request; says what it said and what to do."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TryAgain(GitHubError):
    """The same request may work later: a server error, a limit, a broken connection."""

    pause_s: float | None = None


@dataclass(frozen=True)
class GitHub:
    """A repository as a workflow sees it.

    Attributes:
        api: address of the API, e.g. ``https://api.github.com``.
        repository: ``owner/name``.
        token: of the job.
        pauses_s: waited before each further attempt, where the answer names no time.
    """

    api: str
    repository: str
    token: str
    pauses_s: Sequence[float] = _PAUSES_S

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> GitHub:
        """Return the repository of the running workflow."""
        missing = [n for n in ("GITHUB_TOKEN", "GITHUB_REPOSITORY") if not environment.get(n)]
        if missing:
            raise GitHubError(f"{missing[0]} is not set. Run this in a workflow, or set it.")
        api = environment.get("GITHUB_API_URL", "https://api.github.com")
        return cls(api.rstrip("/"), environment["GITHUB_REPOSITORY"], environment["GITHUB_TOKEN"])

    def call(self, method: str, path: str, value: object = None) -> Any:
        """Return the JSON that answers a request; waits and repeats what may work later."""
        return self.answer(method, self._address(path), _json(value))[0]

    def pages(self, path: str) -> Iterator[Any]:
        """Yield the items of a list, page by page."""
        address: str | None = self._address(path)
        while address:
            items, links = self.answer("GET", address)
            yield from items
            found = _NEXT.search(links)
            address = found[1] if found else None

    def answer(
        self, method: str, address: str, body: bytes | None = None, kind: str = "application/json"
    ) -> tuple[Any, str]:
        """Return the JSON that answers a request, and its Link header."""
        for pause_s in (*self.pauses_s, None):
            try:
                return self._once(method, address, body, kind)
            except TryAgain as error:
                # A comment whose creation seemed to fail may exist: the caller looks first.
                if pause_s is None or method == "POST":
                    raise
                self.wait(pause_s, error)
        raise AssertionError("not reached")

    def wait(self, pause_s: float, error: TryAgain) -> None:
        """Wait before another attempt: as long as the answer asked for, or ``pause_s``."""
        pause_s = min(pause_s if error.pause_s is None else error.pause_s, _LONGEST_PAUSE_S)
        print(f"{error} Trying again in {pause_s:g} s.", file=sys.stderr, flush=True)
        time.sleep(pause_s)

    def _address(self, path: str) -> str:
        return f"{self.api}/repos/{self.repository}/{path}"

    def _once(self, method: str, address: str, body: bytes | None, kind: str) -> tuple[Any, str]:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": kind,
            "User-Agent": "classmark-workflows",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        request = urllib.request.Request(address, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                return json.loads(response.read() or b"null"), response.headers.get("Link", "")
        except urllib.error.HTTPError as error:
            raise _refusal(method, address, error) from error
        except (OSError, ValueError) as error:
            raise TryAgain(f"{method} {address}: {error}.") from error


def _refusal(method: str, address: str, error: urllib.error.HTTPError) -> GitHubError:
    """Return what an answer with an error status means."""
    try:
        said = json.loads(error.read()).get("message", "")
    except (OSError, ValueError, AttributeError):
        said = ""
    message = f"{method} {address}: {error.code} {said or error.reason}."
    limited = error.code in (403, 429) and (
        "Retry-After" in error.headers or error.headers.get("X-RateLimit-Remaining") == "0"
    )
    if error.code < 500 and not limited and error.code != 429:
        return GitHubError(f"{message}{_remedy(error.code)}", error.code)
    again = TryAgain(message, error.code)
    asked = error.headers.get("Retry-After", "")
    again.pause_s = float(asked) if asked.isdigit() else None
    return again


def _remedy(status: int) -> str:
    return {
        401: " The token is not valid.",
        403: " Give the job the permission that it lacks under `permissions:`.",
        404: " Check the number and the name of the repository, and what the token may see.",
    }.get(status, "")


def marker_of(about: str) -> str:
    """Return the first line of the comment on a subject; readers do not see it."""
    return f"<!-- classmark: {about} -->"


def put_comment(github: GitHub, pull_request: int, about: str, text: str) -> str:
    """Return the address of the comment on a subject, created or updated.

    Args:
        github: the repository.
        pull_request: its number.
        about: subject; a pull request has one comment on it.
        text: Markdown; cut if GitHub would refuse its length.
    """
    marker = marker_of(about)
    body = f"{marker}\n{text.strip()}\n"
    if len(body) > MOST_CHARACTERS:
        body = body[: MOST_CHARACTERS - 60].rpartition("\n")[0] + "\n\n*The rest was cut.*\n"
    for pause_s in (*github.pauses_s, None):
        comments = github.pages(f"issues/{pull_request}/comments?per_page=100")
        own = next((one for one in comments if (one["body"] or "").startswith(marker)), None)
        if own and own["body"].strip().replace("\r\n", "\n") == body.strip():
            return str(own["html_url"])
        try:
            if own:
                path = f"issues/comments/{own['id']}"
                return str(github.call("PATCH", path, {"body": body})["html_url"])
            path = f"issues/{pull_request}/comments"
            return str(github.call("POST", path, {"body": body})["html_url"])
        except TryAgain as error:
            if pause_s is None:
                raise
            github.wait(pause_s, error)
    raise AssertionError("not reached")


def publish_release(github: GitHub, tag: str, notes: str, assets: Sequence[Path]) -> str:
    """Return the address of the release of a tag, with files attached; a draft until all are there.

    A second run continues: the draft and the files that it has stay.
    """
    releases = github.pages("releases?per_page=100")
    found = next((one for one in releases if one["tag_name"] == tag), None)
    release = found or github.call(
        "POST", "releases", {"tag_name": tag, "name": tag, "body": notes, "draft": True}
    )
    present = {asset["name"] for asset in release["assets"]}
    upload = release["upload_url"].partition("{")[0]
    for path in assets:
        if path.name not in present:
            address = f"{upload}?name={urllib.parse.quote(path.name)}"
            github.answer("POST", address, path.read_bytes(), "application/octet-stream")
    done = github.call("PATCH", f"releases/{release['id']}", {"draft": False, "body": notes})
    return str(done["html_url"])


def event_of(environment: Mapping[str, str]) -> Any:
    """Return the event that started the workflow, empty outside of one."""
    path = environment.get("GITHUB_EVENT_PATH")
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def is_from_a_fork(event: Any) -> bool:
    """Return whether a pull request comes from a fork, whose workflows may not write."""
    pull_request = event.get("pull_request") or {}
    head, base = (pull_request.get(side) or {} for side in ("head", "base"))
    return bool(base) and (head.get("repo") or {}).get("id") != base["repo"]["id"]


def comment(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """Return what was done with the comment in a file."""
    text = options.file.read_text(encoding="utf-8")
    summary = environment.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text.strip() + "\n\n")
    event = event_of(environment)
    number = options.pull_request or (event.get("pull_request") or {}).get("number")
    if number is None:
        raise GitHubError("the event has no pull request. Name one: --pull-request N.")
    if is_from_a_fork(event):
        return "no comment: the token of a fork may not write. The summary of the run shows it."
    return put_comment(GitHub.from_environment(environment), number, options.about, text)


def release(options: argparse.Namespace, environment: Mapping[str, str]) -> str:
    """Return the address of the published release."""
    notes = options.notes.read_text(encoding="utf-8")
    return publish_release(GitHub.from_environment(environment), options.tag, notes, options.assets)


def _json(value: object) -> bytes | None:
    return None if value is None else json.dumps(value).encode()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    whole = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    commands = whole.add_subparsers(required=True)
    one = commands.add_parser("comment", help="create or update the comment on a subject")
    one.add_argument("--about", required=True, help="subject, e.g. data")
    one.add_argument("--pull-request", type=int, help="number; that of the event without it")
    one.add_argument("file", type=Path, help="Markdown")
    one.set_defaults(do=comment)
    other = commands.add_parser("release", help="publish a release with files")
    other.add_argument("--tag", required=True)
    other.add_argument("--notes", type=Path, required=True, help="Markdown")
    other.add_argument("assets", type=Path, nargs="*", help="files to attach")
    other.set_defaults(do=release)
    return whole


def main(words: Sequence[str] | None = None) -> int:
    """Do what a workflow asks, and print what was done."""
    options = parser().parse_args(words)
    try:
        print(options.do(options, os.environ))
    except (GitHubError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
