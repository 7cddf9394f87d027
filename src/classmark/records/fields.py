"""Reads JSON and YAML objects as dataclasses: every value is checked against its field's type."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from classmark.errors import InvalidConfig, InvalidReport, MissingExtra, UsageError

if TYPE_CHECKING:
    from yaml import Node

_Record = TypeVar("_Record")

_WORDS: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a text"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    Path: ((str,), "a path"),
}
_SHOWN_CHARS = 60


class WrongField(Exception):
    """What is wrong with a field of an object.

    Attributes:
        name: of the field, with dots; "" for the object itself.
        value: what it holds.
        wanted: what it must be, in words.
    """

    def __init__(
        self, name: str = "", value: Any = None, wanted: str = "", problem: str = ""
    ) -> None:
        self.name, self.value, self.wanted = name, value, wanted
        subject = f"{name!r} is" if name else "it holds"
        super().__init__(problem or f"{subject} {_shown(value)}, it must be {wanted}")


class UnknownField(WrongField):
    """The record has no such field."""

    def __init__(self, name: str) -> None:
        super().__init__(name, problem=f"{name!r} is not a field")


class MissingField(WrongField):
    """The object lacks a field that has no default."""

    def __init__(self, name: str) -> None:
        super().__init__(name, problem=f"{name!r} is missing")


def read_fields(
    record: type[_Record],
    value: Mapping[str, Any],
    where: str = "",
    *,
    is_strict: bool = True,
    **given: object,
) -> _Record:
    """Return a record from a JSON object.

    Args:
        record: a dataclass.
        value: the object.
        where: what precedes its names in messages, e.g. ``model.``.
        is_strict: refuse fields that the record does not have.
        **given: fields that were read already.

    Raises:
        UnknownField, MissingField: names the field.
        WrongField: a value is of another type.
    """
    hints, known = get_type_hints(record), {f.name: f for f in fields(record)}  # type: ignore[arg-type]
    unknown = sorted(value.keys() - known.keys())
    if unknown and is_strict:
        raise UnknownField(where + unknown[0])
    read = dict(given)
    for name, described in known.items():
        if name in value and name not in given:
            read[name] = read_value(hints[name], value[name], where + name)
        elif name not in given and described.default is described.default_factory is MISSING:
            raise MissingField(where + name)
    return record(**read)


def read_value(hint: Any, value: Any, where: str) -> Any:
    """Return a value in the type of its field; ``where`` is the field's name.

    Raises:
        WrongField: it is of another type.
    """
    choices, origin = get_args(hint), get_origin(hint)
    if hint is Any:
        return value
    if NoneType in choices:
        return _read_optional(choices[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise WrongField(where, value, "a list")
        return tuple(read_value(choices[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if _is_struct(hint) or origin in (dict, Mapping) or is_dataclass(hint):
        return _read_object(hint, value, where)
    return _read_plain(hint, value, where)


def _read_object(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise WrongField(where, value, "a group of keys")
    if choices := get_args(hint):
        return {k: read_value(choices[1], v, f"{where}.{k}") for k, v in value.items()}
    if not _is_struct(hint):
        return read_fields(hint, value, where + ".")
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        raise WrongField(where, problem=f"{where!r}: {error}") from error


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _read_optional(hint: Any, value: Any, where: str) -> Any:
    if value is None:
        return None
    try:
        return read_value(hint, value, where)
    except WrongField as error:
        if error.name == where and error.wanted:
            raise WrongField(where, value, f"{error.wanted} or null") from error
        raise


def _read_plain(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) is Literal:
        is_right, words = value in get_args(hint), " or ".join(get_args(hint))
    else:
        types, words = _WORDS[hint]
        # By type, because a bool is an int to Python.
        is_right = type(value) in types
    # Python's JSON knows NaN and Infinity, and 1e999 is one.
    if not is_right or (hint is float and not abs(value) <= sys.float_info.max):
        raise WrongField(where, value, words)
    return hint(value) if hint in (float, Path) else value


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def read_report(
    cls: type[_Record], value: Mapping[str, Any], version: int, command: str
) -> _Record:
    """Return the report that a JSON object holds; who measured it where is left out.

    Args:
        cls: of the report.
        value: the object.
        version: format that this classmark reads.
        command: that writes such a report, for messages.

    Raises:
        InvalidReport: another format version, or a key is missing or unknown.
    """
    if value.get("format_version") != version:
        raise InvalidReport(
            f"report format version is {value.get('format_version')!r}, this classmark reads "
            f"{version}. Write it again with `{command}`."
        )
    try:
        return read_fields(cls, {k: v for k, v in value.items() if k != "provenance"})
    except WrongField as error:
        raise InvalidReport(
            f"the report is not of format {version}: {error}. Write it again with `{command}`."
        ) from error


def read_group(composed: Mapping[str, Any], name: str, documented: type) -> dict[str, Any]:
    """Return a group of keys of a composed configuration, whose values are not checked yet.

    Args:
        composed: the configuration.
        name: of the group.
        documented: the dataclass whose fields are the keys.

    Raises:
        InvalidConfig: it is not a group, or a key is unknown or missing.
    """
    given = composed.get(name)
    if not isinstance(given, dict):
        raise InvalidConfig(f"{name} must be a group of keys, got {given!r}.")
    known = {field.name for field in fields(documented)}
    for key in sorted(known ^ set(given)):
        problem = "missing" if key in known else "unknown"
        raise InvalidConfig(f"{name}.{key} is {problem}. It knows {', '.join(sorted(known))}.")
    return given


def read_rules(
    record: type[_Record], value: Mapping[str, Any], what: str, they: str = "It"
) -> _Record:
    """Return rules as YAML or JSON has them; what is left out has its default.

    Args:
        record: a dataclass.
        value: the object.
        what: the rules, in messages.
        they: pronoun for them.

    Raises:
        UsageError: a name is unknown, or a value cannot be used.
    """
    try:
        return read_fields(record, dict(value))
    except WrongField as error:
        names = ", ".join(field.name for field in fields(record))  # type: ignore[arg-type]
        raise UsageError(f"{what}: {error}. {they} may have {names}.") from error


def check_ranges(record: object, ranges: Mapping[str, tuple[float, float]], what: str) -> None:
    """Check that numbers of a record are within their bounds; None is not checked.

    Args:
        record: has the fields.
        ranges: name of a field -> least and greatest value.
        what: the record, after "of", in messages.

    Raises:
        UsageError: one is out of bounds, or not a number.
    """
    for name, (least, most) in ranges.items():
        value = getattr(record, name)
        if value is not None and not least <= value <= most:
            raise UsageError(
                f"{name} of {what} is {value:g}. Give a number from {least:g} to {most:g}."
            )


class RepeatedKey(ValueError):
    """A key of YAML is there twice.

    Attributes:
        key: which one.
    """

    def __init__(self, key: str, line: str) -> None:
        super().__init__(f"the key {key!r} is repeated{line}")
        self.key = key


def parse_yaml(text: str, purpose: str, extra: str) -> object:
    """Return what a YAML text says, read strictly.

    Args:
        text: of the file.
        purpose: what is read, for the error that names the extra.
        extra: that brings the package which reads YAML.

    Raises:
        MissingExtra: the package is not installed.
        RecursionError: it is nested too deeply.
        RepeatedKey: a key is there twice.
        ValueError: it is not YAML, or has an alias.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra(purpose, extra) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _refuse_twins(root, set())
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {error}") from error


def _refuse_twins(node: Node, seen: set[int]) -> None:
    """Refuse repeated keys, and aliases, which can mean any number of keys."""
    if id(node) in seen:
        raise ValueError(f"it has an alias{_line(node)}; write the value out")
    seen.add(id(node))
    value: Any = node.value
    if not isinstance(value, list):
        return
    pairs = [item for item in value if isinstance(item, tuple)]
    keys = [key.value for key, _ in pairs if isinstance(key.value, str)]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise RepeatedKey(key, _line(pairs[place][0]))
    for item in value:
        for inner in item if isinstance(item, tuple) else (item,):
            _refuse_twins(inner, seen)


def _line(node: Node) -> str:
    return f" (line {node.start_mark.line + 1})"
