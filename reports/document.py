"""The report as a document: answers, rules, checklist, and one page that stands alone."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import markdown

from reports.form import QUESTIONS, Question
from reports.items import ITEMS, Finding

START, END = "<!-- checklist: written by report.py status --write -->", "<!-- end of checklist -->"
NOT_APPLICABLE = "Not applicable:"
FEWEST_REASON_WORDS = 5
SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff"}
_HEADING = re.compile(r"^### +(\d+\. .*?) *$", re.MULTILINE)
_NEXT_PART = re.compile(r"^#{1,3} ", re.MULTILINE)
_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>[^)\s]+)[^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
# A link to a file of the checkout: the page is read without it.
_BESIDE = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?://|#)[^)]*\)")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# What forms leave to be filled in.
_PLACEHOLDER = re.compile(
    r"\b(?:TODO|TBD|FIXME|XXX+)\b|lorem ipsum|\byour (?:answer|text|figure) here\b"
    r"|\b(?:answer|fill in|insert) here\b|--- *question \d+|<[^<>\n]*\bhere>|\[\.\.\.\]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Image:
    """An image of an answer: its description and its path beside the report."""

    alt: str
    path: str


@dataclass(frozen=True)
class Answer:
    """The text below one heading, with what the rules count."""

    heading: str
    text: str

    @property
    def images(self) -> list[Image]:
        """The images that the answer shows."""
        found = _IMAGE.finditer(_COMMENT.sub("", self.text))
        return [Image(image["alt"], image["path"]) for image in found]

    @property
    def words(self) -> int:
        """How many words it has: images and comments do not count, of a link its text does."""
        text = _LINK.sub(r"\1", _IMAGE.sub("", _COMMENT.sub("", self.text)))
        return sum(any(sign.isalnum() for sign in word) for word in text.split())

    @property
    def reason(self) -> str | None:
        """Why the question does not apply; None if it is answered."""
        text = self.text.strip()
        return text.removeprefix(NOT_APPLICABLE) if text.startswith(NOT_APPLICABLE) else None


def read_answers(text: str) -> list[Answer]:
    """Return the answers of a report in their order."""
    answers = []
    for found in _HEADING.finditer(text):
        rest = text[found.end() :]
        end = _NEXT_PART.search(rest)
        answers.append(Answer(found[1], rest[: end.start() if end else None]))
    return answers


def problems_of(report: Path, findings: Sequence[Finding]) -> list[str]:
    """Return what is wrong with a report, each with what was seen and what to do; [] if nothing.

    Args:
        report: the Markdown file; images are beside it, under ``figures/``.
        findings: of every item of the checklist.
    """
    text = report.read_text("utf-8")
    answers = read_answers(text)
    by_heading = {answer.heading: answer for answer in answers}
    problems = [*_headings(answers), *_placeholders(text)]
    open_items = {finding.number for finding in findings if finding.state == "not yet"}
    for question in QUESTIONS:
        answer = by_heading.get(question.heading)
        if answer is not None:
            problems += [*_wording(question, answer), *_count(question, answer, open_items)]
    problems += [*_files(report.parent, answers), *_checklist(text, findings)]
    return problems


def _headings(answers: Sequence[Answer]) -> Iterator[str]:
    found = [answer.heading for answer in answers]
    wanted = [question.heading for question in QUESTIONS]
    for heading in wanted:
        if found.count(heading) != 1:
            yield (
                f"question {heading!r} is there {found.count(heading)} times. "
                "Give it one heading, '### ' and these words."
            )
    for heading in dict.fromkeys(found):
        if heading not in wanted:
            yield f"{heading!r} is not a question of the form. Rename it as reports/form.py has it."
    if sorted(found) == sorted(wanted) and found != wanted:
        yield "the questions are not in the order of their numbers. Sort them."


def _placeholders(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := _PLACEHOLDER.search(line):
            yield f"line {number} holds the placeholder {found[0]!r}. Write the answer."


def _wording(question: Question, answer: Answer) -> Iterator[str]:
    name, words = f"question {question.number}", answer.words
    if answer.reason is not None:
        if not question.may_not_apply:
            yield f"{name} always applies. Answer it, if only with what is not built yet."
        elif words < FEWEST_REASON_WORDS:
            yield f"{name} does not apply, but gives no reason. Write it after {NOT_APPLICABLE!r}."
        return
    if question.words is None:
        if not words:
            yield f"{name} has no text. Say what its images show, or why there is none yet."
        return
    fewest, most = question.words
    if not fewest <= words <= most:
        yield f"{name} has {words} words. Write {fewest} to {most}."


def _count(question: Question, answer: Answer, open_items: set[int]) -> Iterator[str]:
    fewest, most = question.images or (0, len(answer.images))
    if question.needs in open_items:
        fewest = 0
    if not fewest <= len(answer.images) <= most:
        yield (
            f"question {question.number} shows {len(answer.images)} images. "
            f"Show {fewest} to {most} from figures/."
        )


def _files(folder: Path, answers: Sequence[Answer]) -> Iterator[str]:
    shown = {image.path: image for answer in answers for image in answer.images}
    for path, image in shown.items():
        if problem := _image_problem(folder, image):
            yield f"image {path!r} {problem}"
    for file in sorted((folder / "figures").glob("*")):
        if f"figures/{file.name}" not in shown:
            yield f"figures/{file.name} is not shown. Show it in an answer, or delete it."


def _image_problem(folder: Path, image: Image) -> str:
    path = folder / image.path
    signature = SIGNATURES.get(path.suffix.lower())
    if Path(image.path).parts[:1] != ("figures",) or ".." in Path(image.path).parts:
        return "is not under figures/. Move it there."
    if signature is None:
        return f"is not one of {', '.join(SIGNATURES)}. Draw it in one of these formats."
    if not path.is_file():
        return "does not exist. Run `make pictures`, or correct the path."
    if not path.read_bytes().startswith(signature):
        return f"is not a {path.suffix} file. Draw it again."
    return "" if image.alt.strip() else "has no description. Say what it shows between [ and ]."


def _checklist(text: str, findings: Sequence[Finding]) -> Iterator[str]:
    rows = read_checklist(text)
    if rows is None:
        yield f"the checklist is missing. Put {START} and {END} around its place."
        return
    remedy = "Run `python reports/report.py status --write`."
    wanted = checklist(findings, rows)
    for found, row in zip(findings, wanted, strict=True):
        if rows.get(found.number) != row:
            yield (
                f"item {found.number} of the checklist is {found.state!r}, but its row is "
                f"{rows.get(found.number, '')!r}. {remedy}"
            )
    if not rows.keys() <= {item.number for item in ITEMS}:
        yield f"the checklist has items that are not in the form. {remedy}"


def read_checklist(text: str) -> dict[int, str] | None:
    """Return number -> row as a report has it; None if it has no checklist."""
    _, start, rest = text.partition(START)
    table, end, _ = rest.partition(END)
    if not start or not end:
        return None
    rows = re.findall(r"^(\| (\d+) \|.*)$", table, re.MULTILINE)
    return {int(number): row for row, number in rows}


def checklist(findings: Sequence[Finding], written: Mapping[int, str]) -> list[str]:
    """Return the row of each item; one whose state cannot be found here stays as it is written."""
    rows = []
    for item, found in zip(ITEMS, findings, strict=True):
        words = item.shown_by if found.state == "done" else found.missing
        row = f"| {item.number} | {item.title} | {item.module} | {found.state} | {words} |"
        rows.append(written.get(item.number, row) if found.state == "unknown" else row)
    return rows


def with_checklist(text: str, findings: Sequence[Finding]) -> str:
    """Return a report with the checklist that was found.

    Raises:
        ValueError: the report has no place for it.
    """
    written = read_checklist(text)
    if written is None:
        raise ValueError(f"the report has no checklist. Put {START} and {END} around its place.")
    head = [
        "| | item | of | state | shown by, or what is missing |",
        "| --- | --- | --- | --- | --- |",
    ]
    table = "\n".join([START, *head, *checklist(findings, written), END])
    before, _, rest = text.partition(START)
    return before + table + rest.partition(END)[2]


def page_of(report: Path) -> str:
    """Return the report as one HTML page, images inside it."""
    text = _COMMENT.sub("", report.read_text("utf-8"))
    text = _BESIDE.sub(r"\1", text)
    body = markdown.markdown(
        text, extensions=["tables", "fenced_code", "toc"], output_format="html"
    )

    def inside(found: re.Match[str]) -> str:
        path = report.parent / found[1]
        kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
        return f'src="data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"'

    body = re.sub(r'src="(figures/[^"]+)"', inside, body)
    for state in ("done", "not yet", "not applicable"):
        css = state.replace(" ", "-")
        body = body.replace(f"<td>{state}</td>", f'<td><span class="{css}">{state}</span></td>')
    title = next(iter(re.findall(r"^# (.+)$", text, re.MULTILINE)), "Report")
    page = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
    return page.substitute(title=html.escape(title), body=body)
