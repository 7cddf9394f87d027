"""Draws the pictures of the web page for README and docs, from a really started server.

python benchmarks/screenshots.py [--output docs/images]

Needs the packages of `make test` and Chromium (`make system-deps`). The fonts are those of the
machine, so the pictures differ a little from one machine to another.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
MAX_BYTES = 300_000
EXAMPLE = 1
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
PICTURES: dict[str, dict[str, Any]] = {
    "page-light": {**DESKTOP, "color_scheme": "light"},
    "page-dark": {**DESKTOP, "color_scheme": "dark"},
    "page-phone": {**PHONE, "color_scheme": "light", "is_mobile": True},
}
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def serving() -> Iterator[str]:
    """Yield the address of a server with the default model and a home of its own."""
    command = [sys.executable, "-m", "classmark", "serve", "--port", "0", "--workers", "1"]
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "CLASSMARK_HOME": home},
        )
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = re.search(r"http://\S+:\d+", line)
            if found is None:
                sys.exit(f"the server did not start: {line!r}. Run `classmark serve` to see why.")
            yield found[0]
        finally:
            process.terminate()
            process.wait()


def draw(browser: Browser, url: str, path: Path, options: dict[str, Any]) -> None:
    """Write the picture of the page with the answer to an example."""
    context = browser.new_context(reduced_motion="reduce", **options)
    page = context.new_page()
    page.goto(url)
    page.locator("#examples button").nth(EXAMPLE).click()
    page.locator(".answer").wait_for()
    page.mouse.move(0, 0)
    page.screenshot(path=path, animations="disabled")
    context.close()


def main() -> None:
    """Write every picture, and fail if one is too large for a README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    with serving() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS
        )
        for name, options in PICTURES.items():
            path = folder / f"{name}.png"
            draw(browser, url, path, options)
            print(f"{path}  {path.stat().st_size:,} bytes")
            if path.stat().st_size > MAX_BYTES:
                sys.exit(f"{path} is larger than {MAX_BYTES:,} bytes. Draw it smaller.")
        browser.close()


if __name__ == "__main__":
    main()
