"""The asynchronous client, from which ``.ci/blocking_client.py`` writes the blocking one."""

from __future__ import annotations

import time
from asyncio import sleep
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, Unpack, cast, overload

import httpx

from classmark.client.papers import OnePaper, batches, is_one
from classmark.client.problems import (
    DeadlineExceeded,
    ServiceBusy,
    ServiceProblem,
    ServiceUnreachable,
)
from classmark.client.protocol import (
    DEFAULT_URL,
    READY_PAUSE_S,
    TOO_LARGE,
    Call,
    ClientConfig,
    Prediction,
    RequestOptions,
    Retries,
    authorisation,
    bad_record,
    batch_call,
    feedback_call,
    file_call,
    get,
    one_call,
    options_of,
    prediction_call,
)
from classmark.wire import (
    Answer,
    BadRecord,
    Categories,
    Category,
    FileAnswers,
    Health,
    ModelDetails,
    Models,
    Status,
)

T = TypeVar("T")


class AsyncClient:
    """Talks to one service; tasks or threads may share it. Close it, or use it as a context."""

    def __init__(self, url: str = DEFAULT_URL, config: ClientConfig | None = None) -> None:
        """Make a client; nothing is sent yet.

        Args:
            url: of the service, e.g. ``http://127.0.0.1:8000``.
            config: how to talk to it.
        """
        self.config = config or ClientConfig()
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=self.url, headers=authorisation(self.config))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @overload  # a string is an iterable of strings too; it is read as one paper
    async def classify(  # type: ignore[overload-overlap]
        self, papers: OnePaper, **options: Unpack[RequestOptions]
    ) -> Answer: ...

    @overload
    async def classify(
        self, papers: Iterable[OnePaper], **options: Unpack[RequestOptions]
    ) -> list[Answer | BadRecord]: ...

    async def classify(
        self,
        papers: OnePaper | Iterable[OnePaper],
        *,
        top: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
        similar: int = 0,
        authors: bool = True,
    ) -> Answer | list[Answer | BadRecord]:
        """Classify one paper, or several in order; a long list is sent in parts.

        Args:
            papers: a text, a mapping with ``title`` and/or ``abstract`` (or ``text``; ``id``,
                ``authors`` and ``author_category`` beside), an object such as
                ``classmark.Paper``, or many.
            top: how many categories to rank.
            threshold: accept from this probability on, not from the model's own.
            explain: list the terms that decided.
            similar: how many similar papers to add; the service needs an index for it.
            authors: use what the model knows of the authors; False answers from the text alone.

        Raises:
            ServiceProblem: the service refused; of several papers a bad one is a ``BadRecord``.
            ClientError: it was not reached, too slow, or not classmark.
            TypeError: an item is not a paper; says which one.
        """
        options = options_of(top, threshold, explain=explain, similar=similar, authors=authors)
        if is_one(papers):
            return await self._send(one_call(cast("OnePaper", papers), options))
        found: list[Answer | BadRecord] = []
        for batch in batches(cast("Iterable[OnePaper]", papers), self.config.batch_papers):
            found += await self._classify_batch(batch, options)
        return found

    async def classify_file(
        self,
        file: str | Path | bytes,
        *,
        name: str | None = None,
        columns: Mapping[str, str] | None = None,
        **options: Unpack[RequestOptions],
    ) -> FileAnswers:
        """Classify every paper of a file in any format that the service reads.

        Args:
            file: a path, or the content.
            name: what to call it; only the ending matters.
            columns: field of a paper -> column or key, where they do not have the usual names:
                ``{"title": "Titel", "abstract": "Zusammenfassung"}``.
            options: as for ``classify``: ``top``, ``threshold``, ``explain``, ``similar`` and
                ``authors``.

        Raises:
            OSError: it cannot be read.
            ClientError: as ``classify``.
        """
        return await self._send(file_call(file, name, options_of(**options), columns))

    async def feedback(self, prediction_id: str, category: str, comment: str | None = None) -> None:
        """Say what the right category of a paper is.

        Args:
            prediction_id: of its answer.
            category: code or alias.
            comment: at most 500 characters.

        Raises:
            ClientError: as ``classify``.
        """
        await self._send(feedback_call(prediction_id, category, comment))

    async def categories(self) -> tuple[Category, ...]:
        """Return the categories that feedback can name: arXiv's, or the model's own labels."""
        found = await self._send(get("/v1/categories", Categories))
        return found.categories

    async def models(self) -> tuple[ModelDetails, ...]:
        """Return the models that answer, with their cards and metrics."""
        found = await self._send(get("/v1/models", Models))
        return found.models

    async def prediction(self, prediction_id: str) -> Prediction | None:
        """Return an entry of the journal, None if there is none (yet: see its flush window)."""
        try:
            return await self._send(prediction_call(prediction_id))
        except ServiceProblem as problem:
            if problem.kind == "not_found":
                return None
            raise

    async def status(self) -> Status:
        """Return how the service does."""
        return await self._send(get("/v1/status", Status))

    async def ready(self) -> bool:
        """Tell whether the service wants requests now."""
        return await self._is_ready(self.config.timeout_s)

    async def wait_until_ready(self, timeout_s: float = 30.0) -> None:
        """Return when the service wants requests.

        Raises:
            ServiceUnreachable: it did not in time.
        """
        deadline = time.monotonic() + timeout_s
        left_s = timeout_s
        while not await self._is_ready(max(READY_PAUSE_S, min(left_s, self.config.timeout_s))):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise ServiceUnreachable(
                    f"{self.url} was not ready within {timeout_s:g} s. Check the address, and the "
                    "log of `classmark serve`."
                )
            await sleep(READY_PAUSE_S)

    async def _is_ready(self, timeout_s: float) -> bool:
        once = replace(self.config, timeout_s=timeout_s, broken_retries=0, busy_retries=0)
        try:
            await self._send(get("/readyz", Health), once)
        except (ServiceUnreachable, ServiceBusy, DeadlineExceeded):
            return False
        except ServiceProblem as problem:
            if problem.status < 500:  # a proxy says 502 while nothing answers behind it
                raise
            return False
        return True

    async def _classify_batch(
        self, papers: list[dict[str, Any]], options: dict[str, Any]
    ) -> list[Answer | BadRecord]:
        """Classify a batch, in halves if it is more than this service takes at once."""
        try:
            found = await self._send(batch_call(papers, options))
        except ServiceProblem as problem:
            if problem.kind not in TOO_LARGE:
                raise
            if len(papers) == 1:
                return [bad_record(papers[0], problem)]
        else:
            return found
        half = len(papers) // 2
        first = await self._classify_batch(papers[:half], options)
        return first + await self._classify_batch(papers[half:], options)

    async def _send(self, call: Call[T], config: ClientConfig | None = None) -> T:
        config = config or self.config
        retries = Retries(config)
        while True:
            try:
                response = await self._http.request(**call.arguments(config))
            except httpx.RequestError as error:
                wait_s: float | None = retries.wait_after_break(error, self.url)
            else:
                wait_s = retries.wait_after(response)
                if wait_s is None:
                    return call.result(response)
            await sleep(wait_s or 0.0)
