"""What MkDocs cannot say in YAML: the design notes, figures in two themes, security.txt."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_IMAGES = Path(__file__).parent / "images"
_FIGURE = re.compile(r'<p>\s*<img [^>]*src="[^"]*/(path-[^"/]+\.svg)"[^>]*>\s*</p>')
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
_VALID = timedelta(days=365)


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
