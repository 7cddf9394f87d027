"""Where bundles live, and which one a name means. Standard library only: ``--version`` runs it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from classmark.bundle.files import MANIFEST_FILE, read_manifest_bytes
from classmark.errors import HOME_VARIABLE, BundleCorrupt, BundleNotFound, NoHomeFolder

DEFAULT_NAME = "fast"
ENTRY_POINT_GROUP = "classmark.bundles"

NAME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
VERSION_PATTERN = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BUCKETS = "gs://"
_WHEEL_FOLDER = Path(__file__).parent.parent / "bundles"


class FoundBundle(NamedTuple):
    """One bundle folder that can be named.

    Attributes:
        name: e.g. ``fast``; read from the folder's name, as is ``version``.
        version: digits and dots.
        path: the folder.
        place: ``user``, ``package NAME`` or ``wheel``.
    """

    name: str
    version: str
    path: Path
    place: str

    @property
    def spec(self) -> str:
        """``NAME@VERSION``, which names exactly this version."""
        return f"{self.name}@{self.version}"


def home_folder(purpose: str, setting: str) -> Path:
    """Return ``$CLASSMARK_HOME``, by default the user's data folder; it need not exist.

    Args:
        purpose: what is kept there, for the error.
        setting: what else gives it a place, for the error.

    Raises:
        NoHomeFolder: the variable is not set, and the user has no home folder.
    """
    folder = _home_folder()
    if folder is None:
        raise NoHomeFolder(
            f"there is no place for {purpose}: HOME is not set, and this user has no home folder. "
            f"Give {setting}, or set {HOME_VARIABLE} to a folder that you can write to."
        )
    return folder


def models_folder() -> Path | None:
    """Return the user's models, ``$CLASSMARK_HOME/models``, which need not exist.

    None if the variable is not set and the user has no home folder.
    """
    folder = _home_folder()
    return None if folder is None else folder / "models"


def find_bundle(spec: str | Path | None = None, *, allow_paths: bool = True) -> Path:
    """Return the folder of the bundle that a spec means.

    Args:
        spec: ``NAME``, ``NAME@VERSION`` or a path; None means the default name. A text is a path
            if it has a separator or is a folder with a ``bundle.json``; a ``Path`` always is. A
            path ``gs://BUCKET/PATH`` means a copy of what is there.
        allow_paths: False if the spec comes from outside, as over HTTP; then only names are sought.

    Without a version the highest one wins, wherever it lives; of equal ones the user's own does,
    then an installed package's, then the one in the wheel.

    Raises:
        BundleNotFound: nothing of that name, version or path; says what there is.
        BundleCorrupt: the folder holds another name or version than it is called by.
        CloudNotFound, StorageFailed, MissingExtra: a bucket cannot be read.
    """
    if allow_paths and str(spec).startswith(_BUCKETS):
        return _bundle_at(_fetched(str(spec)))
    if isinstance(spec, Path) or (spec and allow_paths and _is_path(spec)):
        return _bundle_at(Path(spec))
    name, at, version = (spec or DEFAULT_NAME).partition("@")
    if not NAME_PATTERN.fullmatch(name) or (at and not VERSION_PATTERN.fullmatch(version)):
        wanted = "NAME, NAME@VERSION or a path" if allow_paths else "NAME or NAME@VERSION"
        raise BundleNotFound(f"{spec!r} does not name a model. Use {wanted}; {_what_there_is()}")
    found = [b for b in list_bundles() if b.name == name and version in ("", b.version)]
    if not found:
        own = models_folder() or f"a folder of your own (set {HOME_VARIABLE})"
        raise BundleNotFound(
            f"no model {spec or DEFAULT_NAME!r} in {own}, in installed packages or in "
            f"classmark itself. Check the name; {_what_there_is()}"
        )
    _check_folder_name(found[0])
    return found[0].path


def list_bundles() -> tuple[FoundBundle, ...]:
    """Return every bundle that can be named: by name, then the highest version first."""
    own = models_folder()
    users = [] if own is None else [("user", own)]
    places = [*users, *_package_folders(), ("wheel", _WHEEL_FOLDER)]
    found = [bundle for place, folder in places for bundle in _bundles_in(folder, place)]
    # Two stable sorts: the newest first, and among equals the order of places.
    found.sort(key=lambda bundle: _version_key(bundle.version), reverse=True)
    return tuple(sorted(found, key=lambda bundle: bundle.name))


def read_header(folder: Path) -> tuple[str, str, str]:
    """Return (name, version, digest) as ``bundle.json`` states them, unverified but safe to show.

    Raises:
        BundleCorrupt: it cannot be read, or one of the three is missing or malformed.
    """
    path = folder / MANIFEST_FILE
    try:
        value = json.loads(read_manifest_bytes(folder))
        name = _matching(NAME_PATTERN, value["name"])
        version = _matching(VERSION_PATTERN, value["version"])
        digest = _matching(DIGEST_PATTERN, value["digest"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleCorrupt(
            f"{path} is damaged or unreadable ({type(error).__name__}). Install the model again."
        ) from error
    return name, version, digest


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


def _is_path(spec: str) -> bool:
    separators = {"/", os.sep, os.altsep or os.sep}
    return any(s in spec for s in separators) or (Path(spec) / MANIFEST_FILE).is_file()


def _fetched(address: str) -> Path:
    from classmark.storage import folder_place, local_copy

    return local_copy(folder_place(address))


def _bundle_at(path: Path) -> Path:
    if (path / MANIFEST_FILE).is_file():
        return path
    problem = f"holds no {MANIFEST_FILE}" if path.is_dir() else "is not a folder"
    raise BundleNotFound(
        f"no model at {path}: it {problem}. Give the folder of a bundle, or a name; "
        f"{_what_there_is()}"
    )


def _what_there_is() -> str:
    specs = dict.fromkeys(bundle.spec for bundle in list_bundles())
    return f"there is {', '.join(specs)}." if specs else "no model is installed."


def _check_folder_name(found: FoundBundle) -> None:
    name, version, _ = read_header(found.path)
    if (name, version) != (found.name, found.version):
        raise BundleCorrupt(
            f"{found.path} is called {found.spec} but its {MANIFEST_FILE} says {name}@{version}. "
            f"Rename the folder to {name}-{version}."
        )


def _bundles_in(folder: Path, place: str) -> Iterator[FoundBundle]:
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return  # a folder that is missing or unreadable holds no bundles
    for child in children:
        name, _, version = child.name.rpartition("-")
        named = NAME_PATTERN.fullmatch(name) and VERSION_PATTERN.fullmatch(version)
        if named and (child / MANIFEST_FILE).is_file():
            yield FoundBundle(name, version, child, place)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _package_folders() -> Iterator[tuple[str, Path]]:
    """Yield the folders that installed packages declare, without executing the packages."""
    if not _any_package_declares_bundles():
        return
    from importlib import metadata, util

    for entry in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP)):
        try:
            spec = util.find_spec(entry.module)
        except (ImportError, ValueError):
            continue  # the package was removed and left its metadata behind
        for root in (spec and spec.submodule_search_locations) or ():
            owner = entry.dist.name if entry.dist else entry.name
            yield f"package {owner}", Path(root, *(entry.attr or "").split("."))


def _any_package_declares_bundles() -> bool:
    """Look into the metadata files: importing ``importlib.metadata`` costs as much as all else."""
    declaration = f"[{ENTRY_POINT_GROUP}]".encode()
    for folder in filter(os.path.isdir, sys.path):
        for path in Path(folder).glob("*.*-info/entry_points.txt"):
            try:
                if declaration in path.read_bytes():
                    return True
            except OSError:
                continue  # a package that was removed this moment, or is not for us to read
    return False


def _home_folder() -> Path | None:
    home = os.environ.get(HOME_VARIABLE)
    return Path(home) if home else _user_data_folder()


def _user_data_folder() -> Path | None:
    """Return where the platform keeps a user's data; platformdirs agrees but imports for 25 ms.

    None if the user has no home folder, as in a container that runs under any number.
    """
    if sys.platform == "win32":  # pragma: no cover - tested there
        below, data = ("AppData", "Local", "classmark"), os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":  # pragma: no cover - tested there
        below, data = ("Library", "Application Support"), None
    else:
        below, data = (".local", "share"), os.environ.get("XDG_DATA_HOME", "").strip()
    if data:
        return Path(data, *below[2:], "classmark")
    try:
        return Path.home().joinpath(*below, "classmark")
    except RuntimeError:
        return None
