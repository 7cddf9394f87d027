"""Where a bundle comes from: data, recipe, configuration, code, the models before it, its tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from classmark.records import BundleManifest, PromotionEvent
from classmark.registry.shelf import members_of

_OF_RUN = ("date", "seed", "command", "commit", "generated", "packages")
_ENDS = ("promote", "rollback", "end_canary")


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
        "gate_report": next((e.report for e in reversed(own) if e.report), None),
        "added": _when(own, digest, ("add",)),
        "promoted": _when(own, digest, _ENDS),
    }


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
