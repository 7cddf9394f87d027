"""Where a bundle comes from: data, recipe, configuration, code, the models before it, its tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from classmark.records import BundleManifest, Channels, PromotionEvent
from classmark.registry.shelf import members_of

_OF_RUN = ("date", "seed", "command", "commit", "generated", "packages")
_ENDS = ("promote", "rollback", "end_canary")
_STEPS = (*_ENDS, "start_canary")


def lineage(
    manifest: BundleManifest, events: Iterable[PromotionEvent], digest: str
) -> dict[str, Any]:
    """Return the lineage of a bundle as a JSON object.

    Args:
        manifest: of the bundle.
        events: of its registry.
        digest: of the bundle.
    """
    provenance = manifest.provenance
    own = [event for event in events if digest in (event.to_digest, event.from_digest)]
    return {
        "kind": manifest.kind,
        "labels": len(manifest.labels),
        "label_space": manifest.label_space,
        "dataset_digest": provenance.get("dataset_digest"),
        "taxonomy": manifest.taxonomy,
        "text_recipe": manifest.text_recipe,
        "featuriser": manifest.featuriser,
        "config": provenance.get("config", {}),
        **{key: provenance.get(key) for key in _OF_RUN},
        "parents": _parents(manifest, own, digest),
        "evaluation": manifest.metrics,
        "gate_report": next((e.report for e in reversed(own) if _allows(e, digest)), None),
        "added": _when(own, digest, ("add",)),
        "promoted": _when(own, digest, _ENDS),
    }


def channels_after(events: Iterable[PromotionEvent]) -> Channels:
    """Return which bundle was in which channel after the first events of a registry."""
    channels = Channels()
    for event in events:
        if event.action == "start_canary":
            channels = replace(channels, challenger=event.to_digest)
        elif event.action == "end_canary":
            channels = replace(channels, challenger=None)
        elif event.action == "set_shadow":
            channels = replace(channels, shadow=event.to_digest)
        if event.made_champion:
            shadow = None if channels.shadow == event.made_champion else channels.shadow
            channels = replace(channels, champion=event.made_champion, shadow=shadow)
    return channels


def steps_of(events: Iterable[PromotionEvent], digest: str) -> list[PromotionEvent]:
    """Return how a bundle came to answer, the oldest first: the latest event of each kind."""
    latest = {e.action: e for e in events if e.to_digest == digest and e.action in ("add", *_STEPS)}
    return sorted(latest.values(), key=lambda event: event.sequence)


def _allows(event: PromotionEvent, digest: str) -> bool:
    """Return whether an event names a gate report about a bundle, not about its successor."""
    return event.report is not None and event.to_digest == digest


def _parents(manifest: BundleManifest, events: list[PromotionEvent], digest: str) -> dict[str, Any]:
    """Return the models that it was made of or follows: members, an encoder, a former champion."""
    found: dict[str, Any] = dict(members_of(manifest))
    encoder = manifest.provenance.get("encoder")
    if isinstance(encoder, dict):
        found["encoder"] = encoder.get("name")
    forgotten = manifest.provenance.get("forgotten")
    if isinstance(forgotten, dict):
        found["with_author"] = forgotten.get("digest")
    champions = [e for e in events if e.action in _ENDS and e.to_digest == digest]
    if champions:
        found["champion_before"] = champions[0].from_digest
    return found


def _when(events: list[PromotionEvent], digest: str, actions: tuple[str, ...]) -> str | None:
    found = [e.at_utc for e in events if e.action in actions and e.to_digest == digest]
    return found[-1] if found else None
