"""The engine and the images that tests of this folder share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from images import Engine, NoEngine, build, engine, ensure_base


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    try:
        with engine() as found:
            ensure_base(found)
            yield found
    except NoEngine as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def image(docker: Engine) -> Callable[[str], str]:
    """Return the tag of an image, which is built when it is first asked for."""
    built: dict[str, str] = {}

    def of(target: str) -> str:
        if target not in built:
            built[target] = build(docker, target, quiet=True)
        return built[target]

    return of
