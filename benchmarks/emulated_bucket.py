"""A bucket on this machine that speaks the protocol of Google Cloud Storage, and a picture of it.

It holds what it is given in memory, and of each file the newest version only. Needs the dependency
group ``bucket``; the picture also needs the extra ``dvc``.
"""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

NAME = "papers"
_SERVER = f"""
import threading
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket={NAME!r})
server.start()
print(server._api._httpd.server_address[1], flush=True)
threading.Event().wait()
"""
_COMMANDS = f"""
git init --quiet
dvc init --quiet
dvc remote add --quiet --default bucket gs://{NAME}/classmark
dvc remote modify bucket allow_anonymous_login true
dvc remote modify bucket version_aware true
classmark dataset sample --papers 3000 --csv papers.csv
dvc add --quiet papers.csv
classmark pipeline init papers=[papers.csv]
dvc repro --quiet
dvc push --quiet
"""
_STYLE = "body{font:14px sans-serif;margin:24px}td,th{text-align:left;padding:3px 18px 3px 0}"


@contextmanager
def emulated_bucket(log: Path) -> Iterator[dict[str, str]]:
    """Yield the variables by which clients of Google Cloud Storage find the bucket ``papers``.

    Args:
        log: file for what the server prints.
    """
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as server,
    ):
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        try:
            yield {
                "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
                # gcsfs would spend a minute on a service that only Google has.
                "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            }
        finally:
            server.terminate()


def objects(variables: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the bucket says of each of its objects."""
    with urlopen(f"{variables['STORAGE_EMULATOR_HOST']}/storage/v1/b/{NAME}/o") as answer:
        return list(json.load(answer)["items"])


def bucket_page(folder: Path) -> Path:
    """Return a page that lists the bucket after the first version was pushed from a folder."""
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    with emulated_bucket(folder.with_suffix(".log")) as variables:
        for command in _COMMANDS.strip().splitlines():
            environment = {**os.environ, **variables, "PATH": path, "DVC_NO_ANALYTICS": "1"}
            subprocess.run(command.split(), cwd=folder, env=environment, check=True)
        found = objects(variables)
    rows = [
        (f"gs://{NAME}/{item['name']}", f"{int(item['size']):,}", str(item["generation"]))
        for item in sorted(found, key=lambda item: str(item["name"]))
    ]
    title = f"gs://{NAME}, emulated on this machine, after `dvc push`: {len(rows)} objects"
    return table_page(folder / "bucket.html", title, ("object", "bytes", "version"), rows)


def table_page(path: Path, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    """Write a page with one table, and return its path."""
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = "".join(f"<th>{html.escape(name)}" for name in heads)
    page = (
        f"<style>{_STYLE}</style><b>{html.escape(title)}</b><table><tr>{head}</tr>{cells}</table>"
    )
    path.write_text(page, encoding="utf-8")
    return path
