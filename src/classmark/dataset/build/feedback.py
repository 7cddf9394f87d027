"""Feedback as labels: what a policy lets through, so that no client can spoil a dataset."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from classmark.dataset.build.intake import TextStore, batches_of
from classmark.dataset.build.ledger import Ledger
from classmark.dataset.build.splits import draw_numbers
from classmark.dataset.config import FeedbackPolicy
from classmark.dataset.folder import TEXT_COLUMNS
from classmark.errors import InvalidJournal
from classmark.papers import canonical_id, is_place
from classmark.records import Paper, Prediction

ReadPredictions = Callable[[], Iterable[Prediction]]
"""Reads the predictions of journals; called twice, since texts are not kept in memory."""

_DAY_CHARS = len("2026-11-24")
_NEARLY = 1e-9  # what sums of trust may lack


@dataclass
class _Said:
    """What was said of one text, and the first prediction that has it."""

    words: dict[str, tuple[str, str]] = field(default_factory=dict)
    prediction_id: str = ""

    def take(self, prediction: Prediction) -> None:
        event = prediction.event
        if event.text is not None:
            self.prediction_id = min(self.prediction_id or event.prediction_id, event.prediction_id)
        for word in prediction.feedback:
            said = word.at_utc, word.category
            self.words[word.client] = max(self.words.get(word.client, said), said)


@dataclass(frozen=True)
class FedBack:
    """Papers that somebody gave feedback on; memory grows with them, not with the journal.

    Attributes:
        frame: those whose text is kept, as the frame of an ``Intake``; they have no label yet.
        words: the last category that each client named, by row.
        n_papers: all of them, with or without a text.
    """

    frame: pl.DataFrame
    words: Mapping[int, Mapping[str, str]]
    n_papers: int

    def clients(self) -> list[str]:
        """Return who gave feedback on papers whose text is kept."""
        return sorted({client for said in self.words.values() for client in said})


def read_feedback(read: ReadPredictions, texts: TextStore, first_row: int) -> FedBack:
    """Return the papers with feedback; their texts go to disk.

    Args:
        read: reads the journals.
        texts: takes the texts, after those of other papers.
        first_row: number of the first paper among all.

    Raises:
        InvalidJournal: there is feedback, but no text of a paper that it is about.
    """
    said: defaultdict[str, _Said] = defaultdict(_Said)
    for prediction in read():
        if prediction.feedback:
            event = prediction.event
            said[event.text_fingerprint or event.prediction_id].take(prediction)
    chosen = {one.prediction_id: one for one in said.values() if one.prediction_id}
    if said and not chosen:
        raise InvalidJournal(
            f"the journal has feedback on {len(said)} papers, and the text of none of them. A "
            "journal keeps texts only if the service runs with --journal-text; leave out --journal."
        )
    frames: list[pl.DataFrame] = []
    order: list[str] = []
    for batch in batches_of(_papers(read(), chosen, order), "journal", ""):
        texts.add(batch.frame)
        frames.append(batch.frame.drop(TEXT_COLUMNS))
    empty = next(batches_of([Paper(abstract="")], "", "")).frame.drop(TEXT_COLUMNS).clear()
    frame = pl.concat([empty, *frames]).with_row_index("row", offset=first_row)
    words = {
        row: {client: category for client, (_, category) in chosen[prediction_id].words.items()}
        for row, prediction_id in enumerate(order, first_row)
    }
    return FedBack(frame, words, len(said))


def _papers(
    predictions: Iterable[Prediction], chosen: Mapping[str, _Said], order: list[str]
) -> Iterator[Paper]:
    """Yield the papers of the chosen predictions, each once; note which they are."""
    seen = set()
    for event in (prediction.event for prediction in predictions):
        if event.prediction_id not in chosen or event.prediction_id in seen or event.text is None:
            continue
        seen.add(event.prediction_id)
        order.append(event.prediction_id)
        title, _, abstract = event.text.partition("\n")
        identifier = canonical_id(event.paper_id or "")
        if not identifier or is_place(identifier):  # a number of a record is not unique
            identifier = f"text-{event.text_fingerprint or event.prediction_id}"
        yield Paper(
            id=identifier, title=title, abstract=abstract, published_date=event.at_utc[:_DAY_CHARS]
        )


def distrusted(
    said: FedBack, known: pl.DataFrame, separator: str, policy: FeedbackPolicy
) -> tuple[str, ...]:
    """Return the clients whose words on known papers are wrong too often.

    Args:
        said: what they said.
        known: papers with ``id``, ``fingerprint`` and ``categories``, all that each is listed in.
        separator: between the categories.
        policy: how often is too often.
    """
    checked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    names = ["row", "categories"]
    frame = said.frame.select("row", "id", "fingerprint")
    by_text = frame.join(known.filter(pl.col("fingerprint") != ""), on="fingerprint")
    matches = pl.concat([frame.join(known, on="id").select(names), by_text.select(names)])
    for row, listed in matches.unique("row", keep="first", maintain_order=True).iter_rows():
        for client, category in said.words[row].items():
            checked[client] += 1
            right[client] += category in listed.split(separator)
    return tuple(
        sorted(
            client
            for client, n in checked.items()
            if n >= policy.checks and right[client] < policy.least_right * n
        )
    )


def label(said: FedBack, policy: FeedbackPolicy, unheard: Iterable[str]) -> pl.DataFrame:
    """Return the fed-back papers with ``category_code``, ``categories``, ``refused``, ``clients``.

    ``refused`` is why the feedback is not a label, "" if it is one; ``clients`` named the label.
    """
    trust = {**policy.trust, **dict.fromkeys(unheard, 0.0)}
    found = [_decide(said.words[row], policy, trust) for row in said.frame["row"]]
    columns = {
        "category_code": pl.Series([category for category, _, _ in found], dtype=pl.String),
        "refused": pl.Series([reason for _, reason, _ in found], dtype=pl.String),
        "clients": pl.Series([list(clients) for _, _, clients in found], dtype=pl.List(pl.String)),
    }
    return said.frame.with_columns(**columns).with_columns(
        categories=pl.concat_list("category_code")
    )


def _decide(
    words: Mapping[str, str], policy: FeedbackPolicy, trust: Mapping[str, float]
) -> tuple[str, str, tuple[str, ...]]:
    weights: defaultdict[str, float] = defaultdict(float)
    for client, category in sorted(words.items()):
        weights[category] += trust.get(client, 1.0)
    best = max(sorted(weights), key=lambda category: weights[category])
    heard = [c for c, category in words.items() if category == best and trust.get(c, 1.0) > 0]
    reason = ""
    if weights[best] < policy.agree - _NEARLY:
        reason = "feedback_few_agree"
    elif weights[best] < policy.agreement * sum(weights.values()) - _NEARLY:
        reason = "feedback_disputed"
    return best, reason, tuple(sorted(heard))


def drop_refused(frame: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Return the papers whose feedback is a label; the others are counted."""
    for reason in ("feedback_few_agree", "feedback_disputed"):
        frame = ledger.drop(frame, pl.col("refused") == reason, reason)
    return frame


def over_share(
    papers: pl.DataFrame, before: Mapping[str, int], policy: FeedbackPolicy, seed: int
) -> dict[str, list[int]]:
    """Return rows, by reason, without which no client has more than its share of these papers.

    The shares are of the papers as they are, so that it must be asked again without the rows. Which
    papers go is drawn: neither their order nor their time favours a client.

    Args:
        papers: all new ones, with ``row``, ``fingerprint``, ``category_code`` and ``clients``,
            which is empty for those with a label of their own.
        before: papers of each category in the dataset that is extended.
        policy: the shares.
        seed: of the draw.
    """
    sizes = Counter(before)
    sizes.update(papers["category_code"])
    fed_back = papers.filter(pl.col("clients").list.len() > 0)
    drawn = fed_back.with_columns(draw=draw_numbers(fed_back["fingerprint"], seed))
    most = int(np.floor(policy.client_share * papers.height + _NEARLY))
    count: Counter[tuple[str, ...]] = Counter()
    over: dict[str, list[int]] = {"feedback_client_share": [], "feedback_category_share": []}
    names = ("row", "category_code", "clients")
    for row, code, clients in drawn.sort("draw", "row").select(names).iter_rows():
        most_here = int(np.floor(policy.category_share * sizes[code] + _NEARLY))
        if any(count[(client,)] >= most for client in clients):
            over["feedback_client_share"].append(row)
        elif any(count[client, code] >= most_here for client in clients):
            over["feedback_category_share"].append(row)
        else:
            count.update((client,) for client in clients)
            count.update((client, code) for client in clients)
    return over
