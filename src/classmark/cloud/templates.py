"""Requests as YAML in the package: ``${...}`` is filled in, entries are kept by a condition."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from string import Template
from typing import Any

_WHEN, _UNLESS = "when", "unless"


def filled_template(place: Traversable, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return the content of a YAML file with values filled in.

    An entry of a list with ``when: NAME`` is kept if that value is set, with ``unless`` if not; one
    that becomes a list is replaced by its entries. A text that is ``${NAME}`` alone becomes the
    value itself, whatever its type.

    Args:
        place: of the file.
        values: by their names.
    """
    import yaml

    return _fill(yaml.safe_load(place.read_text("utf-8")), values)


def _fill(value: Any, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - YAML has any type
    if isinstance(value, dict):
        return {
            name: _fill(item, values)
            for name, item in value.items()
            if name not in (_WHEN, _UNLESS)
        }
    if isinstance(value, list):
        filled = [_fill(item, values) for item in value if _is_kept(item, values)]
        return [one for item in filled for one in (item if isinstance(item, list) else [item])]
    return _fill_text(value, values) if isinstance(value, str) else value


def _fill_text(text: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 - of any type
    name = text[2:-1] if text.startswith("${") and text.endswith("}") else ""
    return values[name] if name in values else Template(text).substitute(values)


def _is_kept(item: Any, values: Mapping[str, Any]) -> bool:  # noqa: ANN401 - YAML has any type
    if not isinstance(item, dict):
        return True
    is_wanted = _WHEN not in item or bool(values[item[_WHEN]])
    return is_wanted and not (_UNLESS in item and values[item[_UNLESS]])
