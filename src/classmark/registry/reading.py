"""What a service reads of a registry: the state, and bundles that are verified. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from classmark.bundle import Bundle, load_bundle
from classmark.errors import BundleNotFound, CloudNotFound, RegistryCorrupt
from classmark.records import GateReport, Pointer, PromotionEvent
from classmark.registry import changes
from classmark.registry.admission import proof_of, prove
from classmark.registry.documents import POINTER_FILE, REGISTRY_FILE, read_document, read_pointer
from classmark.registry.log import EVENTS_FILE, read_events
from classmark.registry.reports import read_report
from classmark.registry.shelf import BUNDLES, REPORTS, find_digest, members_of
from classmark.registry.signatures import fingerprint_of, read_public_key
from classmark.storage import local_copy


class RegistryReader:
    """A registry that exists, to be read; needs no lock, and the folder may be read-only.

    Attributes:
        path: its folder.
    """

    def __init__(self, path: Path, trusted_keys: Iterable[Path] = ()) -> None:
        self.path = path
        public = [read_public_key(key) for key in trusted_keys]
        self._pinned = {fingerprint_of(key): key for key in public}
        self._pointer_path = path / POINTER_FILE
        self._cached: tuple[tuple[int, ...], Pointer] | None = None
        self._seen = 0

    @classmethod
    def open(cls, path: Path, *, trusted_keys: Iterable[Path] = ()) -> Self:
        """Open a registry, also one that only others may write.

        Args:
            path: its folder.
            trusted_keys: files of public keys that count instead of those in the registry, which
                its writers can change.

        Raises:
            InvalidKeys: a key cannot be read.
            RegistryNotFound: there is none.
            RegistryTooNew: a newer classmark wrote it.
            RegistryCorrupt: ``registry.json`` or ``pointer.json`` is damaged; names it.
        """
        read_document(path / REGISTRY_FILE)
        registry = cls(path, trusted_keys)
        registry.pointer()
        return registry

    def pointer(self) -> Pointer:
        """Return the state now; the file is read only if it has changed.

        Raises:
            RegistryCorrupt, RegistryTooNew: it cannot be used.
        """
        with suppress(OSError):
            found = self._pointer_path.stat()
            state = (found.st_mtime_ns, found.st_ino, found.st_size)
            if self._cached is not None and self._cached[0] == state:
                return self._cached[1]
            # Read after stat: a change in between is seen at the next call.
            self._cached = state, read_pointer(self._pointer_path)
            self._seen = self._cached[1].sequence
            return self._cached[1]
        return read_pointer(self._pointer_path)

    def find(self, spec: str) -> str:
        """Return the digest of the bundle that a text means.

        Args:
            spec: a channel, NAME, NAME@VERSION, a digest, or the first 8 digits of one or more.

        Raises:
            BundleNotFound: there is none, or the channel is empty.
            UsageError: several begin like that.
        """
        return find_digest(self.pointer(), spec)

    def bundle(self, digest: str) -> Path:
        """Return the folder of a bundle, of a registry in a bucket that of its copy here.

        Raises:
            BundleNotFound: the registry has no such bundle, or its folder is gone.
        """
        known = changes.registered_as(self.pointer(), digest)
        folder = self.path / BUNDLES / digest
        with suppress(CloudNotFound):
            copy = local_copy(folder)
            if copy.is_dir():
                return copy
        raise BundleNotFound(
            f"{folder} is gone, which holds {known.spec}. Restore it from a copy of the registry, "
            "or add that bundle again with `classmark registry add`."
        )

    def load(self, digest: str) -> Bundle:
        """Return a bundle that was verified from the bytes that are in memory now.

        The models of a cascade come from the registry too, if it has both.

        Raises:
            BundleNotFound: as ``bundle``.
            BundleCorrupt: a file has changed; names it.
            SignatureRefused: a trusted key is configured, and no signature of it fits.
        """
        pointer, bundle = self.pointer(), load_bundle(self.bundle(digest))
        known = changes.registered_as(pointer, digest)
        bundle = prove(self.path, bundle, known, self.trusted(pointer))
        members = dict(members_of(bundle.manifest))
        if not members or not pointer.bundles.keys() >= set(members.values()):
            return bundle
        return replace(bundle, members={part: self.load(d) for part, d in members.items()})

    def signed_by(self, digest: str) -> str | None:
        """Return the fingerprint of the trusted key that signed a bundle, after verifying both.

        None if no key is trusted.

        Raises:
            BundleNotFound, BundleCorrupt, SignatureRefused: as ``load``.
        """
        pointer, bundle = self.pointer(), load_bundle(self.bundle(digest))
        known = changes.registered_as(pointer, digest)
        statement = proof_of(self.path, bundle, known, self.trusted(pointer))
        return statement.key if statement else None

    def report(self, digest: str) -> GateReport:
        """Return the gate report of a SHA-256.

        Raises:
            InvalidReport: it is gone, or was edited.
        """
        return read_report(self.path / REPORTS, digest)

    def events(self) -> list[PromotionEvent]:
        """Return every change, the oldest first.

        Raises:
            RegistryCorrupt: a line is missing, edited or out of order; says which.
        """
        while True:
            last = self.pointer().last_event
            try:
                return read_events(self.path / EVENTS_FILE, last)
            except RegistryCorrupt:
                if self.pointer().last_event == last:  # else a change came in between
                    raise

    def trusted(self, pointer: Pointer) -> dict[str, str]:
        """Return the public keys that count: those that were given from outside, if any."""
        return self._pinned or pointer.trusted_keys
