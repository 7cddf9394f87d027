"""What a job may cost: a price an hour from data, times its longest time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from classmark.cloud.cost import PRICES_FILE
from classmark.cloud.training.job import Job
from classmark.cloud.training.vertex import machine_type
from classmark.errors import CloudRefused, UsageError
from classmark.records.fields import read_rules

CAUTION = "approximate list price, check before relying on it"


@dataclass(frozen=True, kw_only=True)
class Hourly:
    """Price of an hour, in a cheap and in a dear region.

    Attributes:
        low: in a cheap one.
        high: in a dear one.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise UsageError(f"prices {self.low} to {self.high} of an hour are not a range.")


@dataclass(frozen=True, kw_only=True)
class TrainingPrices:
    """The group ``training`` of the prices.

    Attributes:
        date: on which they were entered.
        currency: of all of them.
        machines: engine, then machine type, then ``standard`` or ``spot``.
    """

    date: str
    currency: str
    machines: Mapping[str, Mapping[str, Mapping[str, Hourly]]]


@dataclass(frozen=True, kw_only=True)
class PriceRange:
    """What a job costs if it runs for all of its time.

    Attributes:
        low: in a cheap region.
        high: in a dear region.
        currency: of both.
        date: of the prices.
        caution: what a reader must know.
    """

    low: float
    high: float
    currency: str
    date: str
    caution: str = CAUTION

    def __str__(self) -> str:
        return (
            f"{self.low:.2f} to {self.high:.2f} {self.currency} if it takes all of its time "
            f"({self.caution}; entered on {self.date})"
        )


def read_training_prices() -> TrainingPrices:
    """Return the prices of the package.

    Raises:
        UsageError: the file was changed so that it cannot be read.
    """
    import yaml

    value: dict[str, Any] = yaml.safe_load(
        (files("classmark.conf") / PRICES_FILE).read_text("utf-8")
    )
    return read_rules(TrainingPrices, value["training"], f"conf/{PRICES_FILE}", "They")


def price_of(job: Job) -> PriceRange:
    """Return what a job costs if it runs until its time is over."""
    known = read_training_prices()
    kind = "spot" if job.is_spot else "standard"
    hourly = known.machines[job.engine][machine_type(job.machine)][kind]
    return PriceRange(
        low=round(hourly.low * job.hours, 2),
        high=round(hourly.high * job.hours, 2),
        currency=known.currency,
        date=known.date,
    )


def check_budget(price: PriceRange, budget: float | None) -> None:
    """Refuse a job that may cost more than is allowed.

    Raises:
        CloudRefused: its high price is above the budget.
    """
    if budget is not None and price.high > budget:
        raise CloudRefused(
            f"the job costs {price}, the budget is {budget:g} {price.currency}. Nothing was "
            "submitted: lower --timeout, take --spot or another --machine, or raise --budget."
        )
