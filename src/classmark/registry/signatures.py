"""Signatures of bundles: made by model-signing, verified with cryptography alone.

A signature is a DSSE envelope over an in-toto statement, as model-signing writes and verifies it:
the SHA-256 of every file of the bundle. Ours also states a counter, which tells an old bundle from
a new one whatever its files say. Verifying needs only what checks the signature itself:
model-signing would cost each process of a service 1.3 s and 50 MB (decision 0065).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from classmark.bundle import Bundle
from classmark.bundle.files import MANIFEST_FILE
from classmark.bundle.manifest import MEASURED_FILE, read_measured_bytes, render_manifest
from classmark.errors import InvalidKeys, MissingExtra, SignatureRefused, StorageFailed, unreadable
from classmark.records.registry import canonical
from classmark.storage import write_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

PUBLIC_SUFFIX = ".pub"
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_OURS = "classmark"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MOST_KEY_BYTES = 10_000


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a trusted key signed.

    Attributes:
        counter: higher for every bundle that is signed for a registry.
        files: SHA-256 of every file of the bundle, by relative path.
        key: fingerprint of the key.
    """

    counter: int
    files: Mapping[str, str]
    key: str


def create_key(path: Path) -> str:
    """Write a new pair of keys: the private one to ``path``, for its owner alone, and ``.pub``.

    Returns the fingerprint.

    Raises:
        MissingExtra: what makes keys is not installed.
        StorageFailed: a file is there already, or cannot be written.
    """
    serialization, ec = _cryptography()
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for taken in (path, public_path):
        if taken.exists():
            raise StorageFailed(
                f"{taken} already exists, and a key is not replaced. Choose another."
            )
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = _spelled(key.public_key())
    write_text(path, private.decode(), private=True)
    write_text(public_path, public)
    return fingerprint_of(public)


def read_public_key(path: Path) -> str:
    """Return a public key in the one spelling that its fingerprint is made of.

    Raises:
        MissingExtra: what reads keys is not installed.
        InvalidKeys: it is not a public key of a kind that is supported.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_KEY_BYTES)
        return _spelled(_parsed(content.decode()))
    except OSError as error:
        raise InvalidKeys(f"{path} {unreadable(error, 'Give the file of a public key')}") from error
    except ValueError as error:
        raise InvalidKeys(
            f"{path} is not a public key of the curve P-256, P-384 or P-521 in PEM ({error}). Give "
            f"the {PUBLIC_SUFFIX} file that `classmark registry keys create` wrote."
        ) from error


def own_public_key(key: Path) -> dict[str, str]:
    """Return the public half of a private key, by its fingerprint.

    Raises:
        MissingExtra: model-signing is not installed.
        InvalidKeys: the key cannot be used.
    """
    serialization, _ = _cryptography()
    with _key_errors(key):
        public = _spelled(serialization.load_pem_private_key(key.read_bytes(), None).public_key())
    return {fingerprint_of(public): public}


@contextmanager
def _key_errors(key: Path) -> Iterator[None]:
    """Raise ``InvalidKeys`` for a private key that cannot be read."""
    try:
        yield
    except OSError as error:
        raise InvalidKeys(f"{key} {unreadable(error, 'Give the file of a private key')}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidKeys(
            f"{key} is not a private key that signs without a password. Give one that "
            "`classmark registry keys create` wrote."
        ) from error


def fingerprint_of(public_key: str) -> str:
    """Return the SHA-256 of a public key, which signatures name it by."""
    return sha256(public_key.encode()).hexdigest()


def sign(bundle: Path, key: Path, counter: int) -> bytes:
    """Return a signature of a bundle.

    Args:
        bundle: its folder.
        key: file of a private key.
        counter: that is stated with it.

    Raises:
        MissingExtra: model-signing is not installed.
        InvalidKeys: the key cannot be used.
    """
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        raise MissingExtra("signing a bundle", "sign") from error
    with _key_errors(key):
        signer = signing.ec_key.Signer(key)
    payload = signing.signing.Payload(hashing.Config().hash(bundle))
    # As text: the numbers of a predicate are floats.
    payload.statement.pb.predicate.update({_OURS: {"counter": str(counter)}})
    return canonical(json.loads(signer.sign(payload).bundle.to_json()))


def verified_statement(path: Path, content: bytes, keys: Mapping[str, str]) -> Statement:
    """Return what a trusted key signed.

    Args:
        path: of the signature, for errors.
        content: of it.
        keys: public keys that are trusted, by fingerprint.

    Raises:
        MissingExtra: what verifies is not installed.
        SignatureRefused: it is damaged, or of another key.
    """
    _cryptography()
    try:
        envelope = json.loads(content)
        hint = str(envelope["verificationMaterial"]["publicKey"]["hint"])
        payload, signature = _unpacked(envelope)
        is_whole = content == canonical(_packed(hint, payload, signature))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise _refused(path, "is not a signature") from error
    if not is_whole:
        raise _refused(path, "does not have the form of a signature")
    if hint not in keys:
        raise _refused(path, f"was made with the key {hint[:12]}, which is not trusted")
    _check(path, keys[hint], payload, signature)
    return _statement(path, payload, hint)


def check_files(bundle: Bundle, statement: Statement) -> None:
    """Compare a bundle, as it was loaded, with what was signed.

    Raises:
        SignatureRefused: a file is another one, missing or new; names it.
    """
    there = {name: file.sha256 for name, file in bundle.manifest.files.items()}
    there[MANIFEST_FILE] = sha256(render_manifest(bundle.manifest)).hexdigest()
    if measured := read_measured_bytes(bundle.path):
        there[MEASURED_FILE] = sha256(measured).hexdigest()
    for name in sorted(there.keys() | statement.files.keys()):
        if there.get(name) != statement.files.get(name):
            raise _refused(bundle.path / name, "is not what was signed")


def _check(path: Path, public_key: str, payload: bytes, signature: bytes) -> None:
    """Verify the signature of a DSSE envelope.

    Source: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signed = f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    key = _parsed(public_key)
    hash_of = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    try:
        key.verify(signature, signed, ec.ECDSA(hash_of[key.curve.key_size]))
    except InvalidSignature as error:
        raise _refused(path, "does not fit what it says was signed") from error


def _statement(path: Path, payload: bytes, key: str) -> Statement:
    try:
        predicate = json.loads(payload)["predicate"]
        files = {item["name"]: item["digest"] for item in predicate["resources"]}
        counter = int(predicate[_OURS]["counter"])
        is_ours = json.loads(payload)["predicateType"] == _PREDICATE_TYPE
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(path, "states no counter: it was not made for a registry") from error
    if not is_ours or counter < 1:
        raise _refused(path, "states nothing that a registry would sign")
    return Statement(counter=counter, files=files, key=key)


def _unpacked(envelope: dict[str, Any]) -> tuple[bytes, bytes]:
    dsse = envelope["dsseEnvelope"]
    return tuple(  # type: ignore[return-value]
        base64.b64decode(text, validate=True)
        for text in (dsse["payload"], dsse["signatures"][0]["sig"])
    )


def _packed(hint: str, payload: bytes, signature: bytes) -> dict[str, Any]:
    """Return all that a signature holds: with anything more or less it is not one."""
    sig = {"sig": base64.b64encode(signature).decode(), "keyid": ""}
    return {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [sig],
        },
    }


def _refused(path: Path, problem: str) -> SignatureRefused:
    return SignatureRefused(
        f"{path} {problem}. Restore the bundle and its signature, or sign the bundle with a "
        "trusted key: `classmark registry add --sign KEY`."
    )


def _parsed(public_key: str) -> EllipticCurvePublicKey:
    """Return a public key of a curve that model-signing signs with.

    Raises:
        ValueError: it is not one.
    """
    serialization, ec = _cryptography()
    try:
        key = serialization.load_pem_public_key(public_key.encode())
    except Exception as error:
        raise ValueError("it cannot be read") from error
    is_known = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
    if not is_known:
        raise ValueError("it is of another kind")
    return cast("EllipticCurvePublicKey", key)


def _spelled(key: EllipticCurvePublicKey) -> str:
    serialization, _ = _cryptography()
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(pem, form).decode()


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MissingExtra("verifying signatures", "verify") from error
    return serialization, ec
