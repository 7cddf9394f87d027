"""Pages on classes and functions, written from their signatures and docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe

_SOURCE = Path(__file__).parents[1] / "src"
_LITERAL = re.compile(r"``([^`]+)``")
_WIDTH = 88
_TITLES = {"parameters": "Arguments", "attributes": "Attributes", "raises": "Raises"}


def describe(path: str, level: int = 2, members: tuple[str, ...] | None = None) -> str:
    """Return Markdown on a module, class or function.

    Args:
        path: its full name.
        level: of its heading, or of the headings in a module.
        members: of a class, by name; None: all that are public.
    """
    found = _load(path)
    if not found.is_module:
        return "\n\n".join(_object(found, level, members))
    parts = [
        part
        for member in _in_source_order(found)
        if _is_public(member) and (member.is_class or member.is_function)
        for part in _object(member, level, None)
    ]
    return "\n\n".join(parts)


@cache
def _package() -> Any:
    return griffe.load("classmark", search_paths=[_SOURCE])


def _load(path: str) -> Any:
    found = _package()[path.removeprefix("classmark.")]
    return found.final_target if found.is_alias else found


def _object(found: Any, level: int, members: tuple[str, ...] | None) -> Iterator[str]:
    name = f"{found.parent.name}.{found.name}" if found.parent.is_class else found.name
    yield f'<a id="{found.path}"></a>\n\n{"#" * level} `{name}`'
    if "property" not in found.labels:
        yield f"```python\n{_signature(found)}\n```"
    yield from _docstring(found)
    if not found.is_class:
        return
    for member in _in_source_order(found):
        wanted = _is_public(member) if members is None else member.name in members
        if wanted and member.docstring and (member.is_function or "property" in member.labels):
            yield from _object(member, level + 1, None)


def _in_source_order(found: Any) -> list[Any]:
    own = [member for member in found.members.values() if not member.is_alias]
    return sorted(own, key=lambda member: member.lineno or 0)


def _is_public(member: Any) -> bool:
    return not member.name.startswith("_")


def _signature(found: Any) -> str:
    """Return a signature, an argument a line where it is long."""
    if found.is_class and not found.parameters:
        fields = list(_fields(found))
        if fields:
            return f"{found.name}(\n" + "".join(f"    {one},\n" for one in fields) + ")"
        bases = ", ".join(str(base) for base in found.bases)
        return f"class {found.name}({bases})" if bases else f"class {found.name}"
    text = str(found.signature())
    if len(text) <= _WIDTH:
        return text
    head, _, rest = text.partition("(")
    inside, _, end = rest.rpartition(")")
    arguments = re.split(r", (?![^\[(]*[\])])", inside)
    return f"{head}(\n" + "".join(f"    {one},\n" for one in arguments) + f"){end}"


def _fields(found: Any) -> Iterator[str]:
    """Yield the fields of a class that msgspec gives a constructor."""
    for member in _in_source_order(found):
        if member.is_attribute and "property" not in member.labels and member.annotation:
            default = f" = {member.value}" if member.value else ""
            yield f"{member.name}: {member.annotation}{default}"


def _docstring(found: Any) -> Iterator[str]:
    if not found.docstring:
        return
    for section in found.docstring.parse("google", warnings=False):
        kind = section.kind.value
        if kind == "text":
            yield _words(section.value)
        elif kind in _TITLES:
            yield f"**{_TITLES[kind]}**"
            yield "\n".join(_item(item, kind) for item in section.value)


def _item(item: Any, kind: str) -> str:
    name = item.annotation if kind == "raises" else item.name
    return f"- `{name}`: {' '.join(_words(item.description).split())}"


def _words(text: str) -> str:
    return _LITERAL.sub(r"`\1`", text)
