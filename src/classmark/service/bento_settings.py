"""Limits of a bento, set in the environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from classmark.errors import InvalidConfig
from classmark.service.settings import Count

BENTO_PREFIX = "CLASSMARK_BENTO_"


class BentoSettings(BaseSettings):
    """How BentoML serves; set by the environment only.

    BentoML's own ``--arg`` reaches a service in source code, and not one that was built.

    Attributes:
        workers: processes.
        batching: whether requests that wait are answered together.
        max_batch: maximum requests that are answered together.
        max_latency_ms: a request that would take longer gets 503; with batching only.
        max_concurrency: maximum requests in progress at once, of all workers; more get 429.
    """

    model_config = SettingsConfigDict(env_prefix=BENTO_PREFIX, frozen=True)

    workers: Count = 1
    batching: bool = True
    max_batch: Annotated[int, Field(ge=2)] = 64
    max_latency_ms: Count = 10_000
    max_concurrency: Count = 512


def make_bento_settings() -> BentoSettings:
    """Return the settings of a bento, from the environment.

    Raises:
        InvalidConfig: a value is invalid; names the variable and what it saw.
    """
    try:
        return BentoSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"{BENTO_PREFIX}{first['loc'][0]}".upper()
        raise InvalidConfig(f"{name} cannot be {first['input']!r}: {first['msg']}.") from error
