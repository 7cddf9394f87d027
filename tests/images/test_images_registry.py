"""What the workflow `images` does with the image of the service: builds, lists and pushes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from emulated_builds import digest_of, emulated_registry
from images import Engine
from make_targets import git, make, needs_make

pytestmark = [pytest.mark.images, pytest.mark.timeout(1_800), needs_make]


def environment(docker: Engine) -> dict[str, str]:
    """Return what leads a program to the engine of these tests."""
    host = {} if docker.host is None else {"DOCKER_HOST": docker.host}
    return {"PATH": f"{Path(docker.program).parent}{os.pathsep}{os.environ['PATH']}", **host}


def test_the_image_is_built_pushed_and_named_by_its_digest(docker: Engine, tmp_path: Path) -> None:
    own = environment(docker)
    done = make("images", "ONLY=service", **own)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "output"
    with emulated_registry() as registry:
        words = ("IMAGE=service", f"REGISTRY={registry.address}/Someone/Classmark")
        done = make("push-image", *words, **own, GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    ((path, manifest),) = registry.manifests.items()
    commit = git(Path(__file__).parent, "rev-parse", "HEAD")
    assert path == f"someone/classmark/service/manifests/{commit}"
    digest = digest_of(manifest)
    name = f"{registry.address}/someone/classmark/service"
    assert done.stdout.strip() == f"{name}@{digest}"
    assert output.read_text() == f"name={name}\ndigest={digest}\n"
    layers = {layer["digest"] for layer in json.loads(manifest)["layers"]}
    assert layers <= registry.blobs.keys()


def test_the_bill_of_the_image_lists_its_python_and_debian_packages(
    docker: Engine, image: Any
) -> None:
    pytest.importorskip("cyclonedx", reason="needs the group lint: make check")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    image("service")
    done = make("sbom-image", **environment(docker))
    assert done.returncode == 0, done.stderr
    text = (Path(__file__).parents[2] / "build/sbom/service.cdx.json").read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    kinds = {one["purl"].partition("@")[0] for one in json.loads(text)["components"]}
    assert {"pkg:pypi/classmark", "pkg:pypi/fastapi", "pkg:pypi/numpy"} <= kinds
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/base-files"} <= kinds
    assert "pkg:pypi/torch" not in kinds
