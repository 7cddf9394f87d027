"""The versions that a worker holds, and which of them answers a request.

A change is one assignment in the event loop, so it falls between two requests: a request asks once
what answers it, and holds that version until its answer is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from classmark.service.answering.answerer import Answerer
from classmark.service.answering.batching import Batcher, BatchLimits
from classmark.service.answering.comparing import Comparer, Pairing
from classmark.service.answering.model import WARM_UP, Model, open_index, with_evidence

if TYPE_CHECKING:
    from classmark.journal import Journal
    from classmark.service.metrics import Metrics
    from classmark.service.settings import ServiceSettings
    from classmark.wire import ModelRef
    from classmark.wire.documents import Role

_TIMED_PAPERS = 4
_HASH_BITS = 64


class Version:
    """A loaded model that can answer.

    Attributes:
        model, answerer: as given.
        role: what it is for; of a released one, what it was for last.
        in_work: requests that hold it.
    """

    def __init__(self, model: Model, answerer: Answerer) -> None:
        self.model = model
        self.answerer = answerer
        self.role: Role = "champion"
        self.in_work = 0
        self._is_released = False

    @property
    def ref(self) -> ModelRef:
        """Name, version and digest."""
        return self.answerer.model

    def enter(self) -> Version:
        """Hold it for a request."""
        self.in_work += 1
        return self

    def leave(self) -> None:
        """Let go of it; the last request of a released one ends it."""
        self.in_work -= 1
        self._end_if_unused()

    def release(self) -> None:
        """Let it end with the last request that holds it."""
        self._is_released = True
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self._is_released and not self.in_work and self.answerer.batcher is not None:
            self.answerer.batcher.close()


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Which versions are loaded, and what for.

    Attributes:
        champion: answers what no other one does.
        challenger: answers a share of the requests.
        percent: that share, 0..100.
        shadow: scores a share of the answered papers again.
        shadow_percent: that share, 0..100.
        previous: the champion before this one, ready to come back.
        sequence: of the pointer that says so.
        since_s: when the registry made this champion, in Unix time; None if that is unknown.
    """

    champion: Version
    challenger: Version | None = None
    percent: float = 0.0
    shadow: Version | None = None
    shadow_percent: float = 0.0
    previous: Version | None = None
    sequence: int = 0
    since_s: float | None = None

    def by_role(self) -> Iterator[tuple[Role, Version]]:
        """Yield every version once, by its first role."""
        seen: set[int] = set()
        roles: tuple[Role, ...] = ("champion", "challenger", "shadow", "previous")
        for role in roles:
            version: Version | None = getattr(self, role)
            if version is not None and id(version) not in seen:
                seen.add(id(version))
                yield role, version


class Versions:
    """The versions of one worker; all but ``make`` is called in its event loop.

    Attributes:
        roster: which there are.
        comparer: scores some papers with two of them.
    """

    def __init__(
        self, settings: ServiceSettings, metrics: Metrics, journal: Journal | None, model: Model
    ) -> None:
        """Begin with one version.

        Args:
            settings: how to serve.
            metrics: of this worker.
            journal: of this worker; None if none is kept.
            model: the champion.

        Raises:
            IndexCorrupt, IndexIncompatible: the index cannot be used.
        """
        self._settings, self._metrics, self._journal = settings, metrics, journal
        self._is_started = False
        self.comparer = Comparer(metrics, journal)
        self.roster = Roster(champion=self.make(model))

    @property
    def champion(self) -> Version:
        """What answers what no other one does."""
        return self.roster.champion

    def make(self, model: Model) -> Version:
        """Return a version that can answer; called in any thread.

        Raises:
            IndexCorrupt, IndexIncompatible: the index cannot be used.
        """
        settings = self._settings
        index = open_index(settings, model.classifier.model)
        classifier, batcher = with_evidence(model.classifier, index), None
        if not model.is_linear:  # a linear one answers as requests come
            limits = BatchLimits(
                batch_tokens=settings.batch_tokens,
                queue_papers=settings.batch_queue,
                wait_s=settings.batch_wait_ms / 1000,
            )
            batcher = Batcher(classifier, limits, self._metrics)
        answerer = Answerer(
            classifier,
            settings,
            self._metrics,
            journal=self._journal,
            batcher=batcher,
            index=index,
        )
        version = Version(model, answerer)
        if self._is_started:
            begin(version)
        return version

    def start(self) -> None:
        """Let the versions answer."""
        for version in self.all():
            begin(version)
        self._is_started = True

    def switch(self, roster: Roster) -> None:
        """Answer with other versions from now on; those that are gone end with their requests."""
        before, self.roster = self.all(), roster
        labels = set(roster.champion.answerer.classifier.labels)
        for role, version in roster.by_role():
            version.role = role
            answerer = version.answerer
            answerer.pairing = self._pairing(role)
            answerer.label_change = set(answerer.classifier.labels) != labels
        kept = {id(version) for version in self.all()}
        for version in before:
            if id(version) not in kept:
                version.answerer.pairing = None  # or the two of a pair would keep each other
                version.release()

    def _pairing(self, role: Role) -> Pairing | None:
        """Return what the answers of a version in a role are compared with."""
        roster = self.roster
        if role == "challenger":
            self.comparer.start()
            return Pairing("canary", roster.champion, 100.0, self.comparer)
        if role == "champion" and roster.shadow is not None:
            self.comparer.start()
            return Pairing("shadow", roster.shadow, roster.shadow_percent, self.comparer)
        return None

    def all(self) -> list[Version]:
        """Return every loaded version, the champion first."""
        return [version for _, version in self.roster.by_role()]

    def find(self, digest: str) -> Version | None:
        """Return the loaded version of a bundle."""
        return next((one for one in self.all() if one.ref.digest == digest), None)

    def named(self, name: str, version: str | None = None) -> Version | None:
        """Return the loaded version of a name; of several, the first by role."""
        wanted = (one for one in self.all() if one.ref.name == name)
        return next((one for one in wanted if version in (None, one.ref.version)), None)

    def choose(self, holder: str) -> Version:
        """Return what answers a client: always the same while nothing changes.

        Args:
            holder: the client, see ``Exchange.holder``.
        """
        roster = self.roster
        challenger = roster.challenger
        if challenger is None or not roster.percent:
            return roster.champion
        is_chosen = in_share(holder, challenger.ref.digest, roster.percent)
        return challenger if is_chosen else roster.champion

    def publish(self) -> None:
        """Set the metrics of the queues of deep models."""
        backlogs = [one.answerer.batcher.backlog for one in self.all() if one.answerer.batcher]
        if backlogs:
            tokens = sum(backlog.waiting_size for backlog in backlogs)
            self._metrics.set_queue(sum(backlog.waiting for backlog in backlogs), tokens)

    def close(self) -> None:
        """Answer nothing more."""
        for version in self.all():
            if version.answerer.batcher is not None:
                version.answerer.batcher.close()


def begin(version: Version) -> None:
    """Let a version answer real papers once, so that nothing of it is touched for the first time.

    Raises:
        InvalidScores: its answers cannot be published.
    """
    version.model.warm_up()
    if version.answerer.batcher is not None:
        version.answerer.batcher.start([WARM_UP] * _TIMED_PAPERS)


@lru_cache(maxsize=8192)
def in_share(holder: str, salt: str, percent: float) -> bool:
    """Return whether a client is in a share of all; all workers and machines agree.

    A client that is in a share is in every larger one with the same salt.

    Args:
        holder: the client.
        salt: lets each candidate have other clients.
        percent: the share, 0..100.
    """
    digest = blake2b(f"{salt}\n{holder}".encode(), digest_size=_HASH_BITS // 8)
    return int.from_bytes(digest.digest()) < percent / 100 * (1 << _HASH_BITS)
