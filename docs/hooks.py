"""What MkDocs cannot say in YAML: figures that follow the theme."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_IMAGES = Path(__file__).parent / "images"
_FIGURE = re.compile(r'<p>\s*<img [^>]*src="[^"]*/(path-[^"/]+\.svg)"[^>]*>\s*</p>')
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'


def on_page_content(html: str, **_: Any) -> str:
    """Put figures into the page, so that they follow its switch between light and dark."""
    return _FIGURE.sub(lambda found: _inline(found[1]), html)


def _inline(name: str) -> str:
    svg = (_IMAGES / name).read_text(encoding="utf-8")
    # Without the declaration of its namespace, which HTML neither needs nor wants.
    return f'<div class="wide" tabindex="0">{svg.replace(_NAMESPACE, "")}</div>'
