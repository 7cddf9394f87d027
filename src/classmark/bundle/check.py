"""What a manifest may say: a bundle that is written obeys it, one that is loaded is held to it.

A digest proves that nothing changed since the manifest was written, not that what was written makes
sense. Texts are safe in a header field, a terminal and a page; numbers are finite and in range.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from classmark.bundle.find import DIGEST_PATTERN, NAME_PATTERN, VERSION_PATTERN
from classmark.records import BundleManifest
from classmark.records.manifests import BundleFile, Policy

ARRAYS_FOLDER = "arrays"
MOST_LABELS = 10_000
MOST_NAME_CHARS, MOST_LABEL_CHARS = 64, 200
MOST_COLUMN_CHARS = 10_000
MOST_FILES = 1000
MOST_BYTES = (2 << 30) - 1
"""All files together: as much as an ONNX model with its weights inside can have."""
MOST_DEPTH = 32
TEMPERATURES = (1e-6, 1e6)
MOST_SCOPE = 1e6
MOST_SET_TERMS = 1000
LABEL_SPACES = ("arxiv", "free")
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_ARRAY_FILE = re.compile(rf"{ARRAYS_FOLDER}/[A-Za-z0-9_]+\.npy", re.ASCII)
_SHOWN_CHARS = 60


def manifest_problem(manifest: BundleManifest) -> str | None:
    """Return what is wrong with a manifest, as a sentence with the value; None if it is sound."""
    return next(_problems(manifest), None)


def is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    """Tell whether a value is a number, not a Boolean, within these bounds."""
    return (type(value) is int or type(value) is float) and low <= value <= high


def is_safe_text(value: object, most_chars: int) -> bool:
    """Tell whether a value is one short line without characters that control what shows it.

    Control characters, marks that turn the direction of writing, and half surrogates are not
    printable; white space at the ends would be cut off in a header field.
    """
    return (
        isinstance(value, str)
        and 0 < len(value) <= most_chars
        and value.isprintable()
        and value == value.strip()
    )


def is_safe_file_name(name: str) -> bool:
    """Tell whether a relative path stays in its folder on every system, and is not hidden."""
    return all(_SAFE_PART.fullmatch(part) for part in name.split("/"))


def is_array_file(name: str) -> bool:
    """Tell whether a relative path is where an array is kept."""
    return _ARRAY_FILE.fullmatch(name) is not None


def is_deeper(value: object, depth: int) -> bool:
    """Tell whether a JSON value has more than so many levels; never recurses."""
    level = [value]
    for _ in range(depth):
        level = [
            item
            for parent in level
            if isinstance(parent, dict | list)
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return bool(level)


def shown(value: object) -> str:
    """Return a value as an error shows it: its beginning, in ASCII."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _problems(manifest: BundleManifest) -> Iterator[str]:
    yield from _of_names(manifest)
    yield from _of_labels(manifest)
    if not isinstance(manifest.policy, Policy):
        yield f"policy is {shown(manifest.policy)}, it must be an object."
    yield from _of_policy(manifest.policy, len(manifest.labels))
    yield from _of_files(manifest.files)
    for name in ("parameters", "metrics", "provenance", "authors"):
        if not isinstance(getattr(manifest, name), dict):
            yield f"{name} is {shown(getattr(manifest, name))}, it must be an object."
    yield from _of_columns(manifest.columns)


def _of_names(manifest: BundleManifest) -> Iterator[str]:
    name, version = manifest.name, manifest.version
    if not (is_safe_text(name, MOST_NAME_CHARS) and NAME_PATTERN.fullmatch(name)):
        yield (
            f"bundle name {shown(name)} must be a letter, then [A-Za-z0-9_-], of at most "
            f"{MOST_NAME_CHARS} characters."
        )
    if not (is_safe_text(version, MOST_NAME_CHARS) and VERSION_PATTERN.fullmatch(version)):
        yield (
            f"bundle version {shown(version)} must be numbers and dots: 1.0, of at most "
            f"{MOST_NAME_CHARS} characters."
        )
    for field in ("kind", "text_recipe", "featuriser", "taxonomy"):
        value = getattr(manifest, field)
        if not (is_safe_text(value, MOST_NAME_CHARS) or (field == "taxonomy" and value == "")):
            yield (
                f"{field} {shown(value)} must be printable text of at most {MOST_NAME_CHARS} "
                "characters."
            )
    if manifest.label_space not in LABEL_SPACES:
        yield f"label_space {shown(manifest.label_space)} must be {' or '.join(LABEL_SPACES)}."


def _of_labels(manifest: BundleManifest) -> Iterator[str]:
    labels = manifest.labels
    if not isinstance(labels, tuple):
        yield f"labels are {shown(labels)}, they must be a list."
    k = len(labels)
    if k > MOST_LABELS:
        yield f"a bundle has at most {MOST_LABELS:,} labels, got {k:,}."
    for label in labels:
        if not is_safe_text(label, MOST_LABEL_CHARS):
            yield (
                f"label {shown(label)} must be printable text of at most {MOST_LABEL_CHARS} "
                "characters, without spaces at its ends."
            )
    if k < 2 or len(set(labels)) != k:
        twice = next((label for label in labels if labels.count(label) > 1), None)
        repeated = "" if twice is None else f", {shown(twice)} more than once"
        yield f"a bundle needs two or more labels, all different; got {k}{repeated}."


def _of_columns(columns: object) -> Iterator[str]:
    if not isinstance(columns, dict):
        yield f"columns is {shown(columns)}, it must be an object."
        return
    for field, column in columns.items():
        if not (isinstance(column, str) and 0 < len(column) <= MOST_COLUMN_CHARS):
            yield f"column {shown(column)} of {shown(field)} must be the name of a column."


def _of_policy(policy: Policy, k: int) -> Iterator[str]:
    numbers = (policy.thresholds, policy.cross_list_thresholds, policy.scope_weights)
    if not all(isinstance(values, tuple) for values in numbers):
        yield "thresholds and scope_weights of the policy must be lists."
    lengths = (len(policy.thresholds), len(policy.cross_list_thresholds))
    if lengths != (k, k):
        yield (
            f"a bundle of {k} labels needs {k} thresholds of each kind, got {lengths[0]} for "
            f"acceptance and {lengths[1]} for cross-lists."
        )
    if not is_number(policy.temperature, *TEMPERATURES):
        yield (
            f"the temperature must be above 0, got {shown(policy.temperature)} (from "
            f"{TEMPERATURES[0]:g} to {TEMPERATURES[1]:g})."
        )
    for name in ("thresholds", "cross_list_thresholds"):
        for value in getattr(policy, name):
            if not is_number(value, 0, 1):
                yield f"{name} must be within 0..1, got {shown(value)}."
    yield from _of_sets(policy)
    scope = (*policy.scope_weights, policy.scope_threshold)
    if len(scope) != 4 or not all(is_number(v, -MOST_SCOPE, MOST_SCOPE) for v in scope):
        yield (
            f"scope_weights must be 3 numbers and scope_threshold one, within ±{MOST_SCOPE:g}; got "
            f"{shown(scope)}."
        )


def _of_sets(policy: Policy) -> Iterator[str]:
    own = () if policy.author_set_threshold is None else ("author_set_threshold",)
    for name in ("set_threshold", "set_coverage", *own):
        if not is_number(getattr(policy, name), 0, 1):
            yield f"{name} must be within 0..1, got {shown(getattr(policy, name))}."
    if type(policy.set_terms) is not int or not 0 <= policy.set_terms <= MOST_SET_TERMS:
        yield (
            f"set_terms must be a whole number within 0..{MOST_SET_TERMS}, got "
            f"{shown(policy.set_terms)}."
        )


def _of_files(files: Mapping[str, BundleFile]) -> Iterator[str]:
    if len(files) > MOST_FILES:
        yield f"a bundle has at most {MOST_FILES} files, got {len(files):,}."
    for name, file in files.items():
        if name.startswith(f"{ARRAYS_FOLDER}/") and not is_array_file(name):
            yield f"file {shown(name)} must be {ARRAYS_FOLDER}/NAME.npy."
        if not (isinstance(file.sha256, str) and DIGEST_PATTERN.fullmatch(file.sha256)):
            yield f"the SHA-256 of {shown(name)} must be 64 hexadecimal digits."
        if type(file.bytes) is not int or file.bytes < 0:
            yield f"the size of {shown(name)} must be a whole number, got {shown(file.bytes)}."
    if sum(file.bytes for file in files.values()) > MOST_BYTES:
        yield f"the files of a bundle have at most {MOST_BYTES:,} bytes in all."
