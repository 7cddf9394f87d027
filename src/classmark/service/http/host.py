"""What a process that answers has, whatever its endpoints: the service, and the monitor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from classmark.errors import Overloaded
from classmark.service.logs import AccessLog, level_number, set_up_logs
from classmark.service.requests.admission import Admission

if TYPE_CHECKING:
    from classmark.service.memory import Place
    from classmark.service.metrics import Metrics
    from classmark.service.requests.exchange import Exchange
    from classmark.service.requests.tracing import Tracer
    from classmark.service.settings import ServiceSettings
    from classmark.wire import ModelRef


class Traffic:
    """The requests that a worker has in work, and whether it wants more.

    Attributes:
        in_work: requests that are here as a whole and being answered.
        hang_ups: this many of the next responses end their connection, see ``worker.surplus``.
        is_ready: warmed up and not asked to stop.
        is_stopping: asked to stop; connections are not kept.
    """

    def __init__(self, most_in_work: int) -> None:
        self._most_in_work = most_in_work
        self.in_work = self.hang_ups = 0
        self.is_ready = self.is_stopping = False

    def begin(self, exchange: Exchange) -> None:
        """Count a request that is here as a whole, until its answer is sent.

        Raises:
            Overloaded: too many are in work.
        """
        if self.in_work >= self._most_in_work:
            raise Overloaded("too many requests are in progress")
        self.in_work += 1
        exchange.is_in_work = True

    def stop(self) -> None:
        """Stop being ready; requests that come anyway are still answered."""
        self.is_ready = False
        self.is_stopping = True

    def ends_connection(self) -> bool:
        """Return whether the connection of the next response ends with it."""
        if self.is_stopping:
            return True
        ends = self.hang_ups > 0
        self.hang_ups -= ends
        return ends


class Host(ABC):
    """What a gateway guards: the parts of a process that answers, whatever its endpoints.

    Attributes:
        settings: limits, keys and log.
        metrics: count every request.
        admission: lets requests in.
        traffic: requests in work, and whether more are wanted.
        access_log: None if requests are not logged.
        tracer: None if no traces are sent.
    """

    def __init__(
        self, settings: ServiceSettings, metrics: Metrics, place: Place | None = None
    ) -> None:
        """Prepare it.

        Args:
            settings: how to serve.
            metrics: of this process.
            place: among the workers of a tree; None for one process alone.

        Raises:
            InvalidKeys: the file of API keys cannot be read.
            StorageFailed: the file of the log cannot be opened.
        """
        self.settings, self.metrics = settings, metrics
        self.admission = Admission(settings, metrics, place)
        self.traffic = Traffic(settings.max_concurrency)
        self.access_log = _open_access_log(settings)
        self.tracer: Tracer | None = None

    @abstractmethod
    def answered_by(self, exchange: Exchange) -> ModelRef:
        """Return the model that the response names."""

    def note_version(  # noqa: B027 - a process of one version has nothing to count
        self, exchange: Exchange, status: int, seconds: float
    ) -> None:
        """Count a request for the version that answered it, if there are several."""

    def reload(self, settings: ServiceSettings) -> None:
        """Read the keys again, and take the settings of the log, whose file is reopened.

        Raises:
            StorageFailed: the log file cannot be opened. The log continues where it was.
        """
        self.admission.reload()
        access_log = _open_access_log(settings)
        set_up_logs(file=settings.log_file, level=settings.log_level)
        self.settings, old = settings, self.access_log
        self.access_log = access_log
        if old is not None:
            old.close()

    def publish(self) -> None:
        """Write the waiting log lines and update the gauges; called often and at the end."""
        if self.access_log is not None:
            self.access_log.flush()
        self.metrics.set("classmark_requests_in_work", self.traffic.in_work)
        self.metrics.set_process()


def _open_access_log(settings: ServiceSettings) -> AccessLog | None:
    """Return what logs requests, None if they are not logged.

    Raises:
        StorageFailed: the file of the log cannot be opened.
    """
    if not settings.access_log:
        return None
    return AccessLog(settings.log_file, level_number(settings.log_level))
