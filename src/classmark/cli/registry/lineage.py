"""``classmark lineage``: from an answer back to the code, the data and the decisions behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from classmark.cli.options import AsJson
from classmark.cli.output import table
from classmark.cli.registry.options import (
    SHOWN_DIGITS,
    Place,
    TrustedKeys,
    event_cells,
    open_registry,
    place_of,
)
from classmark.cli.registry.show import flat, shown
from classmark.cli.service.journal import File, existing_journal
from classmark.errors import (
    BundleCorrupt,
    BundleIncompatible,
    BundleNotFound,
    InvalidReport,
    MissingExtra,
    NoHomeFolder,
    NotFound,
    SignatureRefused,
    UsageError,
)

if TYPE_CHECKING:
    from classmark.journal import Place as JournalPlace
    from classmark.records import BundleManifest, PredictionEvent, PromotionEvent
    from classmark.registry import Registry
    from classmark.wire import ModelRef

_UNUSABLE = (BundleNotFound, BundleCorrupt, BundleIncompatible)
_SHOWN_OF_BUNDLE = ("dataset_digest", "parents", "config", "commit", "seed", "command")

PredictionId = Annotated[
    str, typer.Argument(metavar="PREDICTION_ID", help="The prediction_id of an answer.")
]


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(lineage)


def lineage(
    prediction_id: PredictionId,
    file: File = None,
    place: Place = None,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,
) -> None:
    """Show where an answer comes from.

    The journal says which version of classmark answered, and with which bundle; the registry, who
    signed that bundle, what brought it to its channel and which gate it passed; the bundle itself,
    its dataset, configuration and commit. Without a registry, the bundle is looked up among the
    installed models.
    """
    event = _prediction(file, prediction_id)
    facts = _facts(event, _registry(place, trusted_keys))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(table([(name, shown(value)) for name, value in _rows(facts)]))


def _prediction(file: str | None, prediction_id: str) -> PredictionEvent:
    """Return a prediction of the journal.

    Raises:
        UsageError: the id is malformed.
        NotFound: the journal does not have it.
        InvalidJournal: there is no journal, or it cannot be read.
    """
    from classmark.journal import find_prediction
    from classmark.records import is_prediction_id
    from classmark.records.prediction import PREDICTION_ID_CHARS

    if not is_prediction_id(prediction_id):
        raise UsageError(
            f"{prediction_id[:40]!r} is not a prediction id. Give the prediction_id of an answer, "
            f"{PREDICTION_ID_CHARS} letters and digits."
        )
    journal = existing_journal(file)
    found = find_prediction(journal, prediction_id)
    if found is None:
        raise NotFound(_lacks(journal, prediction_id))
    return found.event


def _lacks(journal: JournalPlace, prediction_id: str) -> str:
    from classmark.journal.reading import summarise

    summary = summarise(journal)
    period = f" of {summary.oldest_utc} to {summary.newest_utc}" if summary.newest_utc else ""
    noun = "prediction" if summary.predictions == 1 else "predictions"
    return (
        f"the journal {journal} has no prediction {prediction_id}; it has {summary.predictions:,} "
        f"{noun}{period}. Give another journal with --journal. An answer of this moment appears "
        "within a second."
    )


def _registry(place: str | None, trusted_keys: list[Path] | None) -> Registry | None:
    """Return the registry of the option, or the default one; None if that does not exist.

    Raises:
        RegistryNotFound, RegistryCorrupt, RegistryTooNew, InvalidKeys: it cannot be used.
    """
    if place is None and not trusted_keys:
        try:
            if not place_of(None).exists():
                return None
        except NoHomeFolder:
            return None
    return open_registry(place, trusted_keys)


class _Found(NamedTuple):
    """The manifest of the bundle that answered, and where it is; or why there is none."""

    manifest: BundleManifest | None = None
    place: str | None = None
    problem: str | None = None


def _facts(event: PredictionEvent, registry: Registry | None) -> dict[str, Any]:
    """Return the JSON object of the command."""
    from classmark.registry.lineage import lineage as lineage_of

    digest = event.model.digest
    before = [e for e in registry.events() if e.at_utc <= event.at_utc] if registry else []
    found = _bundle(event.model, registry)
    origin = lineage_of(found.manifest, before, digest) if found.manifest else None
    return {
        "prediction": _answer(event),
        "service_version": event.service_version or None,
        "bundle": {
            "name": event.model.name,
            "version": event.model.version,
            "digest": digest,
            "kind": found.manifest.kind if found.manifest else None,
            "place": found.place,
            "problem": found.problem,
        },
        "signature": _signature(digest, registry),
        "registry": _history(registry, before, digest) if registry else None,
        "gate_report": _gate(registry, before, digest) if registry else None,
        "lineage": origin,
    }


def _answer(event: PredictionEvent) -> dict[str, Any]:
    code, probability = event.ranked[0] if event.ranked else (None, None)
    kept = event.to_dict()
    names = ("prediction_id", "at_utc", "paper_id", "primary", "reason", "source", "compared")
    return {
        **{name: kept[name] for name in names},
        "client": event.client or None,
        "first": code,
        "probability": probability,
    }


def _bundle(model: ModelRef, registry: Registry | None) -> _Found:
    """Return the bundle of a digest: of the registry, else among the installed models."""
    from classmark.bundle import list_bundles, read_manifest
    from classmark.bundle.find import read_header

    if registry is not None and model.digest in registry.pointer().bundles:
        try:
            return _Found(read_manifest(registry.bundle(model.digest)), "registry")
        except _UNUSABLE as error:
            return _Found(place="registry", problem=str(error))
    for installed in list_bundles():
        with suppress(*_UNUSABLE):
            if read_header(installed.path) == (model.name, model.version, model.digest):
                return _Found(read_manifest(installed.path), installed.place)
    where = f"in the registry {registry.path}" if registry else "in a registry"
    return _Found(
        problem=f"neither {where} nor among the installed models. Give its registry with "
        "--registry, or install the model."
    )


def _signature(digest: str, registry: Registry | None) -> dict[str, Any] | None:
    """Return number and key of a signature that was verified; None where no registry has one."""
    known = registry.pointer().bundles.get(digest) if registry else None
    if registry is None or known is None:
        return None
    key, problem = None, None
    try:
        key = registry.signed_by(digest)
    except (*_UNUSABLE, SignatureRefused, MissingExtra) as error:
        problem = str(error)
    return {"number": known.counter, "key": key, "problem": problem}


def _history(registry: Registry, before: Sequence[PromotionEvent], digest: str) -> dict[str, Any]:
    """Return the channel that a bundle had after some events, and those that led there."""
    from classmark.registry.changes import channel_of
    from classmark.registry.lineage import channels_after, steps_of

    return {
        "path": str(registry.path),
        "channel": channel_of(channels_after(before), digest),
        "events": [event.to_dict() for event in steps_of(before, digest)],
    }


def _gate(
    registry: Registry, before: Sequence[PromotionEvent], digest: str
) -> dict[str, Any] | None:
    """Return what the gate found that let a bundle in; None if it was let in without one."""
    named = [e.report for e in before if e.to_digest == digest and e.report]
    if not named:
        return None
    facts = dict.fromkeys(("passed", "failed", "checked", "date", "dataset_digest", "problem"))
    try:
        report = registry.report(named[-1]).to_dict()
    except InvalidReport as error:
        return {"digest": named[-1], **facts, "problem": str(error)}
    return {**{name: report.get(name) for name in facts}, "digest": named[-1]}


# --- for people ------------------------------------------------------------------------------


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of the lines that people read."""
    yield from _answer_rows(facts["prediction"])
    version = facts["service_version"]
    yield "service", f"classmark {version}" if version else "not kept: an older classmark answered"
    bundle = facts["bundle"]
    yield "bundle", f"{bundle['name']}@{bundle['version']}, {bundle['kind'] or 'kind unknown'}"
    yield "digest", bundle["digest"]
    yield "found", bundle["problem"] or bundle["place"]
    yield "signature", _signature_words(facts["signature"])
    yield from _registry_rows(facts["registry"])
    yield "gate report", _gate_words(facts["gate_report"], facts["registry"])
    if facts["lineage"]:
        yield from flat({name: facts["lineage"][name] for name in _SHOWN_OF_BUNDLE})


def _answer_rows(answer: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "prediction", answer["prediction_id"]
    yield "time", answer["at_utc"]
    first = "none" if answer["first"] is None else f"{answer['first']} {answer['probability']:.3f}"
    abstained = "" if answer["primary"] else "abstained, first: "
    yield "answer", f"{abstained}{first} ({answer['reason']})"
    yield "paper", answer["paper_id"] or "no id given"
    yield "asked by", f"key {answer['client']}" if answer["client"] else "no key"
    if other := answer["compared"]:
        model = f"{other['model']['name']}@{other['model']['version']}"
        yield "compared", f"{model}: {other['code']} {other['probability']:.3f}"


def _signature_words(signature: dict[str, Any] | None) -> str:
    if signature is None:
        return "none: no registry here has the bundle"
    if signature["problem"]:
        return f"does not verify: {signature['problem']}"
    if signature["key"]:
        return f"number {signature['number']}, verified with the key {signature['key']}"
    if signature["number"] is None:
        return "none: the bundle is not signed"
    return f"number {signature['number']}, not verified: no key is trusted. Give --trusted-key."


def _registry_rows(history: dict[str, Any] | None) -> Iterator[tuple[str, object]]:
    from classmark.records import PromotionEvent

    if history is None:
        yield "registry", "none"
        return
    yield "registry", history["path"]
    yield "channel", history["channel"] or "none at that time"
    for event in history["events"]:
        number, at_utc, who, what, _, why = event_cells(PromotionEvent.from_dict(event))
        yield f"event {number}", f"{at_utc}  {what} by {who}{f': {why}' if why else ''}"


def _gate_words(gate: dict[str, Any] | None, history: dict[str, Any] | None) -> str:
    if gate is None:
        return "none: there is no registry" if history is None else "none: no event names one"
    if gate["problem"]:
        return str(gate["problem"])
    verdict = "passed" if gate["passed"] else "failed"
    checks = f"{gate['checked'] - gate['failed']} of {gate['checked']} checks"
    return f"{verdict}, {checks}; {gate['date']}, {gate['digest'][:SHOWN_DIGITS]}"
