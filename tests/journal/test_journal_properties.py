"""Any order of recording, flushing, closing files, restarting and forgetting keeps its promises."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from journal_events import PATIENCE_S, feedback, prediction

from classmark.journal import Journal, JournalConfig, find_prediction, read_predictions
from classmark.journal.database import live_file, open_writer
from classmark.journal.forget import Forgettable, forget
from classmark.journal.migrations import transaction
from classmark.journal.place import Place
from classmark.journal.reading import summarise
from classmark.journal.writer import mark_closed
from classmark.records import FeedbackEvent, PredictionEvent

CATEGORIES = ("cs.LG", "math.CO", "hep-th")
OLD, CUT = "2020-01-01T00:00:00.000Z", "2021-01-01T00:00:00.000Z"


class Promises(RuleBasedStateMachine):
    """A journal beside a model of it: two processes' worth of writers, and an operator."""

    known = Bundle("known")

    def begin_place(self) -> Place:
        self.folder = tempfile.TemporaryDirectory()
        return Path(self.folder.name) / "journal.sqlite"

    @initialize()
    def begin(self) -> None:
        self.path = self.begin_place()
        self.journals = [self._open(), self._open()]
        assert self.journals[0].flush(PATIENCE_S)  # the first file is begun
        self.calls = [0, 0]
        self.events: dict[str, PredictionEvent] = {}
        self.said: dict[str, set[str]] = {}
        self.forgotten: set[str] = set()

    def _open(self) -> Journal:
        return Journal(JournalConfig(path=self.path, flush_window_ms=4, rotate_bytes=64 * 1024))

    def _record(self, who: int, event: PredictionEvent | FeedbackEvent) -> None:
        assert self.journals[who].record(event)
        self.calls[who] += 1

    def _flush(self) -> None:
        assert all(journal.flush(PATIENCE_S) for journal in self.journals)

    @rule(target=known, who=st.integers(0, 1), old=st.booleans(), paper=st.integers(0, 3))
    def record(self, who: int, old: bool, paper: int) -> str:
        changes = {"at_utc": OLD} if old else {}
        event = prediction(paper_id=str(paper), **changes)
        self._record(who, event)
        self.events[event.prediction_id] = event
        return event.prediction_id

    @rule(who=st.integers(0, 1), prediction_id=known)
    def record_again(self, who: int, prediction_id: str) -> None:
        if prediction_id in self.events:
            self._record(who, self.events[prediction_id])

    @rule(who=st.integers(0, 1), prediction_id=known, category=st.sampled_from(CATEGORIES))
    def comment(self, who: int, prediction_id: str, category: str) -> None:
        self._record(who, feedback(prediction_id, category))
        if prediction_id not in self.forgotten:
            self.said.setdefault(prediction_id, set()).add(category)

    @rule()
    def flush(self) -> None:
        self._flush()

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        assert self.journals[who].close(PATIENCE_S) == 0
        self._check_counts(who)
        self.journals[who] = self._open()
        self.calls[who] = 0

    @rule()
    def close_file(self) -> None:
        self.disturb()

    def disturb(self) -> None:
        assert isinstance(self.path, Path)
        connection = open_writer(live_file(self.path), busy_timeout_ms=10_000)
        with transaction(connection):
            mark_closed(connection)
        connection.close()

    @rule(target=known, prediction_id=consumes(known))
    def forget_one(self, prediction_id: str) -> str:
        forget(self.path, Forgettable(prediction_ids=(prediction_id,)))
        self._lose({prediction_id})
        return multiple(prediction_id)

    @rule(paper=st.integers(0, 3))
    def forget_paper(self, paper: int) -> None:
        self._flush()
        forget(self.path, Forgettable(paper_ids=(str(paper),)))
        self._lose({i for i, event in self.events.items() if event.paper_id == str(paper)})

    @rule()
    def forget_old(self) -> None:
        self._flush()
        forget(self.path, Forgettable(before_utc=CUT))
        # By age nothing is kept out for good: a retry is young. So the model lets them go, too.
        for prediction_id in [i for i, event in self.events.items() if event.at_utc < CUT]:
            del self.events[prediction_id]
            self.said.pop(prediction_id, None)

    def _lose(self, prediction_ids: set[str]) -> None:
        self.forgotten |= prediction_ids
        for prediction_id in prediction_ids:
            self.said.pop(prediction_id, None)

    def _check_counts(self, who: int) -> None:
        status = self.journals[who].status()
        assert status.written + status.dropped + status.queued == self.calls[who]
        assert (status.dropped, status.failing) == (0, False)

    @rule()
    def check(self) -> None:
        self._flush()
        found = list(read_predictions(self.path))
        ids = [item.event.prediction_id for item in found]
        assert len(ids) == len(set(ids))
        assert set(ids) == set(self.events) - self.forgotten
        for item in found:
            said = {event.category for event in item.feedback}
            assert item.event == self.events[item.event.prediction_id]
            assert said == self.said.get(item.event.prediction_id, set())
            assert find_prediction(self.path, item.event.prediction_id) == item
        assert not any(find_prediction(self.path, gone) for gone in self.forgotten)
        assert summarise(self.path).waiting_feedback == sum(
            len(said) for i, said in self.said.items() if i not in ids
        )

    @invariant()
    def counts_add_up(self) -> None:
        for who in range(2):
            self._check_counts(who)

    def teardown(self) -> None:
        try:
            self.check()
        finally:
            for journal in self.journals:
                journal.close(PATIENCE_S)
            self.end_place()

    def end_place(self) -> None:
        self.folder.cleanup()


TestPromises = pytest.mark.slow(Promises.TestCase)
TestPromises.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
