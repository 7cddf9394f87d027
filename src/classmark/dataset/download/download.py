"""From an address, a Kaggle dataset or a path to a checked file that ``build_dataset`` reads."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from classmark.dataset.config import DEFAULT_API, DownloadConfig, Patience
from classmark.dataset.download.archive import check_archive, unpack
from classmark.dataset.download.transfer import Part, Remote, fetch
from classmark.errors import InvalidArchive, InvalidConfig, UnreadableSource, UsageError
from classmark.records import SILENT, Progress
from classmark.storage import (
    atomic_file,
    check_apart,
    check_file_place,
    check_folder_place,
    locked_file,
    publish,
    sha256_file,
    storage_errors,
)

CREDENTIALS_REMEDY = (
    "Set KAGGLE_USERNAME and KAGGLE_KEY, or save the API token of your Kaggle account as "
    "~/.kaggle/kaggle.json; if you have, accept the terms on the page of the dataset."
)
_NAME = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")


def is_dataset_name(text: str) -> bool:
    """Tell OWNER/NAME from a path (which has a dot, or another number of slashes)."""
    return bool(_NAME.fullmatch(text))


def download_address(dataset: str, api: str = DEFAULT_API) -> str:
    """Return the address of the newest version of OWNER/NAME as one zip."""
    return f"{api.rstrip('/')}/datasets/download/{dataset}"


def authorization() -> str | None:
    """Return the HTTP header of the user's credentials, or None: public datasets need none.

    ``KAGGLE_USERNAME`` and ``KAGGLE_KEY`` come first, then ``kaggle.json`` in
    ``KAGGLE_CONFIG_DIR`` or ``~/.kaggle``.

    Raises:
        InvalidConfig: half of the credentials, or a file that does not hold them.
    """
    user, key = os.environ.get("KAGGLE_USERNAME", ""), os.environ.get("KAGGLE_KEY", "")
    if bool(user) != bool(key):
        there, missing = ("USERNAME", "KEY") if user else ("KEY", "USERNAME")
        raise InvalidConfig(f"KAGGLE_{there} is set, KAGGLE_{missing} is not. Set both or none.")
    if not user:
        user, key = _from_file()
    if not user:
        return None
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


def _from_file() -> tuple[str, str]:
    folder = os.environ.get("KAGGLE_CONFIG_DIR") or os.path.expanduser("~/.kaggle")  # noqa: PTH111
    path = Path(folder, "kaggle.json")  # without a home folder no such path exists
    try:
        token = json.loads(path.read_bytes())
        return str(token["username"]), str(token["key"])
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(
            f'{path} cannot be used: it must hold {{"username": ..., "key": ...}}. Make a new API '
            "token on Kaggle, or move the file away: public datasets need none."
        ) from error


PART_SUFFIX = ".part"


@dataclass(frozen=True, kw_only=True)
class Download:
    """What there is now.

    Attributes:
        file: the checked file.
        sha256: its 64 hexadecimal digits.
        bytes: its size.
        members: names of the files in it if it is a zip.
        papers: what to give to ``build_dataset``.
    """

    file: Path
    sha256: str
    bytes: int
    members: tuple[str, ...]
    papers: tuple[Path, ...]


def fetch_dataset(
    config: DownloadConfig,
    *,
    patience: Patience | None = None,
    progress: Progress = SILENT,
) -> Download:
    """Fetch and check a file; under its final name it is whole and checked, or not there.

    Args:
        config: what and where to.
        patience: timeouts and retries.
        progress: of the bytes, and of the further steps.

    Raises:
        UsageError: the source is not a file, an address or a dataset, or the output exists.
        DownloadFailed: it cannot be fetched; what has arrived is kept in ``.part``.
        OutputBusy: another process is fetching the same file.
        InvalidArchive: it is damaged or unsafe, or has another digest; nothing of it is kept.
        UnreadableSource: it holds nothing that can be read as papers.
        StorageFailed: it cannot be written.
    """
    local = _local(config)
    target = _target(config, local)
    check_apart((config.unpack, None if _is_local(target, local) else target), (local,))
    if config.unpack is not None:
        check_folder_place(config.unpack, overwrite=config.overwrite)
    if local is not None:
        progress.step("checking")
        members, digest = _checked(local, config, str(local))
        _copy(local, target)
    else:
        members, digest = _fetched(config, target, patience or Patience(), progress)
    papers: tuple[Path, ...] = (target,)
    if config.unpack is not None:
        progress.step("unpacking")
        papers = unpack(target, config.unpack, overwrite=config.overwrite)
    size = target.stat().st_size
    return Download(file=target, sha256=digest, bytes=size, members=members, papers=papers)


def _local(config: DownloadConfig) -> Path | None:
    """Return the path that the source is, None if it is to be fetched."""
    source = config.source
    if re.match(r"https?://", source, re.IGNORECASE):
        return None
    if Path(source).is_file():
        return Path(source)
    if is_dataset_name(source) and not Path(source).exists():
        return None
    raise UsageError(
        f"{source!r} is not an existing file, an http(s) address or a Kaggle dataset "
        "(OWNER/NAME). Check the spelling."
    )


def _target(config: DownloadConfig, local: Path | None) -> Path:
    output = config.output
    if output is None and local is not None:
        return local
    target = output or Path()
    if target.is_dir():
        target = target / _own_name(config.source)
    if _is_local(target, local):
        return target
    if target.exists() and not config.overwrite:
        raise UsageError(f"{target} already exists. Choose another --output, or --overwrite it.")
    check_file_place(target)
    return target


def _own_name(source: str) -> str:
    if is_dataset_name(source) and not Path(source).is_file():
        return f"{source.partition('/')[2]}.zip"
    path = urlsplit(source).path if "://" in source else source
    name = Path(unquote(path).rstrip("/")).name
    return name if name not in ("", ".", "..") else "papers"


def _remote(config: DownloadConfig) -> Remote:
    if "://" not in config.source:
        return Remote(
            url=download_address(config.source, config.kaggle_api),
            authorization=authorization(),
            credentials_remedy=CREDENTIALS_REMEDY,
        )
    return Remote(url=plain_address(config.source))


def plain_address(url: str) -> str:
    """Return an address without its fragment.

    Raises:
        UsageError: it is not a valid address, or holds a password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        raise UsageError(
            f"{url!r} is not a valid address. Write blanks as %20, other letters likewise."
        )
    if "@" in parts.netloc:
        raise UsageError("addresses with a password are not supported. Download the file yourself.")
    return url.partition("#")[0]


def _fetched(
    config: DownloadConfig,
    target: Path,
    patience: Patience,
    progress: Progress,
) -> tuple[tuple[str, ...], str]:
    """Fetch and check a file that no other run fetches; return (members, sha256)."""
    remote = _remote(config)
    part = Part(target.with_name(f"{target.name}{PART_SUFFIX}"))
    lock = part.path.with_name(f"{part.path.name}.lock")
    with locked_file(lock, wait_s=0), ExitStack() as at_end:  # two runs would write the same part
        at_end.callback(lock.unlink, missing_ok=True)
        fetch(remote, part, patience, progress)
        progress.step("checking")
        try:
            members, digest = _checked(part.path, config, target.name)
        except (InvalidArchive, UnreadableSource):
            part.discard()  # it is complete and unusable: there is nothing to resume
            raise
        with storage_errors(target), part.path.open("rb+") as file:
            os.fsync(file.fileno())
        publish(part.path, target)
        with storage_errors(target):
            part.forget_note()
    return members, digest


def _checked(path: Path, config: DownloadConfig, name: str) -> tuple[tuple[str, ...], str]:
    if not path.is_file() or not path.stat().st_size:
        raise InvalidArchive(f"{name} is empty. Check where it comes from.")
    digest = sha256_file(path)
    if config.sha256 and digest != config.sha256.lower():
        raise InvalidArchive(
            f"{name} has the SHA-256 {digest}, not {config.sha256.lower()}. It is another version, "
            "or was changed: compare with its publisher."
        )
    return check_archive(path, name=name), digest


def _is_local(target: Path, local: Path | None) -> bool:
    """Tell whether the file to write is the archive on this computer, which then stays as it is."""
    return local is not None and target.exists() and target.samefile(local)


def _copy(source: Path, target: Path) -> None:
    if _is_local(target, source):
        return
    with source.open("rb") as file, atomic_file(target) as copy:
        shutil.copyfileobj(file, copy)
