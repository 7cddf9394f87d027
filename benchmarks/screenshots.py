"""Draws the pictures of docs/images and reports/figures from the running product: `make pictures`.

python benchmarks/screenshots.py [--output FOLDER] [--only page|evaluation|runs|...]

The web page comes from a really started server, the evaluation pages from two models that are
fitted on a seeded sample corpus with the commands that docs/path/05-evaluation.md shows, the
tracked runs from MLflow's page, the pipeline from docs/images/path-pipeline.svg, the bucket
from a store on this machine that DVC has pushed to, and the images from builds of this machine that
were pushed to a registry on it.

Needs Chromium (`make system-deps`), for the runs MLflow, for the bucket the environment of
`make test-dvc`, and for the images a container engine; what is absent is skipped. The fonts are
those of the machine, so the pictures differ a little from one machine to another.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, FloatRect, sync_playwright

from emulated_bucket import bucket_page
from emulated_builds import NoEngine, images_pages
from service import free_port, service, started

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


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Height of the upper part of a page that is drawn, in pixels.
REPORTS = {"evaluation-page": 985, "comparison-page": 930, "robustness-page": 1000}
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
    """Write the HTML page of each of ``REPORTS`` into a folder."""
    classmark(folder, "dataset", "sample", "--output", "data/sample", *SAMPLE)
    for name, options in MODELS.items():
        run = classmark(folder, "train", "dataset.path=data/sample", f"runs_dir={name}", *options)
        classmark(folder, "export", run, "--output", f"models/{name}")
    small, mine = (f"models/{name}" for name in MODELS)
    data = ("--dataset", "data/sample", "--html")
    classmark(folder, "evaluate", "--model", mine, *data, "evaluation-page.html")
    classmark(folder, "evaluate", "compare", small, mine, *data, "comparison-page.html")
    words = ("evaluate", "robustness", "--model", "fast", *data, "robustness-page.html")
    classmark(folder, *words)


def draw_reports(browser: Browser, folder: Path) -> Iterator[Path]:
    """Write the upper parts of the evaluation pages."""
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


RUNS: tuple[tuple[str, ...], ...] = (
    (),
    ("model.rate=0.05",),
    ("model.epochs=8",),
    ("model.max_features=2000",),
)
RUNS_SAMPLE = ("--papers", "6000", "--seed", "7")
_PATIENCE_MS = 60_000


@contextmanager
def tracked_runs(folder: Path) -> Iterator[str]:
    """Fit some models that MLflow tracks; yield the address of its page."""
    classmark(folder, "dataset", "sample", "--output", "data", *RUNS_SAMPLE)
    for options in RUNS:
        classmark(folder, "train", "dataset.path=data", "tracker=mlflow", *options)
    port = str(free_port())
    command = [sys.executable, "-m", "classmark", "runs", "open", "--runs-dir"]
    command += [str(folder / "runs"), "--no-browser", "--port", port]
    with started(command, f"http://127.0.0.1:{port}/health", folder):
        yield f"http://127.0.0.1:{port}"


def draw_runs(browser: Browser, folder: Path) -> Iterator[Path]:
    """Write MLflow's charts of all runs, and its overview of the newest."""
    with tempfile.TemporaryDirectory() as made, tracked_runs(Path(made)) as url:
        page = browser.new_page(viewport={"width": 1620, "height": 1140}, color_scheme="light")
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(f"{url}/#/experiments/1/runs?compareRunsMode=CHART")
        page.locator(".js-plotly-plot").nth(1).wait_for()
        newest = page.locator("a[href*='/experiments/1/runs/']").first.get_attribute("href")
        # Without what is beside the runs: the menu, and an assistant that belongs to MLflow.
        clip: FloatRect = {"x": 196, "y": 0, "width": 1003, "height": 1140}
        page.screenshot(path=folder / "runs.png", clip=clip, animations="disabled")
        yield folder / "runs.png"
        page.goto(f"{url}/{newest}")
        page.get_by_text("dataset_digest").wait_for()
        page.screenshot(path=folder / "run.png", clip=clip, animations="disabled")
        yield folder / "run.png"
        page.close()


def draw_pipeline(browser: Browser, folder: Path) -> Iterator[Path]:
    """Write the figure of the pipeline as a picture."""
    page = browser.new_page(viewport={"width": 720, "height": 450}, device_scale_factor=2)
    page.goto((ROOT / "docs" / "images" / "path-pipeline.svg").as_uri())
    path = folder / "pipeline.png"
    page.locator("svg").screenshot(path=path)
    page.close()
    yield path


def draw_bucket(browser: Browser, folder: Path) -> Iterator[Path]:
    """Write what a bucket holds once DVC has pushed papers, dataset, run, bundle and results."""
    with tempfile.TemporaryDirectory() as made:
        work = Path(made) / "papers"
        work.mkdir()
        yield draw_table(browser, bucket_page(work), folder)


def draw_images(browser: Browser, folder: Path) -> Iterator[Path]:
    """Write what a registry holds after builds, and the builds."""
    with tempfile.TemporaryDirectory() as made:
        for page in images_pages(Path(made)):
            yield draw_table(browser, page, folder)


def draw_table(browser: Browser, table: Path, folder: Path) -> Path:
    """Write the picture of a page with a table, and return its path."""
    page = browser.new_page(viewport={"width": 800, "height": 100}, color_scheme="light")
    page.goto(table.as_uri())
    path = folder / f"{table.stem}.png"
    page.screenshot(path=path, full_page=True)
    page.close()
    return path


DOCS, REPORT = "docs/images", "reports/figures"
DRAWN: dict[str, tuple[Callable[[Browser, Path], Iterator[Path]], str]] = {
    "page": (draw_pages, DOCS),
    "evaluation": (draw_reports, DOCS),
    "runs": (draw_runs, REPORT),
    "pipeline": (draw_pipeline, REPORT),
    "bucket": (draw_bucket, REPORT),
    "images": (draw_images, REPORT),
}


# What a drawing needs, and where that is installed.
NEEDS = {
    "runs": ("mlflow", "make pictures DEEP=yes"),
    "bucket": ("gcp_storage_emulator", "make test-dvc makes .venv-dvc, whose Python draws it"),
}


def browser_path() -> str | None:
    """Return the program of a browser that Playwright can drive; None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def main() -> None:
    """Write the pictures, and fail if one is too large for a README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT, help="holds docs/ and reports/")
    parser.add_argument("--only", choices=DRAWN, help="leave the other pictures as they are")
    arguments = parser.parse_args()
    program = browser_path()
    if program is None:
        print(f"skipped: none of {', '.join(BROWSERS)} is installed. Run: make system-deps")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)
        for name, (drawing, place) in DRAWN.items():
            if arguments.only not in (None, name):
                continue
            package, hint = NEEDS.get(name, ("playwright", ""))
            if find_spec(package) is None:
                print(f"skipped: {name}. The package {package} is not installed: {hint}")
                continue
            folder = arguments.output / place
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for path in drawing(browser, folder):
                    check_size(path)
            except NoEngine as error:
                print(f"skipped: {name}. {error}")
        browser.close()


def check_size(path: Path) -> None:
    """Print the size of a picture, and end if it is too large for a README."""
    size = path.stat().st_size
    print(f"{path}  {size:,} bytes")
    if size > MAX_BYTES:
        sys.exit(f"{path} is larger than {MAX_BYTES:,} bytes. Draw it smaller.")


if __name__ == "__main__":
    main()
