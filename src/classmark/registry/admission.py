"""Which bundle may enter a registry, and whether the one on its shelf is still that one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from classmark.bundle import Bundle
from classmark.bundle.manifest import manifest_seal
from classmark.errors import (
    BundleCorrupt,
    ChangeRefused,
    InvalidKeys,
    SignatureRefused,
    unreadable,
)
from classmark.records import Pointer, Registered
from classmark.registry import changes
from classmark.registry.changes import Change
from classmark.registry.shelf import BUNDLES, SIGNATURES, copy_in, unlike
from classmark.registry.signatures import (
    Statement,
    check_files,
    own_public_key,
    sign,
    verified_statement,
)
from classmark.storage import atomic_file

_UNSIGNED = (
    "is not signed, and the registry trusts signed bundles only. Sign it with `classmark registry "
    "add --sign KEY`"
)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How a bundle proves where it comes from.

    Attributes:
        signature: file of a signature that was made elsewhere.
        key: file of a private key to sign it with.
    """

    signature: Path | None = None
    key: Path | None = None


NO_PROOF = Proof()


def admit(
    folder: Path, before: Pointer, bundle: Bundle, proof: Proof, trusted: Mapping[str, str]
) -> Change | None:
    """Copy a bundle and its signature to their places; returns the change, None for none.

    Args:
        folder: of the registry, which no other process changes now.
        before: its state.
        bundle: to add.
        proof: that it is signed.
        trusted: public keys, by fingerprint; with one, it must be.

    Raises:
        ChangeRefused: it answers as an existing one but is not the same, or its signature is
            older than one that was added.
        SignatureRefused: its signature is missing or invalid.
    """
    seal, known = manifest_seal(bundle.manifest), before.bundles.get(bundle.digest)
    target = folder / BUNDLES / bundle.digest
    if known is not None and known.seal != seal:
        raise ChangeRefused(
            f"{target} answers as {bundle.path} does, but its version, card or metrics differ, "
            "and bundles do not change. Use the existing one."
        )
    # Nothing is copied before the signature was verified.
    signature = _signature(before, bundle, proof, trusted)
    copied = copy_in(bundle, target, keep_sound=known is not None)
    if signature is not None:
        check_files(copied, signature.statement)
        with atomic_file(folder / SIGNATURES / bundle.digest) as file:
            file.write(signature.content)
    elif known is not None:
        prove(folder, copied, known, trusted)
        return None
    name, version = bundle.manifest.name, bundle.manifest.version
    counter = signature.statement.counter if signature else None
    registered = Registered(name=name, version=version, seal=seal, sequence=0, counter=counter)
    return changes.add(before, bundle.digest, registered)


def prove(folder: Path, bundle: Bundle, known: Registered, trusted: Mapping[str, str]) -> Bundle:
    """Return a bundle as it was loaded, if it is the one that was added and signed.

    Args, Raises: as ``proof_of``.
    """
    proof_of(folder, bundle, known, trusted)
    return bundle


def proof_of(
    folder: Path, bundle: Bundle, known: Registered, trusted: Mapping[str, str]
) -> Statement | None:
    """Return what a trusted key signed of the bundle that was added; None if no key is trusted.

    Args:
        folder: of the registry.
        bundle: loaded from its place there.
        known: what the registry says of it.
        trusted: public keys, by fingerprint.

    Raises:
        BundleCorrupt: it is another bundle.
        SignatureRefused: a key is trusted, and no signature of it fits.
    """
    if bundle.digest != bundle.path.name or manifest_seal(bundle.manifest) != known.seal:
        raise unlike(bundle.path)
    if not trusted:
        return None
    path = folder / SIGNATURES / bundle.digest
    statement = _read_statement(path, bundle, trusted)
    if statement.counter < (known.counter or 0):
        raise SignatureRefused(
            f"{path} is number {statement.counter}, older than number {known.counter} that was "
            "added. Restore it from a copy of the registry."
        )
    return statement


class _Signature(NamedTuple):
    """A signature that a trusted key made."""

    content: bytes
    statement: Statement


def _signature(
    before: Pointer, bundle: Bundle, proof: Proof, trusted: Mapping[str, str]
) -> _Signature | None:
    """Return the new signature of a bundle that is to be added; None if it has, or needs, none."""
    known = before.bundles.get(bundle.digest)
    if proof.key is not None:
        path, content = proof.key, sign(bundle.path, proof.key, before.newest_signed + 1)
        trusted = trusted or own_public_key(proof.key)
    elif proof.signature is not None:
        path, content = proof.signature, _content(proof.signature)
        if not trusted:
            raise SignatureRefused(
                f"{path} cannot be verified: the registry trusts no key. Name the public key "
                "first: `classmark registry keys trust`."
            )
    elif trusted and known is None:
        raise SignatureRefused(f"{bundle.path} {_UNSIGNED}.")
    else:
        return None
    statement = verified_statement(path, content, trusted)
    check_files(bundle, statement)
    if known is not None and known.counter == statement.counter:
        return None
    if statement.counter <= before.newest_signed:
        raise ChangeRefused(
            f"{path} signs number {statement.counter}, and number {before.newest_signed} was added "
            "already: an old version does not come back as a new one. Sign it again with "
            "`classmark registry add --sign KEY`."
        )
    return _Signature(content, statement)


def _read_statement(path: Path, bundle: Bundle, trusted: Mapping[str, str]) -> Statement:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SignatureRefused(f"{bundle.path} {_UNSIGNED}.") from error
    except OSError as error:
        raise BundleCorrupt(f"{path} {unreadable(error, 'Restore it')}") from error
    statement = verified_statement(path, content, trusted)
    check_files(bundle, statement)
    return statement


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidKeys(f"{path} {unreadable(error, 'Give the file of a signature')}") from error
