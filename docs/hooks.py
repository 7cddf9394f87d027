"""What MkDocs cannot say in YAML: notebooks, figures in two themes, security.txt."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_IMAGES = Path(__file__).parent / "images"
_FIGURE = re.compile(r'<p>\s*<img [^>]*src="[^"]*/(path-[^"/]+\.svg)"[^>]*>\s*</p>')
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
_VALID = timedelta(days=365)


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


def on_post_build(config: Any) -> None:
    """Write ``.well-known/security.txt`` (RFC 9116) where the site belongs to a repository.

    Its address is that of the repository that a workflow publishes, so a fork names itself.
    """
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository:
        return
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    expires = (datetime.now(UTC) + _VALID).replace(microsecond=0)
    lines = (
        f"Contact: {server}/{repository}/security/advisories/new",
        f"Expires: {expires.isoformat().replace('+00:00', 'Z')}",
        "Preferred-Languages: en",
        f"Policy: {server}/{repository}/blob/main/SECURITY.md",
    )
    path = Path(config["site_dir"]) / ".well-known" / "security.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
