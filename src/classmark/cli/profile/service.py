"""A service under load and under a sampler: what ``classmark profile serve`` runs."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from classmark.cli.output import print_error
from classmark.errors import MissingExtra, UsageError, WorkerFailed

if TYPE_CHECKING:
    from classmark.profiling import Stacks

_HOST = "127.0.0.1"
_READY_S, _LOOK_S, _TIMEOUT_S = 60.0, 0.05, 30.0
_MOST_PAPERS = 500
_JOURNAL = "CLASSMARK_SERVE_JOURNAL"


@dataclass
class Load:
    """What a service is sent, and how it answered.

    Attributes:
        bodies: of requests, sent one after the other, again and again.
        connections: each has one request at a time.
        seconds: how long they are sent.
        answered_s: time to each good answer.
        refused: answers with a status of 400 or more, and connections that broke.
    """

    bodies: list[bytes]
    connections: int
    seconds: float
    answered_s: list[float] = field(default_factory=list)
    refused: int = 0

    def facts(self, seconds: float) -> dict[str, Any]:
        """Return what the report says of it."""
        cuts = statistics.quantiles(self.answered_s * 2, n=100) if self.answered_s else [0.0] * 99
        return {
            "requests": len(self.answered_s),
            "refused": self.refused,
            "requests_per_second": round(len(self.answered_s) / max(seconds, 1e-9), 1),
            "p50_ms": round(1000 * cuts[49], 2),
            "p99_ms": round(1000 * cuts[98], 2),
            "connections": self.connections,
        }


def bodies_of(file: Path | None, batch: int) -> list[bytes]:
    """Return the bodies of requests: papers of a file, or invented ones.

    Raises:
        MissingExtra: papers are to be invented, or there is no HTTP client.
        UnreadableSource: the file cannot be read.
        UsageError: it holds no paper.
    """
    if any(find_spec(name) is None for name in ("httpx", "uvicorn")):
        raise MissingExtra("profile serve", "profile,serve")
    n_papers = max(_MOST_PAPERS, batch)
    if file is not None:
        from classmark.papers import read_papers
        from classmark.records import Paper

        read = (paper for paper in read_papers(file) if isinstance(paper, Paper))
        found = list(islice(read, n_papers))
    else:
        if find_spec("polars") is None:
            raise MissingExtra("profile serve without --papers FILE", "profile,serve,data")
        from classmark.dataset import SampleConfig, sample_papers

        found = list(sample_papers(SampleConfig(papers=n_papers)))
    if not found:
        raise UsageError(f"{file} holds no paper. Give a file of papers with --papers.")
    sent = [{"id": p.id, "title": p.title, "abstract": p.abstract} for p in found]
    if batch == 1:
        return [json.dumps(paper).encode() for paper in sent]
    parts = [sent[first : first + batch] for first in range(0, len(sent), batch)]
    return [json.dumps({"papers": part}).encode() for part in parts]


def profile_service(folder: Path, options: Sequence[str], load: Load, rate: int) -> bool:
    """Write the profile of a service under load; return whether the user stopped it.

    Args:
        folder: to write.
        options: of ``classmark serve``.
        load: what it is sent.
        rate: samples a second.

    Raises:
        WorkerFailed: the service does not start, or refuses every request.
        StorageFailed: the folder cannot be written.
    """
    from classmark.journal.place import without_passwords
    from classmark.pages.profile import write_profile
    from classmark.profiling.config import ProfilerConfig
    from classmark.profiling.profiler import make_profile
    from classmark.storage import atomic_folder

    ProfilerConfig(kind="cpu", rate=rate, folder=None)  # checks the rate
    words = ["serve", *options]
    if not any(word.partition("=")[0] == "--workers" for word in options):
        words += ["--workers", "1"]
    with atomic_folder(folder) as temporary, (temporary / "output.txt").open("w+b") as log:
        with _Service(words, rate, log) as service:
            interrupted = service.answer(load)
        profile = make_profile(
            service.stacks,
            service.meter,
            command=without_passwords(shlex.join(["classmark", *words])),
            rate=rate,
            interrupted=interrupted,
            load=load.facts(service.loaded_s),
        )
        if not load.answered_s and not interrupted:
            raise WorkerFailed(f"the service refused all of {load.refused} requests. {_CHECK}")
        write_profile(temporary, profile)
    return interrupted


_CHECK = "Try the same papers with `classmark serve`, whose log says why."


class _Service:
    """A service that py-spy has started, from its start to its end."""

    def __init__(self, words: list[str], rate: int, log: IO[bytes]) -> None:
        self._words, self._rate, self._log = words, rate, log
        self.loaded_s = 0.0

    def __enter__(self) -> _Service:
        from classmark.profiling import Meter
        from classmark.profiling.profiler import SAMPLER, Sampler

        self._home = tempfile.TemporaryDirectory(prefix="classmark-profile-")
        port = _free_port()
        self._url = f"http://{_HOST}:{port}"
        where = ["--host", _HOST, "--port", str(port)]
        os.environ.setdefault(_JOURNAL, str(Path(self._home.name) / "journal.db"))
        command = ["--", sys.executable, "-m", "classmark", *self._words, *where]
        print_error(f"starting the service at {self._url} ...")
        self._sampler = Sampler(command, self._rate, self._log)
        self.meter = Meter(self._sampler.process.pid, left_out=SAMPLER, itself=False)
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.meter.stop()
        self.stacks = self._end()

    def answer(self, load: Load) -> bool:
        """Put it under load; return whether the user stopped that."""
        print_error(f"sending for {load.seconds:g} s over {load.connections} connections ...")
        started, interrupted = time.monotonic(), False
        try:
            asyncio.run(_send(f"{self._url}/v1/classify", load))
        except KeyboardInterrupt:
            interrupted = True
        self.loaded_s = time.monotonic() - started
        return interrupted

    def _wait_until_ready(self) -> None:
        import httpx

        until = time.monotonic() + _READY_S
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self._url}/readyz", trust_env=False).is_success:
                    return
            if self._sampler.process.poll() is not None or time.monotonic() > until:
                raise WorkerFailed(f"the service did not start: {self._last_line()}")
            time.sleep(_LOOK_S)

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = [
            line
            for line in self._log.read().decode("utf-8", "replace").splitlines()
            if line.strip() and not line.startswith("py-spy>")
        ]
        return lines[-1].removeprefix("error: ") if lines else f"nothing for {_READY_S:g} s."

    def _end(self) -> Stacks:
        """Stop the service, and return what the sampler has seen."""
        import psutil

        with suppress(psutil.Error):
            for child in psutil.Process(self._sampler.process.pid).children():
                child.terminate()
        try:
            return self._sampler.result()
        finally:
            self._home.cleanup()


async def _send(url: str, load: Load) -> None:
    import httpx

    until = time.monotonic() + load.seconds

    async def connection(client: httpx.AsyncClient, number: int) -> None:
        place = number * 97
        while time.monotonic() < until:
            place += 1
            started = time.perf_counter()
            try:
                response = await client.post(url, content=load.bodies[place % len(load.bodies)])
                good = response.is_success
            except httpx.TransportError:
                good = False
            if good:
                load.answered_s.append(time.perf_counter() - started)
            else:
                load.refused += 1

    async with httpx.AsyncClient(
        timeout=_TIMEOUT_S,
        limits=httpx.Limits(max_connections=load.connections),
        headers={"Content-Type": "application/json"},
        trust_env=False,
    ) as client:
        await asyncio.gather(*(connection(client, number) for number in range(load.connections)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
