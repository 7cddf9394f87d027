"""What a month of the service costs, roughly: quantities from assumptions, times list prices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from classmark.errors import UsageError
from classmark.records.fields import read_rules

PRICES_FILE = "cloud/prices.yaml"
DAYS, _DAY_S = 30, 86_400
_MONTH_S, _MONTH_H = DAYS * _DAY_S, DAYS * 24
_GIB = 2**30
_BILLED_S = 0.1
"""Cloud Run bills an instance's time in steps of this."""
_VCPUS, _MEMORY_GIB = 1, 2
POLICIES = 21
"""Policies that `classmark cloud alerts` makes."""
_SQL_VCPUS, _SQL_MEMORY_GIB = 1, 3.75


@dataclass(frozen=True, kw_only=True)
class Price:
    """A list price: of a cheap and of a dear region, and what is free each month.

    Attributes:
        unit: what is counted.
        low: of one unit, in a cheap region.
        high: of one unit, in a dear region.
        free: units of a month that are not billed.
    """

    unit: str
    low: float
    high: float
    free: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high or self.free < 0:
            raise UsageError(f"prices {self.low} to {self.high} of {self.unit} are not a range.")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """CPU time, from a committed report.

    Attributes:
        report: path in the repository.
        request_cpu_s: of a request with one paper.
        paper_cpu_s: of each further paper of a request.
    """

    report: str
    request_cpu_s: float
    paper_cpu_s: float


@dataclass(frozen=True, kw_only=True)
class ServicePrices:
    """The group ``service`` of the prices.

    Attributes:
        date: on which they were entered.
        currency: of all of them.
        measured: CPU time.
        prices: name of a line -> its price.
    """

    date: str
    currency: str
    measured: Measured
    prices: Mapping[str, Price]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the service is asked.

    Attributes:
        requests_per_day: on average.
        papers_per_request: on average, at least 1.
        min_instances: that are kept although nobody asks.
        retrain_per_year: new models.
        has_database: the journal is in Cloud SQL, not in the bucket.
    """

    requests_per_day: float
    papers_per_request: float = 1.0
    min_instances: int = 1
    retrain_per_year: float = 4.0
    has_database: bool = True

    def __post_init__(self) -> None:
        if self.papers_per_request < 1:
            raise UsageError(f"{self.papers_per_request} papers a request: give at least 1.")
        for name in ("requests_per_day", "min_instances", "retrain_per_year"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}. Give a number of at least 0.")

    @property
    def requests(self) -> float:
        """Requests of a month."""
        return self.requests_per_day * DAYS


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of an estimate.

    Attributes:
        name: of its price.
        low: cost a month.
        high: cost a month.
        units: quantity, low and high, before what is free.
        unit: what is counted.
        assumption: where the quantity comes from.
        is_free: nothing is billed because of what is free each month.
    """

    name: str
    low: float
    high: float
    units: tuple[float, float]
    unit: str
    assumption: str
    is_free: bool


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Costs of a month.

    Attributes:
        date: on which the prices were entered.
        currency: of all costs.
        lines: one a price.
        low: sum.
        high: sum.
        caution: what a reader must know.
    """

    date: str
    currency: str
    lines: tuple[Line, ...]
    low: float
    high: float
    caution: str


def read_prices() -> ServicePrices:
    """Return the prices of the package.

    Raises:
        UsageError: the file was changed so that it cannot be read.
    """
    import yaml

    content = (files("classmark.conf") / PRICES_FILE).read_text("utf-8")
    value: dict[str, Any] = yaml.safe_load(content)
    return read_rules(ServicePrices, value["service"], f"conf/{PRICES_FILE}", "They")


def estimate(load: Load, prices: ServicePrices | None = None) -> Estimate:
    """Return what a month costs.

    Args:
        load: what the service is asked.
        prices: those of the package if None.
    """
    known = prices or read_prices()
    lines = tuple(
        _line(name, known.prices[name], quantity)
        for name, quantity in _quantities(load, known.measured)
    )
    return Estimate(
        date=known.date,
        currency=known.currency,
        lines=lines,
        low=round(sum(line.low for line in lines), 2),
        high=round(sum(line.high for line in lines), 2),
        caution=f"approximate list prices, entered on {known.date}: check before relying on them",
    )


@dataclass(frozen=True)
class _Quantity:
    low: float
    high: float
    assumption: str


def _line(name: str, price: Price, quantity: _Quantity) -> Line:
    billed = [max(0.0, units - price.free) for units in (quantity.low, quantity.high)]
    return Line(
        name=name,
        low=round(billed[0] * price.low, 2),
        high=round(billed[1] * price.high, 2),
        units=(quantity.low, quantity.high),
        unit=price.unit,
        assumption=quantity.assumption,
        is_free=price.free > 0 and billed[1] == 0,
    )


def _quantities(load: Load, measured: Measured) -> Iterator[tuple[str, _Quantity]]:
    yield from _run(load, measured)
    yield from _kept(load)
    yield from _watched(load)
    hours = load.retrain_per_year / 12
    yield "retraining", _Quantity(hours, 4 * hours, "a new model takes 1 to 4 hours")


def _run(load: Load, measured: Measured) -> Iterator[tuple[str, _Quantity]]:
    """Yield what Cloud Run bills: instances that answer, and those that wait."""
    cpu_s = measured.request_cpu_s + (load.papers_per_request - 1) * measured.paper_cpu_s
    together, alone = load.requests * cpu_s, load.requests * _billed(cpu_s)
    # Requests that are billed alone overlap as soon as instances are busy half of the time.
    most = math.ceil(together / (_MONTH_S / 2)) * _MONTH_S
    high = max(together, min(alone, most))
    what = (
        f"{1000 * cpu_s:.2f} ms of CPU a request (measured); high: each request billed alone, "
        f"{1000 * _billed(cpu_s):.0f} ms"
    )
    yield "run-cpu", _Quantity(_VCPUS * together, _VCPUS * high, f"{what}; {_VCPUS} vCPU")
    memory = f"the same time, {_MEMORY_GIB} GiB"
    yield "run-memory", _Quantity(_MEMORY_GIB * together, _MEMORY_GIB * high, memory)
    millions = load.requests / 1e6
    yield "run-requests", _Quantity(millions, millions, "as asked")
    idle = load.min_instances * _MONTH_S
    kept = f"instances kept: {load.min_instances}; high: billed as if busy"
    yield "idle-cpu", _Quantity(_VCPUS * idle, _VCPUS * idle, kept)
    yield "idle-memory", _Quantity(_MEMORY_GIB * idle, _MEMORY_GIB * idle, kept)


def _billed(seconds: float) -> float:
    return math.ceil(round(seconds / _BILLED_S, 9)) * _BILLED_S


def _kept(load: Load) -> Iterator[tuple[str, _Quantity]]:
    """Yield what is kept: the database, the bucket, images."""
    if load.has_database:
        cpu, memory = _SQL_VCPUS * _MONTH_H, _SQL_MEMORY_GIB * _MONTH_H
        machine = "the smallest machine with a core of its own, always on"
        yield "sql-cpu", _Quantity(cpu, cpu, machine)
        yield "sql-memory", _Quantity(memory, memory, machine)
        yield "sql-storage", _Quantity(10, 50, "10 to 50 GiB of journal with its backups")
    yield "storage", _Quantity(5, 50, "datasets, runs, bundles, old versions: 5 to 50 GiB")
    yield "registry", _Quantity(1, 10, "images of 2 to 10 releases: 1 to 10 GiB")
    yield "secrets", _Quantity(3, 6, "3 secrets, during a rotation with 2 versions each")
    yield "scheduler", _Quantity(1, 3, "the look for drift, and up to 2 more")
    sent = [load.requests * size / _GIB for size in (500, 1500 * load.papers_per_request)]
    yield "egress", _Quantity(sent[0], sent[1], "answers of 0.5 kB a request to 1.5 kB a paper")


def _watched(load: Load) -> Iterator[tuple[str, _Quantity]]:
    """Yield what watching bills: lines of logs, samples, alerts, checks."""
    lines = [load.requests * size / _GIB for size in (300, 700)]
    yield "logging", _Quantity(lines[0], lines[1], "a line of 300 to 700 bytes a request")
    instances = max(1, load.min_instances)
    samples = [n * instances * _MONTH_S / every / 1e6 for n, every in ((300, 60), (1000, 30))]
    many = f"instances: {instances}; 300 series every 60 s to 1000 every 30 s"
    yield "samples", _Quantity(samples[0], samples[1], many)
    yield "alert-conditions", _Quantity(POLICIES, POLICIES, "low: as long as they are not billed")
    looks = POLICIES * _MONTH_S / 30 / 1e6
    yield (
        "alert-series",
        _Quantity(looks, looks, f"{POLICIES} policies look every 30 s, one series each"),
    )
    checks = 6 * _MONTH_S / 60 / 1000
    yield "uptime", _Quantity(checks, checks, "one check a minute from 6 places")
