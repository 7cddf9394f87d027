"""Signed bundles: what is not signed by a trusted key, or is not what was signed, is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from classmark.bundle import read_digest, read_manifest, write_bundle
from classmark.bundle.manifest import manifest_seal
from classmark.errors import (
    BundleCorrupt,
    ChangeRefused,
    ClassmarkError,
    InvalidKeys,
    SignatureRefused,
    StorageFailed,
)
from classmark.records import Pointer
from classmark.records.registry import canonical
from classmark.registry import Proof, Registry
from classmark.registry.documents import read_pointer, write_pointer
from classmark.registry.signatures import create_key, fingerprint_of, read_public_key
from registry_folders import WHO, registry, report_of, write_tiny
from spoilt_bundles import rewrite
from tiny_bundles import tiny_manifest

__all__ = ["registry"]

_CASE = 0x20
"""Turns a letter into the other case, which hexadecimal digits and base64 must not accept."""

pytestmark = pytest.mark.skipif(
    find_spec("model_signing") is None, reason="the extra sign is not installed"
)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return the file of a private key; its public key is beside it."""
    create_key(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def signed(registry: Registry, key: Path, tmp_path: Path) -> list[str]:
    """Return the digests of two bundles of a registry that trusts the key which signed them."""
    registry.trust(public_of(key), who=WHO)
    return [
        registry.add(write_tiny(tmp_path / version, version), who=WHO, proof=Proof(key=key))
        for version in ("1.0", "2.0")
    ]


def public_of(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def signature_of(registry: Registry, digest: str) -> Path:
    return registry.path / "signatures" / digest


def forge_pointer(registry: Registry, pointer: Pointer) -> None:
    """Write a pointer as someone who can write the folder would."""
    write_pointer(registry.path / "pointer.json", pointer)


def test_a_private_key_is_for_its_owner_alone_and_not_replaced(tmp_path: Path) -> None:
    name = create_key(tmp_path / "key")
    assert os.name == "nt" or (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert name == fingerprint_of(read_public_key(tmp_path / "key.pub"))
    with pytest.raises(StorageFailed, match="already exists, and a key is not replaced"):
        create_key(tmp_path / "key")


def test_a_signed_bundle_loads_and_its_counter_rises(registry: Registry, signed: list[str]) -> None:
    assert [registry.load(digest).digest for digest in signed] == signed
    pointer = registry.pointer()
    assert [pointer.bundles[digest].counter for digest in signed] == [1, 2]
    assert registry.verify() == ()


def test_model_signing_itself_verifies_a_signature_and_refuses_another_bundle(
    registry: Registry, signed: list[str], key: Path
) -> None:
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=public_of(key))
    config.verify(registry.bundle(signed[0]), signature_of(registry, signed[0]))
    with pytest.raises(ValueError, match="mismatch"):
        config.verify(registry.bundle(signed[1]), signature_of(registry, signed[0]))


def test_verifying_loads_nothing_but_what_checks_a_signature(
    registry: Registry, signed: list[str]
) -> None:
    code = (
        "import sys; from pathlib import Path; from classmark.registry import Registry\n"
        f"Registry.open(Path({str(registry.path)!r})).load({signed[0]!r})\n"
        "sys.exit(bool({'model_signing', 'sigstore', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_a_key_is_trusted_an_unsigned_bundle_is_refused(
    registry: Registry, signed: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SignatureRefused, match="is not signed, and the registry trusts signed"):
        registry.add(write_tiny(tmp_path / "u", "3.0"), who=WHO)
    signature_of(registry, signed[0]).unlink()
    with pytest.raises(SignatureRefused, match=f"{signed[0]} is not signed"):
        registry.load(signed[0])


def test_a_bundle_that_another_key_signed_is_refused(
    registry: Registry, signed: list[str], tmp_path: Path
) -> None:
    create_key(tmp_path / "theirs")
    theirs = Registry.create(tmp_path / "other", who=WHO)
    theirs.trust(tmp_path / "theirs.pub", who=WHO)
    proof = Proof(key=tmp_path / "theirs")
    with pytest.raises(SignatureRefused, match=r"made with the key .* which is not trusted"):
        registry.add(write_tiny(tmp_path / "t", "3.0"), who=WHO, proof=proof)
    theirs.add(registry.bundle(signed[0]), who=WHO, proof=proof)
    shutil.copy(signature_of(theirs, signed[0]), signature_of(registry, signed[0]))
    with pytest.raises(SignatureRefused, match=f"signatures/{signed[0]} was made with the key"):
        registry.load(signed[0])


def test_a_revoked_key_signs_nothing_more(
    registry: Registry, signed: list[str], key: Path, tmp_path: Path
) -> None:
    create_key(tmp_path / "second")
    with pytest.raises(ChangeRefused, match="'0000' names 0 of the trusted keys"):
        registry.revoke("0000", who=WHO)
    registry.trust(tmp_path / "second.pub", who=WHO)
    registry.revoke(fingerprint_of(read_public_key(public_of(key)))[:12], who=WHO)
    with pytest.raises(SignatureRefused, match="not trusted"):
        registry.load(signed[0])


def test_a_key_is_not_trusted_while_what_serves_is_not_signed_with_it(
    registry: Registry, key: Path, tmp_path: Path
) -> None:
    digest = registry.add(write_tiny(tmp_path / "a", "1.0"), who=WHO)
    registry.keep_report(report_of(digest))
    registry.promote(digest, who=WHO)
    with pytest.raises(SignatureRefused, match="is not signed"):
        registry.trust(public_of(key), who=WHO)
    registry.add(tmp_path / "a", who=WHO, proof=Proof(key=key))
    registry.trust(public_of(key), who=WHO)
    assert registry.load(digest).digest == digest


def forged(registry: Registry, digest: str) -> str:
    """Replace a bundle by another one as a forger would: every digest is right again."""
    pointer = read_pointer(registry.path / "pointer.json")
    old = registry.path / "bundles" / digest
    rewrite(old, files={"CARD.md": b"# Trust me\n"})
    manifest = read_manifest(old)
    arrays = {"weights": np.load(old / "arrays" / "weights.npy") * 2}
    write_bundle(old, manifest, arrays, {"CARD.md": "# Trust me\n"}, overwrite=True)
    new, seal = read_digest(old), manifest_seal(read_manifest(old))
    old.rename(old.with_name(new))
    signature_of(registry, digest).rename(signature_of(registry, new))
    known = {new if d == digest else d: k for d, k in pointer.bundles.items()}
    known[new] = replace(known[new], seal=seal)
    forge_pointer(registry, replace(pointer, bundles=known))
    return new


def test_a_consistent_forgery_passes_digests_and_fails_signatures(
    registry: Registry, signed: list[str]
) -> None:
    new = forged(registry, signed[0])
    with pytest.raises(SignatureRefused, match=r"CARD\.md is not what was signed"):
        registry.load(new)
    forge_pointer(registry, replace(read_pointer(registry.path / "pointer.json"), trusted_keys={}))
    assert registry.load(new).content("CARD.md") == b"# Trust me\n"


def test_a_forger_who_trusts_his_own_key_fails_where_the_key_is_given_from_outside(
    registry: Registry, signed: list[str], key: Path, tmp_path: Path
) -> None:
    new = forged(registry, signed[0])
    create_key(tmp_path / "his")
    pointer = read_pointer(registry.path / "pointer.json")
    forge_pointer(registry, replace(pointer, trusted_keys={}))
    registry.add(registry.bundle(new), who="forger", proof=Proof(key=tmp_path / "his"))
    public = read_public_key(tmp_path / "his.pub")
    pointer = replace(registry.pointer(), trusted_keys={fingerprint_of(public): public})
    forge_pointer(registry, pointer)
    assert registry.load(new).digest == new
    with pytest.raises(SignatureRefused, match="not trusted"):
        Registry.open(registry.path, trusted_keys=[public_of(key)]).load(new)


def test_an_old_signed_version_does_not_come_back_as_a_newer_one(
    registry: Registry, signed: list[str], key: Path, tmp_path: Path
) -> None:
    old, new = signed
    kept = shutil.copy(signature_of(registry, old), tmp_path / "old.sig")
    for digest in signed:
        registry.keep_report(report_of(digest))
        registry.promote(digest, who=WHO)
    with pytest.raises(ChangeRefused, match="signed as number 1, the champion as number 2"):
        registry.promote(old, who=WHO)
    assert registry.collect(keep=0, who=WHO) == (old,)
    with pytest.raises(ChangeRefused, match="signs number 1, and number 2 was added already"):
        registry.add(tmp_path / "1.0", who=WHO, proof=Proof(signature=Path(kept)))
    relabelled = write_bundle(
        tmp_path / "r",
        tiny_manifest("tiny", "9.0"),
        {"weights": registry.load(new).array("weights") - 1},
        {"CARD.md": "# Tiny\n"},
    )
    assert relabelled.version == "9.0"
    assert read_digest(tmp_path / "r") == old
    with pytest.raises(SignatureRefused, match=r"bundle\.json is not what was signed"):
        registry.add(tmp_path / "r", who=WHO, proof=Proof(signature=Path(kept)))


def test_an_older_signature_of_the_same_bundle_is_refused_at_load(
    registry: Registry, signed: list[str], key: Path, tmp_path: Path
) -> None:
    kept = shutil.copy(signature_of(registry, signed[0]), tmp_path / "old.sig")
    registry.add(tmp_path / "1.0", who=WHO, proof=Proof(key=key))
    assert registry.pointer().bundles[signed[0]].counter == 3
    shutil.copy(kept, signature_of(registry, signed[0]))
    with pytest.raises(SignatureRefused, match="is number 1, older than number 3"):
        registry.load(signed[0])


def test_a_signature_from_another_registry_is_taken_if_its_key_is_trusted(
    registry: Registry, signed: list[str], key: Path, tmp_path: Path
) -> None:
    other = Registry.create(tmp_path / "other", who=WHO)
    proof = Proof(signature=signature_of(registry, signed[0]))
    with pytest.raises(SignatureRefused, match="the registry trusts no key"):
        other.add(registry.bundle(signed[0]), who=WHO, proof=proof)
    other.trust(public_of(key), who=WHO)
    assert other.add(registry.bundle(signed[0]), who=WHO, proof=proof) == signed[0]
    assert other.add(registry.bundle(signed[0]), who=WHO, proof=proof) == signed[0]
    assert other.pointer().bundles[signed[0]].counter == 1


def test_what_is_no_key_is_named(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    folder = write_tiny(tmp_path / "a", "1.0")
    with pytest.raises(InvalidKeys, match="text is not a private key"):
        registry.add(folder, who=WHO, proof=Proof(key=tmp_path / "text"))
    with pytest.raises(InvalidKeys, match="missing cannot be read"):
        registry.add(folder, who=WHO, proof=Proof(key=tmp_path / "missing"))
    with pytest.raises(InvalidKeys, match="text is not a public key"):
        registry.trust(tmp_path / "text", who=WHO)
    with pytest.raises(InvalidKeys, match="missing cannot be read"):
        registry.trust(tmp_path / "missing", who=WHO)


def test_measurements_that_were_rewritten_are_refused(
    registry: Registry, key: Path, tmp_path: Path, category_report: object
) -> None:
    from classmark.bundle.manifest import render_measured

    make = category_report
    assert callable(make)
    folder = write_tiny(tmp_path / "a", "1.0")
    (folder / "measured.json").write_text(render_measured([make("cs.LG", 8, 4)]))
    registry.trust(public_of(key), who=WHO)
    digest = registry.add(folder, who=WHO, proof=Proof(key=key))
    path = registry.bundle(digest) / "measured.json"
    path.write_text(render_measured([make("cs.LG", 8, 8)]))
    with pytest.raises(SignatureRefused, match=r"measured\.json is not what was signed"):
        registry.load(digest)
    path.unlink()
    with pytest.raises(SignatureRefused, match=r"measured\.json is not what was signed"):
        registry.load(digest)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"verificationMaterial": {"publicKey": {"hint": []}}}',
        b"\xff",
        b"[" * 9999,
    ],
    ids=range(6),
)
def test_what_is_no_signature_is_refused(
    registry: Registry, signed: list[str], content: bytes
) -> None:
    signature_of(registry, signed[0]).write_bytes(content)
    with pytest.raises(SignatureRefused, match=f"signatures/{signed[0]} is not a signature"):
        registry.load(signed[0])


def test_a_signature_that_cannot_be_read_is_named(
    registry: Registry, signed: list[str], tmp_path: Path
) -> None:
    path = signature_of(registry, signed[0])
    path.unlink()
    path.mkdir()
    with pytest.raises(BundleCorrupt, match=f"signatures/{signed[0]} cannot be read"):
        registry.load(signed[0])
    proof = Proof(signature=tmp_path / "missing")
    with pytest.raises(InvalidKeys, match="missing cannot be read"):
        registry.add(write_tiny(tmp_path / "n", "5.0"), who=WHO, proof=proof)


def test_a_signature_of_model_signing_alone_has_no_counter_and_is_refused(
    registry: Registry, signed: list[str], key: Path
) -> None:
    from model_signing import signing

    path = signature_of(registry, signed[0])
    config = signing.Config().use_elliptic_key_signer(private_key=key)
    config.sign(registry.bundle(signed[0]), path)
    path.write_bytes(canonical(json.loads(path.read_bytes())))
    with pytest.raises(SignatureRefused, match="states no counter"):
        registry.load(signed[0])


@pytest.mark.parametrize("curve", ["SECP384R1", "SECP521R1"])
def test_keys_of_other_curves_sign_too(registry: Registry, tmp_path: Path, curve: str) -> None:
    write_key(tmp_path / "key", getattr(ec, curve)())
    digest = registry.add(
        write_tiny(tmp_path / "a", "1.0"), who=WHO, proof=Proof(key=tmp_path / "key")
    )
    registry.trust(tmp_path / "key.pub", who=WHO)
    assert registry.load(digest).digest == digest


def test_a_key_of_another_kind_is_refused(registry: Registry, tmp_path: Path) -> None:
    write_key(tmp_path / "key", ec.SECP256K1())
    with pytest.raises(InvalidKeys, match="it is of another kind"):
        registry.trust(tmp_path / "key.pub", who=WHO)
    with pytest.raises(InvalidKeys, match="is not a private key"):
        registry.add(write_tiny(tmp_path / "a", "1.0"), who=WHO, proof=Proof(key=tmp_path / "key"))


def write_key(path: Path, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(private)
    public_of(path).write_bytes(public)


@pytest.mark.parametrize(
    ("package", "extra"), [("model_signing", "sign"), ("cryptography", "verify")]
)
def test_a_missing_package_names_its_extra(
    registry: Registry, signed: list[str], key: Path, tmp_path: Path, package: str, extra: str
) -> None:
    code = f"""
import sys
sys.modules[{package!r}] = None
from pathlib import Path
from classmark.errors import MissingExtra
from classmark.registry import Proof, Registry
registry = Registry.open(Path({str(registry.path)!r}))
try:
    if {extra!r} == "verify":
        registry.load({signed[0]!r})
    else:
        assert registry.load({signed[0]!r})
        registry.add(Path({str(tmp_path / "1.0")!r}), who="x", proof=Proof(key=Path({str(key)!r})))
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'classmark[{extra}]'" in done.stdout, done.stderr


@pytest.mark.slow  # reason: loads a bundle once for each changed byte
def test_every_changed_byte_of_every_file_is_refused_and_the_file_named(
    registry: Registry, key: Path, tmp_path: Path, category_report: object
) -> None:
    from classmark.bundle.manifest import render_measured

    make = category_report
    assert callable(make)
    folder = write_tiny(tmp_path / "a", "1.0")
    (folder / "measured.json").write_text(render_measured([make("cs.LG", 8, 4)]))
    registry.trust(public_of(key), who=WHO)
    digest = registry.add(folder, who=WHO, proof=Proof(key=key))
    inside = [p for p in registry.bundle(digest).rglob("*") if p.is_file()]
    assert len(inside) == 4
    for path in (*inside, signature_of(registry, digest), registry.path / "pointer.json"):
        whole = path.read_bytes()
        damaged = [
            whole[:place]
            + bytes([byte ^ (_CASE if chr(byte).isalpha() else 1)])
            + whole[place + 1 :]
            for place, byte in enumerate(whole)
        ]
        for content in (*damaged, whole[:-1], whole + b"\n", b""):
            path.write_bytes(content)
            with pytest.raises(ClassmarkError, match=path.name):
                Registry.open(registry.path).load(digest)
        path.write_bytes(whole)
    assert registry.load(digest).digest == digest


def test_a_changed_file_is_named_without_signatures_too(registry: Registry, tmp_path: Path) -> None:
    digest = registry.add(write_tiny(tmp_path / "a", "1.0"), who=WHO)
    path = registry.bundle(digest) / "arrays" / "weights.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleCorrupt, match=r"weights\.npy has changed"):
        registry.load(digest)
    (found,) = registry.verify()
    assert (found.file, "weights.npy" in found.problem) == (f"bundles/{digest}", True)
    registry.add(tmp_path / "a", who=WHO)
    assert registry.verify() == ()


def test_the_statement_names_the_counter_and_every_file(
    registry: Registry, signed: list[str]
) -> None:
    import base64

    envelope = json.loads(signature_of(registry, signed[0]).read_bytes())
    statement = json.loads(base64.b64decode(envelope["dsseEnvelope"]["payload"]))
    assert statement["predicate"]["classmark"] == {"counter": "1"}
    names = {item["name"] for item in statement["predicate"]["resources"]}
    assert names == {"bundle.json", "CARD.md", "arrays/weights.npy"}
