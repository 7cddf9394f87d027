"""One file over HTTP, in pieces if need be: a broken download resumes from the bytes on disk."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from classmark import __version__
from classmark.dataset.config import Patience
from classmark.errors import DownloadFailed, StorageFailed
from classmark.records import Progress
from classmark.storage import storage_errors, write_json

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_MAX_WAIT_S = 60.0
USER_AGENT = f"classmark/{__version__}"


class Interruption(Exception):
    """A request ended before the file was whole.

    Attributes:
        wait_s: seconds that the server asked to wait.
    """

    def __init__(self, message: str, *, connects: bool = True, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self._connects = connects
        self.wait_s = wait_s

    def worth_retrying(self, *, started: bool) -> bool:
        """Return whether to try again: not if the server was never reached."""
        return self._connects or started


def explain(error: Exception, remote: Remote) -> Exception:
    """Return the DownloadFailed for what stays as it is, an Interruption for what may pass."""
    where = shown(remote.url)
    if isinstance(error, urllib.error.HTTPError):
        return _status_refused(error, remote)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        host = urlsplit(remote.url).hostname
        return Interruption(
            f"the name {host!r} cannot be resolved. Check the address, and the network.",
            connects=False,
        )
    if isinstance(reason, ssl.SSLError):
        return DownloadFailed(
            f"{where} has no certificate that this computer trusts ({reason}). Check the address, "
            "and SSL_CERT_FILE if a proxy stands between."
        )
    if isinstance(reason, TimeoutError):
        return Interruption(
            f"{where} did not respond in time. Try again, or raise --timeout.",
            connects=reason is error,  # urllib wraps what happens before the request is sent
        )
    if isinstance(error, urllib.error.URLError):
        return Interruption(
            f"{where} cannot be reached ({reason}). Check the address, the network and the proxy.",
            connects=False,
        )
    return Interruption(f"{where} broke off ({type(error).__name__}: {error}). Try again.")


def shown(url: str) -> str:
    """Return an address for a message, without a query, which may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _retry_after_s(headers: Message) -> float:
    """Return how long a server asks to wait, in seconds or until a date; 0 if it does not."""
    wait = headers.get("Retry-After", "").strip()
    if wait.isascii() and wait.isdigit():
        return float(wait)
    try:
        until = parsedate_to_datetime(wait).timestamp()
        # By its own clock, as the date is: ours may be wrong.
        date = headers.get("Date")
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, until - now)


def _status_refused(error: urllib.error.HTTPError, remote: Remote) -> Exception:
    where, status = shown(remote.url), f"HTTP {error.code}"
    if error.code in _PASSING_STATUS:
        wait_s = _retry_after_s(error.headers)
        return Interruption(f"{where} is unavailable ({status}). Try later.", wait_s=wait_s)
    if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return DownloadFailed(
            f"{where} refused the download ({status}): it needs credentials, or other ones. "
            f"{remote.credentials_remedy}"
        )
    if error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return DownloadFailed(f"there is no file at {where} ({status}). Check the address.")
    reason = " ".join(str(error.reason).split())
    return DownloadFailed(f"{where} refused the download ({status} {reason}). Check the address.")


_CHUNK_BYTES = 1 << 16
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file on a server.

    Attributes:
        url: http or https.
        authorization: header that goes to this origin only, never along with a redirect.
        credentials_remedy: what to do where the server refuses, one sentence.
    """

    url: str
    authorization: str | None = None
    credentials_remedy: str = "Get the file with a browser, and give its path instead."


@dataclass
class Part:
    """A file that is not whole yet, and beside it what it is a part of.

    Attributes:
        path: the bytes so far; ``path`` + ``.json`` says of which version of which address.
    """

    path: Path
    _note: Path = field(init=False)

    def __post_init__(self) -> None:
        self._note = self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def note(self) -> dict[str, Any]:
        """Return what was noted; empty if there is nothing that can be trusted."""
        try:
            value = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def begin(self, note: dict[str, Any]) -> None:
        """Throw away what had arrived, and note what comes now."""
        self.discard()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._note, note)

    def discard(self) -> None:
        """Remove the bytes, then the note."""
        self.path.unlink(missing_ok=True)
        self.forget_note()

    def forget_note(self) -> None:
        """Remove the note; the bytes stay."""
        self._note.unlink(missing_ok=True)


def fetch(remote: Remote, part: Part, patience: Patience, progress: Progress) -> None:
    """Make a part whole, going on from what is there if it is still the same file.

    Raises:
        DownloadFailed: refused, not there, or broken off too often; the part stays for resuming.
        StorageFailed: it cannot be written.
    """
    fruitless, at_start = 0, part.size
    while fruitless < patience.attempts:
        before = part.size
        try:
            return _attempt(remote, part, patience, progress)
        except Interruption as error:
            fruitless = 1 if part.size > before else fruitless + 1
            started = part.size != at_start
            if not error.worth_retrying(started=started) or fruitless >= patience.attempts:
                raise DownloadFailed(f"{error}{_kept(part)}") from error
            time.sleep(max(min(_MAX_WAIT_S, error.wait_s), patience.wait_after(fruitless)))
    raise DownloadFailed("the number of attempts must be 1 or more.")


def _kept(part: Part) -> str:
    return f" {part.size:,} bytes are kept: run the same command to resume." if part.size else ""


def _attempt(remote: Remote, part: Part, patience: Patience, progress: Progress) -> None:
    """Send one request and take what comes.

    Raises:
        Interruption: it ended before the file was whole.
    """
    request = urllib.request.Request(remote.url, headers=_headers(remote, part))  # noqa: S310
    if remote.authorization:
        request.add_unredirected_header("Authorization", remote.authorization)
    opener = urllib.request.build_opener(CarefulRedirects)
    try:
        with opener.open(request, timeout=patience.timeout_s) as response:
            _receive(remote, part, response, progress)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416:
                raise explain(error, remote) from error
            _settle_beyond_the_end(part, error.headers)
    except (OSError, http.client.HTTPException) as error:
        raise explain(error, remote) from error


def _headers(remote: Remote, part: Part) -> dict[str, str]:
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    note = part.note()
    if part.size and note.get("url") == remote.url and note.get("validator"):
        headers["Range"] = f"bytes={part.size}-"
        headers["If-Range"] = str(note["validator"])
    return headers


def _receive(
    remote: Remote, part: Part, response: http.client.HTTPResponse, progress: Progress
) -> None:
    _refuse_web_page(response, remote)
    total = _total(response)
    if not _continues(part, response):
        with storage_errors(part.path):
            part.begin(
                {"url": remote.url, "validator": _validator(response.headers), "size": total}
            )
    _check_space(part, total)
    with storage_errors(part.path), part.path.open("ab", buffering=0) as file:
        _copy(_chunks(response, remote), file, part.size, total, progress)
    if total is not None and part.size < total:
        raise Interruption(f"{shown(remote.url)} broke off after {part.size:,} of {total:,} bytes.")


def _copy(
    chunks: Iterator[bytes], file: IO[bytes], size: int, total: int | None, progress: Progress
) -> None:
    progress.step("downloading", done=size, share=size / total if total else 0.0)
    for chunk in chunks:
        _write_all(file, chunk)
        size += len(chunk)
        progress.advance(len(chunk), share=size / total if total else None)


def _chunks(response: http.client.HTTPResponse, remote: Remote) -> Iterator[bytes]:
    """Yield what arrives.

    Raises:
        Interruption: the connection broke; an error of the disk it is not.
    """
    while True:
        try:
            chunk = response.read1(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise explain(error, remote) from error
        if not chunk:
            return
        yield chunk


def _write_all(file: IO[bytes], chunk: bytes) -> None:
    """Write every byte: an unbuffered file takes a part of them where the disk is nearly full."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _continues(part: Part, response: http.client.HTTPResponse) -> bool:
    """Tell whether the answer is the rest of the same file; else it is read from the start.

    Raises:
        Interruption: it is a piece from somewhere else; the part was thrown away.
    """
    if response.status != 206:
        return False
    found, note = _RANGE.fullmatch(response.headers.get("Content-Range", "")), part.note()
    if (
        found
        and int(found[1]) == part.size
        and int(found[3]) == note.get("size")
        and _validator(response.headers) in (note.get("validator"), "")
    ):
        return True
    part.discard()
    raise Interruption("the server sent another part of the file than was requested.")


def _total(response: http.client.HTTPResponse) -> int | None:
    """Return the bytes of the whole file, None if the server does not say."""
    if found := _RANGE.fullmatch(response.headers.get("Content-Range", "")):
        return int(found[3])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _validator(headers: Message) -> str:
    """Return what tells this version of the file from others byte by byte, or ""."""
    tag = headers.get("ETag", "")
    strong = tag if tag and not tag.startswith("W/") else ""
    return strong or headers.get("Last-Modified", "")


def _settle_beyond_the_end(part: Part, headers: Message) -> None:
    """Accept a part that is already whole; discard any other that the server cannot complete.

    Raises:
        Interruption: it was thrown away.
    """
    end = headers.get("Content-Range", "").rpartition("/")[2]
    if end == str(part.size) and part.note().get("size") == part.size:
        return
    part.discard()
    raise Interruption("the file has changed on the server, so it is read from the start.")


def _check_space(part: Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - part.size > free:
        raise StorageFailed(
            f"cannot write {part.path}: {total - part.size:,} bytes are needed, {free:,} are "
            "free. Free some space, or choose another output."
        )


def _refuse_web_page(response: http.client.HTTPResponse, remote: Remote) -> None:
    if response.headers.get_content_type() == "text/html":
        raise DownloadFailed(
            f"{shown(remote.url)} answered with a web page, not with a file. Check the address; "
            f"you may have to log in. {remote.credentials_remedy}"
        )


class CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https, never from https to http; credentials stay at their origin."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request to follow with; called by urllib.

        Raises:
            DownloadFailed: it is not safe to follow.
        """
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise DownloadFailed(
                f"{shown(req.full_url)} leads to {shown(newurl)}, which is not safe to follow. "
                "Check the address."
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            for name, value in req.unredirected_hdrs.items():
                if name == "Authorization":
                    request.add_unredirected_header(name, value)
        return request
