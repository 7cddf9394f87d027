"""``classmark dataset sample --send``: invented papers as traffic of a running service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from classmark.dataset.config import SampleConfig
    from classmark.records import Paper, Progress

_BATCH_S = 0.2
"""Papers of so much time are one request: a paper a request would measure the client."""
_MOST_IN_BATCH = 100

Send = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Send the papers to a running service instead, the oldest first."
    ),
]
Rate = Annotated[
    float, typer.Option(min=0.01, metavar="N", help="With --send: maximum papers a second.")
]
FeedbackShare = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="SHARE", help="With --send: share whose category is sent as feedback."
    ),
]
Newest = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="With --send: only the N newest of the papers."),
]
ApiKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key",
        envvar="CLASSMARK_API_KEY",
        metavar="KEY",
        help="With --send: API key of the service; several take turns.",
    ),
]


@dataclass(kw_only=True)
class Sent:
    """What was sent to a service; answers and errors add up to the papers.

    Attributes:
        papers: sent.
        answers, errors: that came back.
        feedback: sent.
    """

    papers: int = 0
    answers: int = 0
    errors: int = 0
    feedback: int = 0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How papers are sent.

    Attributes:
        url: of the service.
        rate: maximum papers a second.
        feedback: share of the papers whose category is sent as feedback, 0..1.
        newest: how many of the papers are sent, the newest ones; None for all.
        api_keys: whose requests these are, in turn; none if the service asks for none.
    """

    url: str
    rate: float
    feedback: float
    newest: int | None = None
    api_keys: tuple[str, ...] = field(default=(), repr=False)


def send_sample(config: SampleConfig, traffic: Traffic, progress: Progress) -> Sent:
    """Invent papers and send them in order of time; with drift the later ones are of other terms.

    Raises:
        MissingExtra: the client is not installed.
        UsageError: a key cannot be sent, or the service cannot be reached or refuses the papers.
    """
    try:
        from classmark.client import Client, ClientConfig, ClientError
    except ImportError as error:
        raise MissingExtra("sending papers to a service", "client") from error
    from classmark.dataset.sample.sample import sample_papers

    try:
        configs = [ClientConfig(api_key=key) for key in traffic.api_keys or (None,)]
    except ValueError as error:
        raise UsageError(f"--api-key: {error}") from error
    papers = sorted(sample_papers(config), key=lambda p: (p.published_date or "", p.id or ""))
    papers = papers[-(traffic.newest or len(papers)) :]
    chance, sent = Random(config.seed), Sent()  # noqa: S311 - seeded, not for secrets
    n_batch = max(1, min(_MOST_IN_BATCH, round(traffic.rate * _BATCH_S)))
    progress.step(f"sending {len(papers):,} papers to {traffic.url}")
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(Client(traffic.url, config)) for config in configs]
            started = time.monotonic()
            for client, batch in zip(cycle(clients), _batches(papers, n_batch), strict=False):
                for paper, answer in zip(batch, client.classify(batch), strict=True):
                    _count(sent, answer)
                    prediction_id = getattr(answer, "prediction_id", None)
                    if prediction_id and chance.random() < traffic.feedback:
                        client.feedback(prediction_id, paper.category_code or "")
                        sent.feedback += 1
                progress.advance(len(batch))
                time.sleep(max(0.0, started + sent.papers / traffic.rate - time.monotonic()))
    except ClientError as error:
        raise UsageError(
            f"the service at {traffic.url} did not take the papers after {sent.papers:,}: {error} "
            "Check the address, --api-key, and that it runs."
        ) from error
    return sent


def _count(sent: Sent, answer: object) -> None:
    from classmark.client import Answer

    sent.papers += 1
    if isinstance(answer, Answer):
        sent.answers += 1
    else:
        sent.errors += 1


def _batches(papers: list[Paper], n: int) -> Iterator[list[Paper]]:
    iterator = iter(papers)
    while batch := list(islice(iterator, n)):
        yield batch
