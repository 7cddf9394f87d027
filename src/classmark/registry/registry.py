"""A registry of bundles in a folder. A reader needs no lock and writes nothing.

registry.json         format version, when it was made
pointer.json          the whole state; replacing it is the one step that makes a change happen
events.jsonl          every change; each line names the SHA-256 of the one before
bundles/DIGEST/       bundles as they were exported, never changed
signatures/DIGEST     their signatures
reports/SHA256.json   gate reports
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from classmark.bundle import Bundle, load_bundle, read_manifest
from classmark.errors import (
    ChangeRefused,
    LabelMismatch,
    StorageFailed,
    UsageError,
)
from classmark.records import Canary, Pointer, PromotionEvent, utc_text
from classmark.records.registry import FORMAT_VERSION, Outcome
from classmark.registry import changes
from classmark.registry.admission import NO_PROOF, Proof, admit, prove
from classmark.registry.changes import Change
from classmark.registry.commit import check_texts, commit, held
from classmark.registry.documents import (
    POINTER_FILE,
    REGISTRY_FILE,
    render,
)
from classmark.registry.log import EVENTS_FILE
from classmark.registry.reading import RegistryReader
from classmark.registry.reports import keep_report, passed_report
from classmark.registry.shelf import (
    BUNDLES,
    REPORTS,
    SIGNATURES,
    remove_unknown,
)
from classmark.registry.signatures import fingerprint_of, read_public_key
from classmark.registry.verify import Finding, find_problems
from classmark.storage import atomic_folder

KEPT = 5
"""Bundles that ``collect`` keeps besides those that a channel or the archive has."""
SHOWN_DIGITS = changes.SHOWN_DIGITS


class Registry(RegistryReader):
    """A registry that exists, to be read and changed."""

    @classmethod
    def create(cls, path: Path, *, who: str, why: str = "") -> Registry:
        """Make an empty registry, whole or not at all.

        Raises:
            StorageFailed: something is there already, or it cannot be written.
        """
        if (path / REGISTRY_FILE).exists():
            raise StorageFailed(f"{path} is a registry already. Use it, or choose another folder.")
        check_texts(who, why)
        event = PromotionEvent(
            sequence=1, at_utc=utc_text(), who=who.strip(), action="create", why=why.strip()
        )
        with atomic_folder(path, last=REGISTRY_FILE) as folder:
            made = {"format_version": FORMAT_VERSION, "created_utc": event.at_utc}
            (folder / REGISTRY_FILE).write_text(render(made), "utf-8")
            pointer = Pointer(sequence=1, last_event=event)
            (folder / POINTER_FILE).write_text(render(pointer.to_dict()), "utf-8")
            (folder / EVENTS_FILE).write_bytes(event.line() + b"\n")
            for name in (BUNDLES, SIGNATURES, REPORTS):
                (folder / name).mkdir()
        return cls.open(path)

    def keep_report(self, content: bytes) -> str:
        """Keep a gate report; returns its SHA-256.

        Raises:
            StorageFailed: it cannot be written.
        """
        return keep_report(self.path / REPORTS, content)

    def add(self, folder: Path, *, who: str, why: str = "", proof: Proof = NO_PROOF) -> str:
        """Copy a bundle into the registry; returns its digest. An existing bundle stays.

        Args:
            folder: of the bundle.
            who: is doing it.
            why: the reason.
            proof: a signature, or a key to sign it with.

        Raises:
            BundleNotFound, BundleCorrupt, BundleIncompatible: it cannot be loaded.
            SignatureRefused: it is not signed by a trusted key, or is not what was signed.
            ChangeRefused: it answers as an existing one, but its card or metrics differ; or its
                signature is an old one.
            InvalidKeys, MissingExtra: it cannot be signed, or a signature not be verified.
            StorageFailed, OutputBusy: the registry cannot be written.
        """
        bundle = load_bundle(folder)
        self._commit(who, why, lambda now: admit(self.path, now, bundle, proof, self.trusted(now)))
        return bundle.digest

    def promote(
        self,
        digest: str,
        *,
        who: str,
        why: str = "",
        report: Path | None = None,
        force: bool = False,
    ) -> Pointer:
        """Make a bundle the champion.

        Args:
            digest: of the bundle.
            who: is doing it.
            why: the reason.
            report: of the gate that it passed; the latest in the registry if left out.
            force: promote it without one, for a reason.

        Raises:
            BundleNotFound, BundleCorrupt, SignatureRefused: it cannot be loaded.
            ChangeRefused: it passed no gate, is the champion, a canary runs, or it is the older.
            UsageError: it is forced without a reason.
            RegistryConflict: another process changed the registry since it was read.
            StorageFailed, OutputBusy: the registry cannot be written.
        """
        seen = self._seen
        if force and not why.strip():
            raise UsageError("a forced promotion needs a reason. Give it with --why.")
        self.load(digest)
        now = self.pointer()
        if now.sequence == seen:
            changes.promote(now, digest, None, forced=force)  # refuses what no gate would mend
        passed = None if force and report is None else self._gate(digest, report, _OR_FORCE)
        forced = passed is None
        return self._commit(
            who, why, lambda before: changes.promote(before, digest, passed, forced=forced), seen
        )

    def rollback(self, *, who: str, why: str = "") -> Pointer:
        """Take the latest step back: end the canary, or let the champion before this one return.

        Raises:
            BundleNotFound, BundleCorrupt, SignatureRefused: that one cannot be loaded.
            ChangeRefused: there was none before.
            RegistryConflict, StorageFailed, OutputBusy: as ``promote``.
        """
        pointer, seen = self.pointer(), self._seen
        if pointer.canary is None and pointer.former:
            self.load(pointer.former[-1])
        return self._commit(who, why, changes.roll_back, seen)

    def start_canary(
        self,
        digest: str,
        *,
        percent: float,
        rules: Mapping[str, Any],
        who: str,
        why: str = "",
        allow_label_change: bool = False,
    ) -> Pointer:
        """Let a candidate answer a share of the requests.

        Args:
            digest: of its bundle.
            percent: of the requests, above 0 to 100.
            rules: when it ends, and how.
            who: is doing it.
            why: the reason.
            allow_label_change: it may have other labels than the champion.

        Raises:
            LabelMismatch: it has other labels.
            ChangeRefused: it passed no gate, there is no champion, or a canary runs.
            BundleNotFound, BundleCorrupt, SignatureRefused, UsageError, RegistryConflict,
            StorageFailed, OutputBusy: as ``promote``.
        """
        pointer, seen = self.pointer(), self._seen
        candidate = self.load(digest)
        champion = pointer.channels.champion
        if champion is not None and not allow_label_change:
            _check_labels(candidate, read_manifest(self.bundle(champion)).labels)
        canary = Canary(
            candidate=digest,
            percent=float(percent),
            rules=dict(rules),
            started_utc=utc_text(),
            allow_label_change=allow_label_change,
        )
        changes.start_canary(pointer, canary)  # refuses what no gate would mend
        canary = replace(canary, report=self._gate(digest, None))
        return self._commit(who, why, lambda before: changes.start_canary(before, canary), seen)

    def end_canary(
        self, outcome: Outcome, numbers: Mapping[str, Any], *, who: str, why: str = ""
    ) -> Pointer:
        """End the canary: ``promoted`` makes its candidate the champion, else none has it.

        Raises:
            ChangeRefused: no canary runs.
            RegistryConflict, StorageFailed, OutputBusy: as ``promote``.
        """
        seen = self._seen
        return self._commit(
            who, why, lambda before: changes.end_canary(before, outcome, dict(numbers)), seen
        )

    def set_shadow(
        self, digest: str | None, *, percent: float = 100.0, who: str, why: str = ""
    ) -> Pointer:
        """Let another bundle score a share of the requests too, or none.

        Raises:
            BundleNotFound, BundleCorrupt, SignatureRefused: it cannot be loaded.
            UsageError, RegistryConflict, StorageFailed, OutputBusy: as ``promote``.
        """
        seen = self._seen
        if digest is not None:
            self.load(digest)
        share = float(percent)
        return self._commit(
            who, why, lambda before: changes.set_shadow(before, digest, share), seen
        )

    def archive(self, *digests: str, who: str, why: str = "") -> Pointer:
        """Keep bundles that no longer serve: ``collect`` keeps them, ``rollback`` skips them.

        Raises:
            BundleNotFound: one is not in the registry.
            ChangeRefused: a channel has one.
            StorageFailed, OutputBusy: the registry cannot be written.
        """
        return self._commit(who, why, lambda before: changes.archive(before, digests))

    def collect(self, *, keep: int = KEPT, who: str, why: str = "") -> tuple[str, ...]:
        """Delete bundles that nothing names, and what kills left; returns the digests that went.

        Args:
            keep: the latest of them stay: former champions first, then the latest added.
            who: is doing it.
            why: the reason.

        Raises:
            UsageError: the number is negative.
            StorageFailed, OutputBusy: the registry cannot be written.
        """
        if changes.collect(self.pointer(), keep).numbers["digests"]:
            self._commit(who, why, lambda before: changes.collect(before, keep))
        with held(self.path) as (_, now):
            return remove_unknown(self.path, now.bundles)

    def trust(self, public_key: Path, *, who: str, why: str = "") -> str:
        """From now on take only bundles that a trusted key signed; returns its fingerprint.

        Raises:
            InvalidKeys: it is not a public key.
            ChangeRefused: a channel has a bundle that it did not sign.
            StorageFailed, OutputBusy: the registry cannot be written.
        """
        key = read_public_key(public_key)
        name = fingerprint_of(key)
        self._commit(who, why, lambda now: self._trusting(now, name, key))
        return name

    def revoke(self, fingerprint: str, *, who: str, why: str = "") -> Pointer:
        """No longer trust a key, which is named by its fingerprint or the first digits of it.

        Raises:
            ChangeRefused: the registry does not trust such a key.
            StorageFailed, OutputBusy: the registry cannot be written.
        """
        return self._commit(who, why, lambda now: changes.revoke(now, fingerprint))

    def verify(self) -> tuple[Finding, ...]:
        """Return what is wrong: with events, bundles, signatures and reports.

        Raises:
            RegistryCorrupt: the pointer itself cannot be used.
        """
        return find_problems(self)

    def _trusting(self, before: Pointer, name: str, key: str) -> Change | None:
        """Return the change; refuse it if a service could not load what it serves any more."""
        if name in before.trusted_keys:
            return None
        change = changes.trust(before, name, key)
        for digest in changes.served(before):
            known = changes.registered_as(before, digest)
            prove(self.path, load_bundle(self.bundle(digest)), known, change.after.trusted_keys)
        return change

    def _gate(self, digest: str, report: Path | None, otherwise: str = "") -> str:
        """Return the SHA-256 of the gate report that a bundle passed.

        Args:
            digest: of the bundle.
            report: the file of the report; the latest in the registry if left out.
            otherwise: what else can be done without one.

        Raises:
            ChangeRefused: there is none.
        """
        passed = passed_report(self.path / REPORTS, digest, report)
        if passed is None:
            raise ChangeRefused(
                f"no gate report says that {digest[:SHOWN_DIGITS]} passed. Run `classmark registry "
                f"gate {digest[:SHOWN_DIGITS]}`{otherwise}."
            )
        return passed

    def _commit(
        self,
        who: str,
        why: str,
        make: Callable[[Pointer], Change | None],
        seen: int | None = None,
    ) -> Pointer:
        after = commit(self.path, make, who=who, why=why, seen=seen)
        self._seen = after.sequence
        return after


_OR_FORCE = ", or promote it with --force and a reason"


def _check_labels(candidate: Bundle, labels: tuple[str, ...]) -> None:
    new, old = set(candidate.manifest.labels), set(labels)
    if new != old:
        first = min(new ^ old)
        raise LabelMismatch(
            f"the candidate has {len(new - old)} labels that the champion lacks, and lacks "
            f"{len(old - new)} of its labels (first: {first!r}). Choose another candidate, or give "
            "--allow-label-change; answers then say so."
        )
