"""Objects in a bucket of Google Cloud Storage as paths: read whole, and written whole.

Nothing is kept between two calls: what another machine has just written is seen at once. The
credentials are those that an application has by default, never a file of keys.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from classmark.errors import ClassmarkError, OutputChanged, UsageError
from classmark.storage.google import READ_ROLE, WRITE_ROLE, bucket_errors, client, retry

SCHEME = "gs://"
_ADDRESS = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])((?:/+[^/]+)*)/*")
_CHUNK_BYTES = 1 << 20
_WRITES = "classmark-writes"
_MOST_WRITES = 32
"""Latest writes that an object names: a writer whose answer was lost finds its own among them."""


class Version(NamedTuple):
    """One version of an object.

    Attributes:
        key: name of the object in its bucket.
        generation: number of the version; 0 for none.
        n_bytes: its size.
        crc32c: its checksum, in base64.
        updated_ns: when it was written, by the clock of the bucket, in Unix time.
        writes: names of the latest writes of the object, the last one this version's.
    """

    key: str
    generation: int = 0
    n_bytes: int = 0
    crc32c: str = ""
    updated_ns: int = 0
    writes: tuple[str, ...] = ()


class ObjectState(NamedTuple):
    """What ``stat`` says of a file, of an object: another version has another ``st_ino``."""

    st_mtime_ns: int
    st_ino: int
    st_size: int


@dataclass(frozen=True, order=True)
class BucketPath:
    """A path in a bucket: an object, or a folder, which is there while objects are below it.

    Attributes:
        bucket: its name.
        key: path in it, without slashes around; empty for the bucket.
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> BucketPath:
        """Return the path of an address.

        Raises:
            UsageError: it is not ``gs://BUCKET/PATH``.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise UsageError(
                f"{text!r} is not an address in a bucket. Write gs://BUCKET/PATH, with lower-case "
                "letters, digits, hyphens, dots and underscores for the bucket."
            )
        parts = [part for part in found[2].split("/") if part]
        if {".", ".."} & set(parts):
            raise UsageError(f"{text!r} has a part '.' or '..', which no bucket has. Leave it out.")
        return cls(found[1], "/".join(parts))

    def __str__(self) -> str:
        """Return the address."""
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> BucketPath:
        """Return a path below."""
        return BucketPath(self.bucket, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def stem(self) -> str:
        """Last part of the path without its suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """What the last part of the path ends in, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> BucketPath:
        """The folder around it."""
        return BucketPath(self.bucket, self.key.rpartition("/")[0])

    def is_file(self) -> bool:
        """Tell whether it is an object."""
        return bool(self.key) and self.version().generation > 0

    def is_dir(self) -> bool:
        """Tell whether objects are below it."""
        return any(True for _ in self._list(most=1))

    def exists(self) -> bool:
        """Tell whether it is an object or a folder."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[BucketPath]:
        """Yield the files and folders in it, by name."""
        n_above = len(self._prefix)
        names = {version.key[n_above:].partition("/")[0] for version in self.below()}
        yield from (self / name for name in sorted(names))

    def glob(self, pattern: str) -> Iterator[BucketPath]:
        """Yield the files and folders in it whose name fits, by name."""
        yield from (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def stat(self) -> ObjectState:
        """Return what changes with each version of an object.

        Raises:
            FileNotFoundError: it is not there.
        """
        now = self.version()
        if not now.generation:
            raise FileNotFoundError(str(self))
        return ObjectState(now.updated_ns, now.generation, now.n_bytes)

    def read_bytes(self) -> bytes:
        """Return the content of an object.

        Raises:
            FileNotFoundError: it is not there.
        """
        return self.read()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content of an object as text."""
        return self.read_bytes().decode(encoding)

    def read(self) -> tuple[bytes, Version]:
        """Return the content of an object, and which version it is of.

        Raises:
            FileNotFoundError: it is not there.
            StorageFailed: the bucket does not answer, or refuses it.
        """
        while True:
            now = self.version()
            if not now.generation:
                raise FileNotFoundError(str(self))
            with suppress(FileNotFoundError):  # replaced in between
                return self.fetch(now), now

    def fetch(self, version: Version) -> bytes:
        """Return the content of one version.

        Raises:
            FileNotFoundError: the bucket has it no more.
        """
        with bucket_errors(str(self), READ_ROLE):
            blob = self._blob(version.generation)
            return bytes(blob.download_as_bytes(retry=retry(), checksum="crc32c"))

    def fetch_to(self, version: Version, file: Path) -> None:
        """Write the content of one version to a new file.

        Raises:
            FileNotFoundError: the bucket has it no more.
        """
        with bucket_errors(str(self), READ_ROLE):
            blob = self._blob(version.generation)
            blob.download_to_filename(str(file), retry=retry(), checksum="crc32c")

    def version(self) -> Version:
        """Return the current version; generation 0 if there is none.

        Raises:
            CloudNotFound: there is no such bucket.
            StorageFailed: it does not answer, or refuses it.
        """
        with suppress(FileNotFoundError), bucket_errors(str(self), READ_ROLE):
            blob = self._blob()
            blob.reload(retry=retry())
            return _version_of(blob)
        return Version(self.key)

    def below(self) -> list[Version]:
        """Return the objects below a folder, by name; those that end in a slash are left out.

        Raises:
            CloudNotFound: there is no such bucket.
            StorageFailed: it does not answer, or refuses it.
        """
        return sorted(self._list())

    def clear(self) -> None:
        """Delete the objects below a folder; a bucket with versions keeps them as old ones."""
        for version in self.below():
            BucketPath(self.bucket, version.key).unlink()

    def write(self, content: bytes | Path, *, before: Version | None = None) -> Version:
        """Write an object, which appears when all of it has arrived; return its version.

        Args:
            content: of it, or the file of this machine that has it.
            before: the version that may be replaced; any if left out.

        Raises:
            OutputChanged: another version is there.
            StorageFailed: the bucket does not answer, or refuses it.
        """
        from google.api_core.exceptions import PreconditionFailed

        mine = uuid.uuid4().hex
        blob = self._blob()
        blob.metadata = {
            _WRITES: " ".join([*(before.writes if before else ()), mine][-_MOST_WRITES:])
        }
        named = {} if before is None else {"if_generation_match": before.generation}
        with bucket_errors(str(self), WRITE_ROLE):
            try:
                if isinstance(content, bytes):
                    blob.upload_from_string(
                        content, _TYPE, retry=retry(), checksum="crc32c", **named
                    )
                else:
                    blob.upload_from_filename(
                        str(content), _TYPE, retry=retry(), checksum="crc32c", **named
                    )
            except PreconditionFailed as error:
                if mine not in self.version().writes:  # else only the answer was lost
                    raise changed(self) from error
            except Exception:
                if not self._has_arrived(mine):
                    raise
            else:
                return _version_of(blob)
        return self.version()

    def unlink(self, *, before: Version | None = None) -> None:
        """Delete an object; one that is gone is fine.

        Args:
            before: the version that may be deleted; any if left out.

        Raises:
            OutputChanged: another version is there.
            StorageFailed: the bucket does not answer, or refuses it.
        """
        from google.api_core.exceptions import NotFound, PreconditionFailed

        named = {} if before is None else {"if_generation_match": before.generation}
        with bucket_errors(str(self), WRITE_ROLE):
            try:
                self._blob().delete(retry=retry(), **named)
            except NotFound:
                return
            except PreconditionFailed as error:
                raise changed(self) from error

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _has_arrived(self, write: str) -> bool:
        try:
            return write in self.version().writes
        except ClassmarkError:
            return False

    def _list(self, most: int | None = None) -> Iterator[Version]:
        with bucket_errors(str(self), READ_ROLE):
            found = client().list_blobs(
                self.bucket, prefix=self._prefix, max_results=most, retry=retry()
            )
            yield from (_version_of(blob) for blob in found if not blob.name.endswith("/"))

    def _blob(self, generation: int | None = None) -> Any:  # noqa: ANN401 - Google's object
        return client().bucket(self.bucket).blob(self.key, generation=generation)


_TYPE = "application/octet-stream"


def changed(path: BucketPath) -> OutputChanged:
    """Return the error of an object that another process has written in between."""
    return OutputChanged(
        f"another process changed {path} while this one wrote it. Nothing of it was replaced: "
        "look at what is there, then try again."
    )


def crc32c_of(file: Path) -> str:
    """Return the checksum of a file as buckets spell it."""
    import google_crc32c

    checksum: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()


@dataclass(frozen=True, order=True)
class PinnedPath(BucketPath):
    """An object that is replaced only while it is the version that was read last.

    Attributes:
        seen: that version, if one was read.
    """

    seen: list[Version] = field(default_factory=list, compare=False)

    def read(self) -> tuple[bytes, Version]:
        """Return the content, and keep in mind which version it is of."""
        content, version = super().read()
        self.seen[:] = [version]
        return content, version

    def write(self, content: bytes | Path, *, before: Version | None = None) -> Version:
        """Write the object if it still is the version that was read."""
        return super().write(content, before=before or (self.seen[0] if self.seen else None))


def _version_of(blob: Any) -> Version:  # noqa: ANN401 - Google's object
    return Version(
        key=blob.name,
        generation=int(blob.generation),
        n_bytes=int(blob.size or 0),
        crc32c=blob.crc32c or "",
        updated_ns=int(blob.updated.timestamp() * 1e6) * 1000,
        writes=tuple((blob.metadata or {}).get(_WRITES, "").split()),
    )
