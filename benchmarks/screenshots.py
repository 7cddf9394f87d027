"""Draws the pictures of the web page and of the evaluation pages for README and docs.

python benchmarks/screenshots.py [--output docs/images] [--only page|evaluation]

The web page comes from a really started server, the evaluation pages from two models that are
fitted on a seeded sample corpus, with the commands that docs/path/05-evaluation.md shows.

Needs the packages of `make test` and Chromium (`make system-deps`). The fonts are those of the
machine, so the pictures differ a little from one machine to another.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from service import service

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


# Height of the upper part of a page that is drawn, in pixels.
REPORTS = {"evaluation-page": 985, "comparison-page": 930}
REPORT_WIDTH = 1040
SAMPLE = ("--papers", "20000", "--seed", "7")
MODELS: dict[str, tuple[str, ...]] = {
    "small-1.0": ("model.max_features=2000",),
    "mine-1.0": (),
}


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


def classmark(folder: Path, *words: str) -> str:
    """Run a command in a folder and return the last line that it prints."""
    command = [sys.executable, "-m", "classmark", *words]
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout.splitlines()[-1]


def make_reports(folder: Path) -> None:
    """Write ``evaluation-page.html`` and ``comparison-page.html`` into a folder."""
    classmark(folder, "dataset", "sample", "--output", "data/sample", *SAMPLE)
    for name, options in MODELS.items():
        run = classmark(folder, "train", "dataset.path=data/sample", f"runs_dir={name}", *options)
        classmark(folder, "export", run, "--output", f"models/{name}")
    small, mine = (f"models/{name}" for name in MODELS)
    data = ("--dataset", "data/sample", "--html")
    classmark(folder, "evaluate", "--model", mine, *data, "evaluation-page.html")
    classmark(folder, "evaluate", "compare", small, mine, *data, "comparison-page.html")


def draw_reports(browser: Browser, folder: Path) -> Iterator[Path]:
    """Write the upper parts of both evaluation pages."""
    with tempfile.TemporaryDirectory() as made:
        make_reports(Path(made))
        for name, height in REPORTS.items():
            page = browser.new_page(
                viewport={"width": REPORT_WIDTH, "height": height}, color_scheme="light"
            )
            page.goto((Path(made) / f"{name}.html").as_uri())
            path = folder / f"{name}.png"
            page.screenshot(path=path)
            page.close()
            yield path


def draw_pages(browser: Browser, folder: Path) -> Iterator[Path]:
    """Write the pictures of the web page."""
    with (
        tempfile.TemporaryDirectory() as home,
        service(Path(home) / "home", "--workers", "1") as (url, _, _),
    ):
        for name, options in PICTURES.items():
            path = folder / f"{name}.png"
            draw(browser, url, path, options)
            yield path


DRAWN = {"page": draw_pages, "evaluation": draw_reports}


def main() -> None:
    """Write the pictures, and fail if one is too large for a README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", choices=DRAWN, help="leave the other pictures as they are")
    arguments = parser.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS
        )
        for name, drawing in DRAWN.items():
            for path in drawing(browser, folder) if arguments.only in (None, name) else ():
                print(f"{path}  {path.stat().st_size:,} bytes")
                if path.stat().st_size > MAX_BYTES:
                    sys.exit(f"{path} is larger than {MAX_BYTES:,} bytes. Draw it smaller.")
        browser.close()


if __name__ == "__main__":
    main()
