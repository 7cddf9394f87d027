"""The file of rules: YAML that is read strictly, because a limit that is lost limits nothing."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from classmark.errors import InvalidGates
from classmark.evaluation.gate import GateRules, read_rules
from classmark.records.fields import parse_yaml

DEFAULT_RULES = "gate.yaml"
SAMPLE_RULES = "gate-sample.yaml"
"""For models of invented papers."""
MOST_BYTES = 1_000_000
_WHERE = "See `classmark registry gate --help`, and conf/gate.yaml for an example."


def read_rules_file(path: Path | None, packaged: str = DEFAULT_RULES) -> GateRules:
    """Return the rules of a YAML or JSON file; paths in it are relative to its folder.

    Args:
        path: of the file; None: rules of the package.
        packaged: which of these.

    Raises:
        InvalidGates: it cannot be read, a key is unknown or repeated, or a limit is
            impossible.
        MissingExtra: YAML cannot be read here.
    """
    name = f"the rules {path}" if path else f"the package's rules {packaged}"
    try:
        rules = read_rules(_parse(_text_of(path, packaged)))
    except (OSError, InvalidGates, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise InvalidGates(f"{name} cannot be used: {reason}. {_WHERE}") from error
    return _from_folder(rules, path.parent) if path else rules


def read_yaml(path: Path) -> object:
    """Return what a YAML or JSON file says, read strictly.

    Raises:
        OSError, ValueError, RecursionError: it cannot be read, is not YAML, repeats a key, or has
            an alias.
        MissingExtra: YAML cannot be read here.
    """
    return _parse(_text_of(path, ""))


def _text_of(path: Path | None, packaged: str) -> str:
    content = path.read_bytes() if path else (files("classmark.conf") / packaged).read_bytes()
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, at most {MOST_BYTES:,} are read")
    return content.decode("utf-8-sig")


def _parse(text: str) -> object:
    return parse_yaml(text, "reading rules", "train")


def _from_folder(rules: GateRules, folder: Path) -> GateRules:
    """Return rules whose paths begin where their file is."""
    if rules.robustness is not None and rules.robustness.gates is not None:
        gates = folder / rules.robustness.gates
        rules = replace(rules, robustness=replace(rules.robustness, gates=gates))
    if rules.goldens is not None:
        rules = replace(rules, goldens=replace(rules.goldens, file=folder / rules.goldens.file))
    if rules.fit is not None:
        trained_on = tuple(folder / place for place in rules.fit.trained_on)
        rules = replace(rules, fit=replace(rules.fit, trained_on=trained_on))
    return rules
