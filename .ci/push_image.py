"""Pushes an image of this checkout to a registry, and says under which digest it is there.

python .ci/push_image.py IMAGE REGISTRY        e.g. service ghcr.io/someone/classmark

The image gets the tag of its commit. In a workflow its name and digest become outputs of the step,
for the attestation of its provenance. Log in first; what is pushed has to be built: `make images`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "deploy" / "docker"))

from images import Engine, NoEngine, engine  # noqa: E402


def push(found: Engine, image: str, name: str, tag: str) -> str:
    """Return the digest of a pushed image.

    Args:
        found: engine that has the image.
        image: its tag here, e.g. ``classmark/service``.
        name: its name with the registry, e.g. ``ghcr.io/someone/classmark/service``.
        tag: in the registry.
    """
    found.run("tag", image, f"{name}:{tag}")
    found.run("push", f"{name}:{tag}")
    digests = json.loads(found.run("image", "inspect", f"{name}:{tag}"))[0]["RepoDigests"]
    return next(str(one).partition("@")[2] for one in digests if one.startswith(f"{name}@"))


def main(words: Sequence[str] | None = None) -> int:
    """Push the image, print its name with its digest."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("image", help="target of the Dockerfile, e.g. service")
    parser.add_argument("registry", help="e.g. ghcr.io/someone/classmark; becomes lower case")
    options = parser.parse_args(words)
    name = f"{options.registry.rstrip('/').lower()}/{options.image}"
    git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    try:
        with engine() as found:
            digest = push(found, f"classmark/{options.image}", name, commit)
    except NoEngine as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{name}@{digest}")
    if output := os.environ.get("GITHUB_OUTPUT"):
        with Path(output).open("a", encoding="utf-8") as file:
            file.write(f"name={name}\ndigest={digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
