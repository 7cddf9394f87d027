"""Texts of XML elements, whatever their namespaces."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any
from xml.etree.ElementTree import Element

from classmark.papers.markup import TAGS

Values = dict[str, Any]
"""Fields of a paper."""
Reader = Callable[[Element], Values]


def local_name(tag: str) -> str:
    """Return the name in a tag without its namespace."""
    return tag.rpartition("}")[2]


def text_at(element: Element, *paths: str) -> str:
    """Return the text at the first path that has one, "" if none has."""
    return next((text for path in paths for text in texts_at(element, path)), "")


def texts_at(element: Element, path: str) -> list[str]:
    """Return the texts at a path, without empty ones and blanks around."""
    return list(filter(None, (inner_text(found).strip() for found in elements_at(element, path))))


def elements_at(element: Element, path: str) -> list[Element]:
    """Return the elements at a path, whatever their namespaces."""
    return element.findall(_in_any_namespace(path))


@cache
def _in_any_namespace(path: str) -> str:
    return "/".join(step if step in ("", ".", "*") else f"{{*}}{step}" for step in path.split("/"))


def inner_text(element: Element) -> str:
    """Return the text of an element; markup in it is spelled out, for all sources alike.

    Unknown tags, such as the fonts of EndNote, are left out.
    """
    parts = [element.text or ""]
    for child in element:
        name, inner = local_name(child.tag), inner_text(child)
        encoding = child.get("encoding")  # tells the TeX in MathML
        attribute = f' encoding="{encoding}"' if encoding == "application/x-tex" else ""
        parts.append(f"<{name}{attribute}>{inner}</{name}>" if name.lower() in TAGS else inner)
        parts.append(child.tail or "")
    return "".join(parts)
