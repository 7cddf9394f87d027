"""Figure 4: how the policy in the bundle makes one answer of the scores of one text."""

from __future__ import annotations

from textwrap import wrap

from marks import WIDTH, arrow, box, document, lines, words

from classmark import Classifier
from classmark.bundle import find_bundle, load_bundle
from classmark.pages.svg import Scale, bar, line

LABEL = "Calibrated probabilities of one text with the thresholds of the bundle, and the answer"
TEXT = (
    "Spectral gaps of random regular graphs",
    "We bound the second eigenvalue of random d-regular graphs. The proof compares the graph with "
    "a random lift and counts closed walks; it gives the spectral gap up to a constant for every "
    "fixed degree.",
)
TOP = 6
LEFT, RIGHT = 74, 370
BOX = 444
TEXT_CHARS = 84


def draw() -> str:
    """Return the figure."""
    bundle = load_bundle(find_bundle("fast"))
    policy, labels = bundle.manifest.policy, bundle.manifest.labels
    answer = Classifier.from_bundle(bundle).classify(
        {"title": TEXT[0], "abstract": TEXT[1]}, top=TOP
    )
    members = answer.set or ()
    x = Scale(0, 1, LEFT, RIGHT)
    text = [TEXT[0], *wrap(TEXT[1], TEXT_CHARS)]
    top = 8 + 12 + 17 * len(text)
    marks = [
        *(box(1, 8, WIDTH - 2, top - 8), *lines(12, 27, text, "code", 17)),
        words(LEFT, top + 28, "calibrated probability", "name"),
    ]
    for i, entry in enumerate(answer.ranked):
        y = top + 42 + 34 * i
        index = labels.index(entry.code)
        inside = entry.code in members
        own = (policy.cross_list_thresholds if i else policy.thresholds)[index]
        marks.append(words(LEFT - 8, y + 14, entry.code, "code", "end"))
        marks.append(
            bar(LEFT, y, max(x(entry.probability) - LEFT, 1), 20, "full" if inside else "count")
        )
        marks.append(line(x(own), y - 3, x(own), y + 23, "mark"))
        end = max(x(entry.probability), x(own)) + 6
        marks.append(words(end, y + 14, f"{entry.probability:.2f}", "tick"))
    bottom = top + 42 + 34 * TOP
    at = x(policy.set_threshold)
    marks.append(line(at, top + 34, at, bottom + 4, "ideal"))
    notes = {
        18: f"dashed: a category belongs to the set from {policy.set_threshold:.3f} on,",
        33: "one number for all categories",
        52: "upright: from here its own category is accepted (first bar)",
        67: "or is a cross-list (the others)",
    }
    marks += [words(LEFT, bottom + below, text, "note") for below, text in notes.items()]
    beside = top + 136
    marks += [arrow(400, beside, BOX - 8, beside)]
    marks.append(box(BOX, top + 30, WIDTH - BOX - 1, 226, "result"))
    marks.append(words(BOX + 14, top + 54, "Answer", "head"))
    facts = {
        "primary": str(answer.primary),
        "reason": answer.reason,
        "probability": f"{answer.probability:.2f}",
        "cross_lists": ", ".join(answer.cross_lists) or "none",
        f"set ({policy.set_coverage:.0%})": ", ".join(members),
    }
    for i, (name, value) in enumerate(facts.items()):
        marks.append(words(BOX + 14, top + 78 + 33 * i, name, "tick"))
        marks += lines(BOX + 14, top + 93 + 33 * i, wrap(value, 36), "code", 14)
    return document(LABEL, bottom + 80, marks)
