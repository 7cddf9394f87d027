"""The manifest of a tiny bundle; test rooms have conftests of their own, so it is not in one."""

from __future__ import annotations

from typing import Any

from classmark.records import BundleManifest, Policy

LABELS = ("cs.LG", "hep-th", "math.CO", "stat.ML")


def tiny_manifest(name: str = "tiny", version: str = "1.0", **changes: Any) -> BundleManifest:
    labels = changes.pop("labels", LABELS)
    values: dict[str, Any] = {
        "name": name,
        "version": version,
        "kind": "linear",
        "label_space": "arxiv",
        "labels": labels,
        "text_recipe": "1",
        "featuriser": "1",
        "taxonomy": "1",
        "policy": Policy(
            temperature=1.0,
            thresholds=(0.5,) * len(labels),
            cross_list_thresholds=(0.2,) * len(labels),
            set_threshold=0.1,
        ),
        "files": {},
    }
    return BundleManifest(**{**values, **changes})
