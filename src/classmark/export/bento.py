"""A bundle as a bento: a folder that ``bentoml serve`` serves and ``bentoml containerize`` packs.

BentoML builds it, in a process of its own and with a store that is thrown away afterwards: it
configures logs and traces of the process that imports it. Its folder holds the bundle, and a
service of a few lines whose code is ``classmark.service.bento``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from classmark import __version__
from classmark.bundle import describe_files, load_bundle
from classmark.errors import MissingExtra, StorageFailed
from classmark.kernels import kernel_of
from classmark.records import BundleFile
from classmark.storage import atomic_folder, scratch_folder, storage_errors, write_text

MODEL = "model"
"""Folder of the bundle beside the service."""
# Not `bentoml build`: it refuses hidden folders, as the scratch folder is one.
# -P: a file of the current folder must not replace a module.
_BUILD = "import bentoml, json, sys; print(bentoml.build(**json.load(sys.stdin)).path)"
_COMMAND = (sys.executable, "-P", "-c", _BUILD)
_SERVICE = f'''"""The service of this bento, which BentoML starts: POST /v1/classify."""

from pathlib import Path

from classmark.service.bento import make_service

Classmark = make_service(Path(__file__).with_name("{MODEL}"))
'''


def check_bentoml() -> None:
    """Check that BentoML is installed.

    Raises:
        MissingExtra: names the command that installs it.
    """
    if find_spec("bentoml") is None:
        raise MissingExtra("--format bento", "bentoml")


def write_bento(bundle: Path, output: Path, *, overwrite: bool = False) -> dict[str, BundleFile]:
    """Write a bento of a bundle, whole or not at all; return its files.

    Args:
        bundle: its folder.
        output: the folder of the bento.
        overwrite: replace what is there.

    Raises:
        MissingExtra: BentoML is not installed.
        BundleNotFound, BundleCorrupt, BundleIncompatible: there is no sound bundle.
        StorageFailed: BentoML cannot build it, or it cannot be written.
    """
    check_bentoml()
    manifest = load_bundle(bundle).manifest
    extras = ",".join(filter(None, ("bentoml", kernel_of(manifest).extra)))
    described = {
        "service": "service:Classmark",
        "name": manifest.name.lower().strip("-_"),
        "version": manifest.version,
        "description": _card(bundle),
        "labels": {"kind": manifest.kind},
        "include": ["service.py", f"{MODEL}/**"],
        "python": {
            "packages": [f"classmark[{extras}]=={__version__}"],
            "lock_packages": False,  # that would ask the package index
        },
    }
    with scratch_folder() as scratch:
        project = scratch / "project"
        with storage_errors(project):
            shutil.copytree(bundle, project / MODEL)
        write_text(project / "service.py", _SERVICE)
        built = _build({**described, "build_ctx": str(project)}, scratch / "home")
        with atomic_folder(output, overwrite=overwrite) as folder:
            mode = folder.stat().st_mode
            shutil.copytree(built, folder, dirs_exist_ok=True)
            folder.chmod(mode)  # BentoML's own is for its user alone
            return describe_files(folder)


def _card(bundle: Path) -> str:
    card = bundle / "CARD.md"
    with storage_errors(card):
        return card.read_text(encoding="utf-8")


def _build(described: dict[str, Any], home: Path) -> Path:
    """Return the folder of the bento that BentoML builds in a store of its own."""
    own = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run(
        _COMMAND,
        input=json.dumps(described),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **own},
        check=False,
    )
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode or not said:
        raise StorageFailed(
            f"BentoML could not build the bento: {said[-1] if said else 'it said nothing'} (exit "
            f"code {done.returncode}). Run `bentoml env` to see how it is installed."
        )
    return Path(said[-1])
