"""Archives from elsewhere: checked to the last byte before anything of them is used."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from classmark.errors import InvalidArchive, StorageFailed, UnreadableSource
from classmark.papers import detect_format
from classmark.papers.files.sources import DAMAGE, PACKED_MAGIC, open_path, refuse_bomb
from classmark.storage import atomic_folder, storage_errors

MAX_UNPACKED_BYTES = 64 * 1024**3
MAX_MEMBERS = 10_000
_CHUNK_BYTES = 1 << 20
_ENCRYPTED_FLAG = 0x1


def check_archive(path: Path, *, name: str = "") -> tuple[str, ...]:
    """Return the names of the files in a zip, none for another file; all of it was read.

    A zip is refused unless every member has its checksum, none is encrypted, a link, or named so
    that it would lead out of the folder it is unpacked into, and none is absurdly large. A gzip,
    bzip2 or xz file is read to its end. Any other file must be in a format of papers.

    Args:
        path: the archive, or a plain file of papers.
        name: what messages call it, if not by its path.

    Raises:
        InvalidArchive: says which member, and what is wrong with it.
        UnreadableSource: no archive, and no format that can be read.
    """
    name = name or str(path)
    if zipfile.is_zipfile(path) and not _is_packed(path):
        with _damage_named(name), zipfile.ZipFile(path) as archive:
            return tuple(_checked_members(archive, name))
    if _is_packed(path):
        _check_packed(path, name)
    _check_format(path, name)
    return ()


def unpack(path: Path, folder: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Return the files of a zip, unpacked into a folder that is whole or not there.

    Raises:
        InvalidArchive: as ``check_archive``; nothing was unpacked then.
        StorageFailed: the folder cannot be written, or holds something that the zip does not.
    """
    members = check_archive(path)
    if not members:
        raise InvalidArchive(
            f"{path} is not a zip file, so there is nothing to unpack. Leave out --unpack."
        )
    if overwrite and folder.is_dir():
        _refuse_other_things(folder, {PurePosixPath(member).parts[0] for member in members})
    with atomic_folder(folder, overwrite=overwrite) as temporary, zipfile.ZipFile(path) as archive:
        for member in members:
            target = temporary.joinpath(*PurePosixPath(member).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
    return tuple(folder.joinpath(*PurePosixPath(member).parts) for member in members)


def _refuse_other_things(folder: Path, members: set[str]) -> None:
    with storage_errors(folder):
        others = sorted({path.name for path in folder.iterdir()} - members)
    if others:
        raise StorageFailed(
            f"{folder} holds {others[0]!r}, which is not in the zip and would be lost. Choose "
            "another folder, or delete it."
        )


def _checked_members(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    infos = archive.infolist()
    for info in infos:
        _check_entry(info, name)
    files = [info for info in infos if not info.filename.endswith("/")]
    _check_amount(files, name)
    for info in files:
        with archive.open(info) as member:  # reading to the end compares the checksum
            while member.read(_CHUNK_BYTES):
                pass
    papers = [info.filename for info in files if not info.filename.startswith("__MACOSX/")]
    if not papers:
        raise InvalidArchive(f"{name} is an empty zip. Check where it comes from.")
    yield from papers


def _check_amount(files: list[zipfile.ZipInfo], name: str) -> None:
    total = sum(info.file_size for info in files)
    if total > MAX_UNPACKED_BYTES or len(files) > MAX_MEMBERS:
        raise InvalidArchive(
            f"{name} would unpack to {len(files):,} files of {total:,} bytes in all, more than "
            f"{MAX_MEMBERS:,} files or {MAX_UNPACKED_BYTES:,} bytes. If you trust it, unzip it "
            "yourself and give the files."
        )
    if len({info.filename.casefold() for info in files}) < len(files):
        raise InvalidArchive(f"{name} holds two files of one name. Check where it comes from.")


def _check_entry(info: zipfile.ZipInfo, name: str) -> None:
    if _leads_out(info.filename):
        raise InvalidArchive(
            f"{name} is not safe: its member {info.filename!r} would be written outside of the "
            "folder it is unpacked into. Do not use it; get it from its publisher."
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InvalidArchive(
            f"{name} is not safe: its member {info.filename!r} is a link. Do not use it; get it "
            "from its publisher."
        )
    if info.flag_bits & _ENCRYPTED_FLAG:
        raise InvalidArchive(
            f"{name} is encrypted (member {info.filename!r}). Unzip it yourself with its password "
            "and give the files."
        )
    try:
        refuse_bomb(info, name)
    except UnreadableSource as error:
        raise InvalidArchive(str(error)) from error


def _leads_out(member: str) -> bool:
    """Return whether a name is absolute or empty, has a drive, climbs, or differs on Windows."""
    windows = PureWindowsPath(member)
    climbs = ".." in windows.parts or ".." in PurePosixPath(member).parts
    is_rooted = bool(windows.drive or windows.root)
    return not member or climbs or is_rooted or "\\" in member or "\0" in member


def _check_packed(path: Path, name: str) -> None:
    try:
        with _damage_named(name), open_path(path) as source:
            while source.stream.read(_CHUNK_BYTES):
                pass
    except UnreadableSource as error:
        raise InvalidArchive(str(error).replace(str(path), name)) from error


def _check_format(path: Path, name: str) -> None:
    try:
        detect_format(path)
    except UnreadableSource as error:
        raise UnreadableSource(str(error).replace(str(path), name)) from error


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(max(map(len, PACKED_MAGIC))).startswith(PACKED_MAGIC)


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise InvalidArchive(
            f"{name} is damaged or cut short ({error}). Download it again."
        ) from error
    except (NotImplementedError, RuntimeError) as error:  # an unknown compression
        raise InvalidArchive(
            f"{name} cannot be unzipped here ({error}). Unzip it yourself and give the files."
        ) from error
