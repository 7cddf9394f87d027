"""Processes that read files: each can be killed at a deadline, and its memory is limited.

A thread that a C parser holds cannot be ended, nor its memory limited. A small plain file needs no
process, because nothing that it can hold takes long.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe

from classmark.errors import Overloaded
from classmark.papers import Columns
from classmark.papers.files.detect import PARQUET_MAGIC
from classmark.papers.files.sources import PACKED_MAGIC, ZIP_MAGIC
from classmark.service.logs import log
from classmark.service.problems import Problem
from classmark.service.requests.exchange import Exchange, deadline_exceeded
from classmark.service.requests.file_reading import (
    FileLimits,
    Job,
    Record,
    out_of_memory,
    records_of,
)
from classmark.service.requests.threads import started_pool
from classmark.wire import to_json

N_READERS = 2
FILES_A_CLIENT = 8
"""Files of one client in work or waiting; one is read at a time, so that a reader stays free."""
OVERRUN_S = 1.0
"""How long a process may take to stop by itself after the deadline. Starting another takes about
this time, and a client that sends many files with short deadlines would make all clients wait."""
SMALL_BYTES = 64 << 10
_PACKED = (*PACKED_MAGIC, ZIP_MAGIC, PARQUET_MAGIC)
_MEMORY_BYTES = 64 << 20
_MEMORY_SHARE = 8
"""Times the maximum body, for what a file becomes while it is read."""
_START_TIMEOUT_S = 60.0
_ENVIRONMENT = {
    # One thread each, and no reserve: both would count towards the memory limit.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def is_small(content: bytes) -> bool:
    """Return whether a file can be read in a thread: it is short and not packed."""
    return len(content) <= SMALL_BYTES and not content.startswith(_PACKED)


class ReaderPool:
    """The reading processes of one worker, each started when it is first needed.

    Attributes:
        limits: of every file.
    """

    def __init__(self, limits: FileLimits, max_files: int) -> None:
        """Start no process yet.

        Args:
            limits: of every file.
            max_files: in work or waiting, of all clients together.
        """
        self.limits = limits
        self._max_files = max_files
        self._pool = started_pool(N_READERS, "classmark-file")
        self._idle: list[_ReaderProcess] = []
        self._all: set[_ReaderProcess] = set()
        self._is_closed = False
        self._files: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Lock] = {}

    async def read(
        self, exchange: Exchange, content: bytes, file_name: str, columns: Columns
    ) -> tuple[str, list[Record]]:
        """Return the format of a file and its records.

        Args:
            exchange: with its deadline and its client, of whom one file is read at a time.
            content: of the file.
            file_name: only its ending is used.
            columns: read in addition to those of the usual names.

        Raises:
            Problem: it cannot be read within the limits.
            Overloaded: the client has too many files here.
        """
        client = exchange.holder
        if self._files[client] >= FILES_A_CLIENT:
            raise Overloaded(f"{FILES_A_CLIENT} of your files are being read")
        if self._files.total() >= self._max_files:
            raise Overloaded("too many files are waiting")
        self._files[client] += 1
        turn = self._turns.setdefault(client, asyncio.Lock())
        try:
            async with asyncio.timeout(exchange.remaining_s), turn:
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool, self._read_in_process, exchange, content, file_name, columns
                )
        except TimeoutError as error:
            raise deadline_exceeded(exchange) from error
        finally:
            self._files[client] -= 1
            if not self._files[client]:
                del self._files[client], self._turns[client]

    def close(self) -> None:
        """End the processes; what they still read is past its deadline or cut off."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for reader in list(self._all):
            reader.kill()

    def _read_in_process(
        self, exchange: Exchange, content: bytes, file_name: str, columns: Columns
    ) -> tuple[str, list[Record]]:
        """Return what a process reads; runs in a thread."""
        exchange.check_deadline()
        reader = self._idle_reader() or self._start()
        try:
            if not reader.is_ready_within(exchange.remaining_s):
                if reader.is_alive:
                    raise deadline_exceeded(exchange)
                exchange.check_deadline()
                raise Overloaded("the process that reads the file has died at its start")
            job = Job(file_name, columns, self.limits, exchange.remaining_s)
            return reader.read(exchange, content, job)
        finally:
            if reader.is_alive and not self._is_closed:
                self._idle.append(reader)
            else:
                reader.kill()
                self._all.discard(reader)

    def _idle_reader(self) -> _ReaderProcess | None:
        """Return a process that waits for work; one that has died is removed."""
        while self._idle:
            reader = self._idle.pop()
            if reader.process.poll() is None:
                return reader
            self._all.discard(reader)
        return None

    def _start(self) -> _ReaderProcess:
        try:
            reader = _ReaderProcess(_MEMORY_BYTES + _MEMORY_SHARE * self.limits.max_file_bytes)
        except OSError as error:  # no process or no descriptor is left
            log("no file reader", logging.WARNING, detail=str(error))
            raise Overloaded("no process can be started to read the file") from error
        self._all.add(reader)
        if self._is_closed:  # meanwhile
            reader.kill()
        return reader


class _ReaderProcess:
    """One process.

    Attributes:
        process: as the system has it.
        is_alive: it can be given a file.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._connection, theirs = Pipe()
        number = theirs.fileno()
        # With -P the working directory is not imported from, unless it is in the path already.
        path = os.pathsep.join(filter(None, sys.path))
        module = "classmark.service.requests.file_reading"
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(number), str(memory_bytes)],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
            )
        self._started_s = time.monotonic()
        self._is_ready = False
        self.is_alive = True

    def is_ready_within(self, seconds: float) -> bool:
        """Wait until it can read; one that is only slow to start is kept for the next file."""
        if not self._is_ready:
            try:
                self._is_ready = self._connection.poll(seconds) and bool(
                    self._connection.recv_bytes()
                )
            except (EOFError, OSError):
                self.kill()
                log("file reader died", logging.WARNING, exit_code=self.process.returncode)
            if not self._is_ready and time.monotonic() - self._started_s > _START_TIMEOUT_S:
                self.kill()
        return self._is_ready

    def read(self, exchange: Exchange, content: bytes, job: Job) -> tuple[str, list[Record]]:
        """Return the format of a file and its records; one that overruns the deadline is killed.

        Raises:
            Problem: the process says so, ended, or was killed.
        """
        try:
            with self._killed_after(exchange.deadline):
                self._connection.send_bytes(to_json(job))
                self._connection.send_bytes(content)
                return self._answer()
        except (EOFError, OSError) as error:
            self.kill()
            exchange.check_deadline()
            log("file reader died", logging.WARNING, exit_code=self.process.returncode)
            raise out_of_memory() from error

    def _answer(self) -> tuple[str, list[Record]]:
        found, problem = "", None
        records: list[Record] = []
        message = json.loads(self._connection.recv_bytes())
        while "is_worn" not in message:
            found = message.get("format", found)
            records += records_of(message)
            if "problem" in message:
                problem = Problem(**message["problem"])
            message = json.loads(self._connection.recv_bytes())
        if message["is_worn"]:
            self.kill()
        if problem is not None:
            raise problem
        return found, records

    @contextmanager
    def _killed_after(self, deadline: float) -> Iterator[None]:
        """Kill the process if it continues after the deadline, which it checks between records."""
        left_s = max(0.0, deadline - time.monotonic())
        timer = threading.Timer(left_s + OVERRUN_S, self.kill)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError as error:
            raise Overloaded("no thread can be started to end the reading in time") from error
        try:
            yield
        finally:
            timer.cancel()

    def kill(self) -> None:
        """End the process."""
        self.is_alive = False
        self.process.kill()
        self.process.wait()
