"""The tree of errors is what its docstring shows, and every error belongs to a family."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import classmark
from classmark import errors
from classmark.errors import ClassmarkError, advice

FAMILIES = {
    errors.UsageError: 2,
    errors.NotFound: 1,
    errors.DamagedFile: 1,
    errors.Refused: 1,
    errors.Unavailable: 1,
    errors.Interrupted: 130,
}
OWN_CODES = {errors.CandidateRefused: 3, errors.DriftFound: 3}
"""A script tells a candidate that failed, or drift, from a check that could not be made."""


def tree(kind: type[ClassmarkError], depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, kind.__name__
    for child in kind.__subclasses__():
        yield from tree(child, depth + 1)


def own_errors() -> list[type[ClassmarkError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in kinds if issubclass(kind, ClassmarkError)]


def test_the_docstring_shows_the_tree_in_the_order_of_the_file() -> None:
    shown = [
        (len(found[1]) // 4 - 1, found[2])
        for line in (errors.__doc__ or "").splitlines()
        if (found := re.match(r"([ │├└─]*)([A-Z]\w+)(?:  |$)", line)) and line.startswith("    ")
    ]
    assert shown == list(tree(ClassmarkError))
    assert sorted(name for _, name in shown) == sorted(kind.__name__ for kind in own_errors())


def test_every_error_is_in_one_family_which_sets_its_exit_code() -> None:
    assert ClassmarkError.__subclasses__() == list(FAMILIES)
    for kind in own_errors():
        found = [family for family in FAMILIES if issubclass(kind, family)]
        assert kind is ClassmarkError or len(found) == 1
        assert kind.exit_code == OWN_CODES.get(kind, FAMILIES[found[0]] if found else 1)


def test_no_room_defines_an_error_outside_the_tree() -> None:
    for module in pkgutil.iter_modules(classmark.__path__):
        importlib.import_module(f"classmark.{module.name}")
    assert {name for _, name in tree(ClassmarkError)} == {kind.__name__ for kind in own_errors()}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(errors.BundleNotFound, "bundle_not_found"), (errors.NotFound, "not_found")],
)
def test_a_kind_is_the_name_of_the_class_in_lower_case(
    kind: type[ClassmarkError], name: str
) -> None:
    assert kind("it failed.").kind == name


def test_a_family_catches_its_errors() -> None:
    with pytest.raises(errors.DamagedFile):
        raise errors.WrongColumns("no title.", ["name"])
    with pytest.raises(errors.Unavailable):
        raise errors.MissingExtra("Training", "train")


def test_advice_recognises_a_missing_temporary_folder() -> None:
    error = OSError("No usable temporary directory found in ['/tmp']")
    assert advice(error, "Try again") == "Set TMPDIR to a folder that you can write to"
