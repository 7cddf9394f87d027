"""Figure 1: one invented paper in three spellings, and what reader and normaliser make of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from marks import WIDTH, arrow, box, document, lines, words

from classmark.papers import normalise, read_papers
from classmark.records import Paper

LABEL = "Three files with one paper spelled in three ways become the same Paper and the same text"
SOURCES = {
    "paper.bib": (
        "@article{a,",
        r" title = {Poincar\'{e} maps of",
        r"          $\alpha$-stable flows},",
        r" abstract = {We \emph{count}",
        r"   orbits of $H_{2}$\cite{b}.},",
        " eprint = {2401.00001}}",
    ),
    "dump.jsonl": (
        r'{"id": "2401.00001",',
        r' "title": "Poincar\u00e9 maps of',
        r'   \u03b1-stable flows",',
        r' "abstract": "We count orbits',
        r'   of H\u2082."}',
    ),
    "table.csv": (
        "id,title,summary",
        "2401.00001,Poincaré maps",
        " of α-stable flows,We count",
        " orbits of $H_2$.",
    ),
}


def read(name: str, shown: tuple[str, ...]) -> Paper:
    """Return the paper of a source as the product reads it."""
    joined = "\n".join([shown[0], " ".join(line.strip() for line in shown[1:])])
    content = " ".join(line.strip() for line in shown) if name.endswith("jsonl") else joined
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(content + "\n", encoding="utf-8")
        (paper,) = read_papers(path)
    if not isinstance(paper, Paper):
        raise TypeError(f"{name} of the figure cannot be read: {paper}")
    return paper


def draw() -> str:
    """Return the figure."""
    papers = [read(name, shown) for name, shown in SOURCES.items()]
    texts = {(p.id, normalise(p.title), normalise(p.abstract)) for p in papers}
    if len(texts) != 1:
        raise ValueError(f"the three spellings of the figure give {sorted(texts)}")
    ((identifier, title, abstract),) = texts
    marks: list[str] = []
    middle = []
    y = 8.0
    for name, shown in SOURCES.items():
        height = 30 + 15 * len(shown)
        marks += [box(1, y, 246, height), words(12, y + 18, name, "head")]
        marks += lines(12, y + 35, shown, "code")
        middle.append(y + height / 2)
        y += height + 10
    bottom = y - 10
    marks += [arrow(252, at, 292, at) for at in middle]
    marks += [box(298, 8, 122, bottom - 8), words(359, 34, "read_papers", "head", "middle")]
    reader = (
        "the content decides",
        "the format;",
        "one record at a time;",
        "a bad record is",
        "reported, the next",
        "one is read",
    )
    marks += [words(359, 60 + 16 * i, line, "note", "middle") for i, line in enumerate(reader)]
    marks.append(words(359, bottom - 92, "normalise", "head", "middle"))
    recipe = ("LaTeX and Unicode", "are spelled alike;", "twice is once;", "it has a version")
    marks += [
        words(359, bottom - 68 + 16 * i, line, "note", "middle") for i, line in enumerate(recipe)
    ]
    centre = (8 + bottom) / 2
    marks += [arrow(424, centre, 458, centre), box(464, centre - 78, WIDTH - 465, 156, "result")]
    marks += [words(478, centre - 54, "Paper", "head"), words(478, centre - 32, "id", "tick")]
    marks += [
        words(478, centre - 16, str(identifier), "code"),
        words(478, centre + 8, "title, normalised", "tick"),
    ]
    marks += [
        words(478, centre + 24, title, "code"),
        words(478, centre + 48, "abstract, normalised", "tick"),
    ]
    marks.append(words(478, centre + 64, abstract, "code"))
    return document(LABEL, int(bottom) + 8, marks)
