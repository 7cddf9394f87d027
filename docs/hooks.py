"""What MkDocs cannot say in YAML: notes of a folder, notebooks, figures that follow the theme."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_IMAGES = Path(__file__).parent / "images"
_FIGURE = re.compile(r'<p>\s*<img [^>]*src="[^"]*/(path-[^"/]+\.svg)"[^>]*>\s*</p>')
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'


def on_config(config: Any) -> Any:
    """Append ``decisions/*.md`` and ``log.md``, as far as they exist, to the navigation."""
    docs = Path(config["docs_dir"])
    files = sorted((docs / "decisions").glob("*.md"))
    notes = [{_title(file): f"decisions/{file.name}"} for file in files]
    if notes:
        config["nav"].append({"Decisions": notes})
    if (docs / "log.md").is_file():
        config["nav"].append({"Log": "log.md"})
    return config


def _title(note: Path) -> str:
    """Return the title of a design note without its status and date, which follow wide space."""
    first, *_ = note.read_text(encoding="utf-8").splitlines()
    return first.removeprefix("# ").partition("  ")[0]


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook, with the outputs that it was saved with."""
    for path in sorted(Path(config["docs_dir"]).glob("notebooks/*.ipynb")):
        content = "\n\n".join(_blocks(path))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=content))
    return files


def _blocks(path: Path) -> Iterator[str]:
    """Yield the cells of a notebook and their outputs as Markdown."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source.replace(".ipynb)", ".md)")
            continue
        yield f"```python\n{source}\n```"
        for output in cell["outputs"]:
            yield _output(output)
    yield f"[This page as a notebook]({path.name}){{ download }}"


def _output(output: dict[str, Any]) -> str:
    """Return an output as Markdown: a figure, or what was printed."""
    svg = "".join(output.get("data", {}).get("image/svg+xml", ()))
    if not svg:
        return f"```text\n{''.join(output['text'])}```"
    label = re.search(r'aria-label="([^"]*)"', svg)
    alt = html.unescape(label[1]) if label else ""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(alt)}">'


def on_page_content(html: str, **_: Any) -> str:
    """Put figures into the page, so that they follow its switch between light and dark."""
    return _FIGURE.sub(lambda found: _inline(found[1]), html)


def _inline(name: str) -> str:
    svg = (_IMAGES / name).read_text(encoding="utf-8")
    # Without the declaration of its namespace, which HTML neither needs nor wants.
    return f'<div class="wide" tabindex="0">{svg.replace(_NAMESPACE, "")}</div>'
