"""Writes what a wheel or an image holds as CycloneDX JSON (a software bill of materials).

python .ci/sbom.py --wheel dist/classmark-1.0.whl --lock requirements/core.txt --output FILE
python .ci/sbom.py --image classmark/service --output FILE

A wheel is listed with the locked packages that it is tested with; an image with the Python packages
and the Debian packages that are in it. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import json
import sys
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audit import pins
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "deploy" / "docker"))

if TYPE_CHECKING:
    from images import Engine

# Run inside an image: what it has is asked of its own Python and of dpkg.
_PYTHON_PACKAGES = """
import importlib.metadata as m, json
print(json.dumps(sorted({(d.metadata["Name"], d.version) for d in m.distributions()})))
"""
_DEBIAN_FORMAT = "${Package}\\t${Version}\\t${Architecture}\\n"


def pypi(name: str, version: str) -> Component:
    """Return a Python package as a component."""
    name = canonicalize_name(name)
    purl = PackageURL("pypi", None, name, version)
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl))


def debian(name: str, version: str, architecture: str) -> Component:
    """Return a Debian package as a component."""
    purl = PackageURL("deb", "debian", name, version, {"arch": architecture})
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl))


def locked(lock: Path) -> list[Component]:
    """Return the packages of a lock; one that only some systems need is listed too."""
    return [pypi(*pin.split("==")) for pin in pins([lock])]


def of_wheel(wheel: Path, lock: Path) -> Bom:
    """Return the bill of a wheel and the packages that it is tested with."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    root = pypi(metadata["Name"], metadata["Version"])
    root.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=digest))
    root.description = metadata["Summary"]
    root.licenses.add(LicenseExpression(metadata["License-Expression"]))
    return bill(root, locked(lock), digest)


def of_image(engine: Engine, image: str) -> Bom:
    """Return the bill of an image, from what it holds.

    Args:
        engine: container engine that has the image.
        image: its tag.
    """
    facts = json.loads(engine.run("image", "inspect", image))[0]
    inside = ("run", "--rm", "--network", "none", "--entrypoint")
    packages = json.loads(engine.run(*inside, "python", image, "-c", _PYTHON_PACKAGES))
    listed = engine.run(*inside, "dpkg-query", image, "--show", f"--showformat={_DEBIAN_FORMAT}")
    labels = facts["Config"]["Labels"] or {}
    root = Component(
        name=image,
        type=ComponentType.CONTAINER,
        version=labels.get("org.opencontainers.image.version", "unknown"),
        bom_ref=facts["Id"],
    )
    if text := labels.get("org.opencontainers.image.licenses"):
        root.licenses.add(DisjunctiveLicense(id=text))
    components = [pypi(name, version) for name, version in packages]
    components += [debian(*line.split("\t")) for line in listed.splitlines()]
    return bill(root, components, facts["Id"])


def bill(root: Component, components: Sequence[Component], seed: str) -> Bom:
    """Return the bill of a component; its serial number follows from ``seed``."""
    number = uuid.uuid5(uuid.NAMESPACE_OID, f"{root.name} {seed}")
    found = Bom(serial_number=number, metadata=BomMetaData(component=root))
    found.metadata.timestamp = None  # type: ignore[assignment]  # the same input, the same bytes
    for component in components:
        found.components.add(component)
    found.register_dependency(root, components)
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Write the bill that was asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wheel", type=Path)
    what.add_argument("--image", help="tag of an image that the engine has")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements" / "core.txt")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(words)
    if options.wheel:
        found = of_wheel(options.wheel, options.lock)
    else:
        from images import NoEngine, engine

        try:
            with engine() as running:
                found = of_image(running, options.image)
        except NoEngine as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = JsonV1Dot6(found).output_as_string(indent=1)
    options.output.write_text(text + "\n", encoding="utf-8")
    print(f"{options.output}: {len(found.components)} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
