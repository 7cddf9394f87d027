"""``classmark lineage``: from an answer to the version, bundle, gate, data and commit behind it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from classmark.bundle import read_digest, write_bundle
from classmark.cli.app import app
from classmark.journal import JournalConfig, Place
from classmark.journal.place import Address
from classmark.journal.writer import writer_for
from classmark.records import Compared, PredictionEvent, new_prediction_id, utc_text
from classmark.registry import Proof, Registry
from classmark.registry.signatures import create_key, fingerprint_of, read_public_key
from classmark.wire import ModelRef
from postgres_server import PostgresServer
from registry_folders import add_passed, report_of
from tiny_bundles import tiny_manifest

COMMIT, DATA = "c" * 40, "d" * 64
PROVENANCE = {
    "dataset_digest": DATA,
    "commit": COMMIT,
    "config": {"model": {"kind": "linear"}},
    "seed": 7,
    "command": "classmark train",
}
BEFORE_ALL = "2020-01-01T00:00:00.000Z"
with_signing = pytest.mark.skipif(
    find_spec("model_signing") is None, reason="the extra sign is not installed"
)


@pytest.fixture
def bundle(models_home: Path) -> Path:
    """Return an installed model that says where it comes from."""
    folder = models_home / "lin-3.0"
    write_bundle(folder, tiny_manifest("lin", "3.0", provenance=PROVENANCE), {})
    return folder


@pytest.fixture
def registry(tmp_path: Path, bundle: Path) -> Registry:
    """Return a registry whose champion is that model, which passed the gate."""
    made = Registry.create(tmp_path / "registry", who="me@here")
    digest = made.add(bundle, who="release@ci", why="weekly")
    made.keep_report(report_of(digest))
    made.promote(digest, who="ops@desk", why="better")
    return made


def answered(bundle: Path, place: Place, **changes: Any) -> str:
    """Write an answer of a model into a journal; return its id."""
    name, version = bundle.name.split("-")
    values: dict[str, Any] = {
        "prediction_id": new_prediction_id(),
        "at_utc": utc_text(),
        "model": ModelRef(name, version, read_digest(bundle)),
        "paper_id": "2401.00001",
        "text_fingerprint": "0123456789abcdef",
        "primary": "cs.LG",
        "reason": "accepted",
        "ranked": (("cs.LG", 0.75), ("stat.ML", 0.125)),
        "set": (),
        "cross_lists": (),
        "known_share": 0.5,
        "n_chars": 900,
        "n_words": 140,
        "latex_share": 0.25,
        "latency_ms": 1.5,
        "client": "a1b2",
        "service_version": "1.2.3",
    }
    event = PredictionEvent(**{**values, **changes})
    writer = writer_for(JournalConfig(path=place))
    writer.write([event])
    writer.close()
    return event.prediction_id


def run(prediction_id: str, journal: object, *options: object) -> Result:
    words = ("lineage", prediction_id, "--journal", journal, *options)
    return CliRunner().invoke(app, list(map(str, words)))


def facts(prediction_id: str, journal: object, *options: object) -> dict[str, Any]:
    result = run(prediction_id, journal, *options, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def lines(prediction_id: str, journal: object, *options: object) -> dict[str, str]:
    result = run(prediction_id, journal, *options)
    assert result.exit_code == 0, result.stderr
    rows = [line.partition("  ") for line in result.stdout.splitlines()]
    return {name: value.strip() for name, _, value in rows}


def test_an_answer_leads_to_version_bundle_events_gate_data_and_commit(
    registry: Registry, bundle: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.sqlite"
    asked = answered(bundle, journal)
    found = facts(asked, journal, "--registry", registry.path)
    assert list(found) == [
        *("prediction", "service_version", "bundle", "signature", "registry", "gate_report"),
        "lineage",
    ]
    assert found["prediction"]["prediction_id"] == asked
    assert (found["prediction"]["first"], found["prediction"]["probability"]) == ("cs.LG", 0.75)
    assert (found["prediction"]["client"], found["service_version"]) == ("a1b2", "1.2.3")
    assert found["bundle"] == {
        **{"name": "lin", "version": "3.0", "digest": read_digest(bundle), "kind": "linear"},
        **{"place": "registry", "problem": None},
    }
    assert found["signature"] == {"number": None, "key": None, "problem": None}
    assert found["registry"]["channel"] == "champion"
    assert [event["action"] for event in found["registry"]["events"]] == ["add", "promote"]
    gate = found["gate_report"]
    assert (gate["passed"], gate["failed"], gate["checked"], gate["problem"]) == (True, 0, 1, None)
    assert (registry.path / "reports" / f"{gate['digest']}.json").is_file()
    origin = found["lineage"]
    assert {name: origin[name] for name in PROVENANCE} == PROVENANCE
    assert (origin["gate_report"], origin["parents"]) == (
        gate["digest"],
        {"champion_before": None},
    )


def test_people_read_the_same_as_lines(registry: Registry, bundle: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    other = Compared(
        model=ModelRef("new", "4.0", "e" * 64),
        primary=None,
        code="stat.ML",
        probability=0.5,
        latency_ms=1.0,
    )
    asked = answered(bundle, journal, compared=other)
    shown = lines(asked, journal, "--registry", registry.path)
    assert shown["answer"] == "cs.LG 0.750 (accepted)"
    assert shown["asked by"] == "key a1b2"
    assert shown["compared"] == "new@4.0: stat.ML 0.500"
    assert shown["service"] == "classmark 1.2.3"
    assert shown["bundle"] == "lin@3.0, linear"
    assert shown["signature"] == "none: the bundle is not signed"
    assert shown["event 2"].endswith("add by release@ci: weekly")
    assert shown["event 3"].endswith("promote by ops@desk: better")
    assert shown["gate report"].startswith("passed, 1 of 1 checks; 2026-01-01")
    assert (shown["dataset_digest"], shown["commit"]) == (DATA, COMMIT)
    assert shown["config.model.kind"] == "linear"


def test_without_a_registry_the_bundle_is_found_among_the_installed(
    bundle: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.sqlite"
    asked = answered(bundle, journal, service_version="", primary=None, reason="below_threshold")
    found = facts(asked, journal)
    assert (found["signature"], found["registry"], found["gate_report"]) == (None, None, None)
    assert (found["bundle"]["place"], found["lineage"]["commit"]) == ("user", COMMIT)
    assert found["service_version"] is None
    shown = lines(asked, journal)
    assert shown["answer"] == "abstained, first: cs.LG 0.750 (below_threshold)"
    assert shown["service"] == "not kept: an older classmark answered"
    assert (shown["registry"], shown["gate report"]) == ("none", "none: there is no registry")


def test_the_registry_of_the_home_folder_is_the_default(
    bundle: Path, models_home: Path, tmp_path: Path
) -> None:
    made = Registry.create(models_home.parent / "registry", who="me@here")
    made.add(bundle, who="me@here")
    found = facts(answered(bundle, tmp_path / "j.sqlite"), tmp_path / "j.sqlite")
    assert found["registry"]["path"] == str(made.path)
    assert found["bundle"]["place"] == "registry"


def test_a_bundle_that_nothing_here_has_is_a_line_and_no_error(
    registry: Registry, bundle: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.sqlite"
    asked = answered(bundle, journal, model=ModelRef("lin", "3.0", "e" * 64))
    found = facts(asked, journal, "--registry", registry.path)
    assert found["lineage"] is None
    assert found["registry"] == {"path": str(registry.path), "channel": None, "events": []}
    shown = lines(asked, journal, "--registry", registry.path)
    assert shown["found"].startswith(f"neither in the registry {registry.path} nor among the inst")
    assert shown["signature"] == "none: no registry here has the bundle"


def test_only_what_happened_before_the_answer_counts(
    registry: Registry, bundle: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.sqlite"
    early = facts(
        answered(bundle, journal, at_utc=BEFORE_ALL), journal, "--registry", registry.path
    )
    assert (early["registry"]["channel"], early["registry"]["events"]) == (None, [])
    assert (early["gate_report"], early["lineage"]["promoted"]) == (None, None)
    asked = answered(bundle, journal)
    registry.promote(add_passed(registry, tmp_path, "4.0"), who="me@here")
    found = facts(asked, journal, "--registry", registry.path)
    assert found["registry"]["channel"] == "champion"
    late = facts(answered(bundle, journal), journal, "--registry", registry.path)
    assert late["registry"]["channel"] is None
    # The report that let the successor in says nothing of this bundle.
    assert late["gate_report"] == found["gate_report"]
    assert late["lineage"]["gate_report"] == found["gate_report"]["digest"]


def test_a_canary_and_how_it_ended(registry: Registry, bundle: Path, tmp_path: Path) -> None:
    journal, folder = tmp_path / "journal.sqlite", tmp_path / "tiny-5.0"
    digest = add_passed(registry, tmp_path, "5.0")
    registry.start_canary(digest, percent=5, rules={}, who="ops@desk")
    during = answered(folder, journal)
    registry.end_canary("promoted", {}, who="rules")
    after = answered(folder, journal)
    found = facts(during, journal, "--registry", registry.path)
    assert found["registry"]["channel"] == "challenger"
    assert found["lineage"]["parents"] == {}
    found = facts(after, journal, "--registry", registry.path)
    assert found["registry"]["channel"] == "champion"
    assert [event["action"] for event in found["registry"]["events"]] == [
        *("add", "start_canary", "end_canary"),
    ]
    assert found["gate_report"]["passed"] is True
    shown = lines(after, journal, "--registry", registry.path)
    assert any("end canary: promoted by rules" in value for value in shown.values())


def test_a_canary_that_ended_has_no_channel_any_more(registry: Registry, tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    digest = add_passed(registry, tmp_path, "5.0")
    registry.start_canary(digest, percent=5, rules={}, who="ops@desk")
    registry.rollback(who="ops@desk")
    late = answered(tmp_path / "tiny-5.0", journal)
    assert facts(late, journal, "--registry", registry.path)["registry"]["channel"] is None


@with_signing
def test_a_signature_is_verified_and_what_does_not_fit_is_a_line(
    bundle: Path, tmp_path: Path
) -> None:
    journal, key, stranger = tmp_path / "j.sqlite", tmp_path / "key", tmp_path / "stranger"
    for path in (key, stranger):
        create_key(path)
    registry = Registry.create(tmp_path / "registry", who="me@here")
    registry.add(bundle, who="me@here", proof=Proof(key=key))
    asked = answered(bundle, journal)
    options = ("--registry", registry.path)
    unknown = lines(asked, journal, *options)["signature"]
    assert unknown == "number 1, not verified: no key is trusted. Give --trusted-key."
    public = f"{key}.pub"
    found = facts(asked, journal, *options, "--trusted-key", public)
    name = fingerprint_of(read_public_key(Path(public)))
    assert found["signature"] == {"number": 1, "key": name, "problem": None}
    shown = lines(asked, journal, *options, "--trusted-key", public)
    assert shown["signature"] == f"number 1, verified with the key {name}"
    shown = lines(asked, journal, *options, "--trusted-key", f"{stranger}.pub")
    assert "does not verify: " in shown["signature"]
    assert "which is not trusted" in shown["signature"]


def test_a_report_or_a_bundle_that_is_damaged_is_a_line(
    registry: Registry, bundle: Path, tmp_path: Path
) -> None:
    journal, options = tmp_path / "journal.sqlite", ("--registry", registry.path)
    asked = answered(bundle, journal)
    report = next((registry.path / "reports").iterdir())
    report.write_bytes(report.read_bytes() + b" ")
    assert "was edited" in lines(asked, journal, *options)["gate report"]
    report.unlink()
    assert "Restore it" in facts(asked, journal, *options)["gate_report"]["problem"]
    (registry.path / "bundles" / read_digest(bundle) / "bundle.json").write_text("{}")
    found = facts(asked, journal, *options)
    assert found["lineage"] is None
    assert "bundle.json" in found["bundle"]["problem"]
    assert "bundle.json" in found["signature"]["problem"]


def test_what_cannot_be_looked_up_is_one_line(
    registry: Registry, bundle: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.sqlite"
    result = run(new_prediction_id(), journal)
    assert (result.exit_code, "there is no journal at" in result.stderr) == (1, True)
    answered(bundle, journal, at_utc="2026-05-01T00:00:00.000Z")
    missing = new_prediction_id()
    result = run(missing, journal)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"has no prediction {missing}; it has 1 prediction of 2026-05-01T" in result.stderr
    result = run("nonsense", journal)
    assert (result.exit_code, "'nonsense' is not a prediction id" in result.stderr) == (2, True)
    result = run(answered(bundle, journal), journal, "--registry", tmp_path / "nowhere")
    assert (result.exit_code, "is not a registry" in result.stderr) == (1, True)


@pytest.mark.slow  # reason: starts a server of PostgreSQL
def test_a_journal_in_a_database_leads_there_too(
    postgres: PostgresServer, registry: Registry, bundle: Path
) -> None:
    address = Address(postgres.database())
    asked = answered(bundle, address)
    found = facts(asked, address.url, "--registry", registry.path)
    assert (found["service_version"], found["lineage"]["commit"]) == ("1.2.3", COMMIT)
    missing = run(new_prediction_id(), address.url)
    assert (missing.exit_code, "it has 1 prediction of" in missing.stderr) == (1, True)
