"""One page of an OAI-PMH list: its records with their datestamps, and the token of the next page.

``read_papers`` reads the papers of a saved page as of any other file; what harvests needs the rest.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from classmark.errors import UnreadableSource
from classmark.papers.columns import ReadOptions, shown
from classmark.papers.fields import Place
from classmark.papers.files.xml.documents import Make, XmlDocument, paper_of
from classmark.papers.files.xml.records import (
    DELETED,
    OaiHeader,
    oai_header,
    oai_values,
)
from classmark.papers.files.xml.tree import local_name
from classmark.records import BadRecord, Paper

_ROOT, _LIST = "OAI-PMH", "ListRecords"


@dataclass(frozen=True, kw_only=True, slots=True)
class OaiRecord:
    """One record of a list.

    Attributes:
        identifier: of the record in its archive; "" if it has none.
        datestamp: when it was made, changed or deleted, as the archive writes it; "" if unknown.
        paper: None if it is deleted or cannot be read.
        is_deleted: the archive says that it has deleted it.
        problem: why it cannot be read, one sentence; "" if it can.
    """

    identifier: str = ""
    datestamp: str = ""
    paper: Paper | None = None
    is_deleted: bool = False
    problem: str = ""


@dataclass(kw_only=True, slots=True)
class OaiPage:
    """One answer to ListRecords.

    Attributes:
        records: in their order.
        response_date: when the server answered, by its own clock; "" if it does not say.
        token: with which the next page is asked for; "" on the last page.
        announced: records of the whole list, as the server says; None if it does not.
        error_code: of OAI-PMH, such as ``noRecordsMatch``; "" for none.
        error_message: what the server says of it.
        is_whole: the XML is not cut off.
    """

    records: list[OaiRecord] = field(default_factory=list)
    response_date: str = ""
    token: str = ""
    announced: int | None = None
    error_code: str = ""
    error_message: str = ""
    is_whole: bool = False


def read_page(raw: bytes, name: str) -> OaiPage:
    """Return what a server has answered to ListRecords.

    Args:
        raw: the answer.
        name: of the server in messages.

    Raises:
        UnreadableSource: it is not OAI-PMH, lists no records, or is XML that attacks its reader.
    """
    reader = _PageReader(ReadOptions(name=name))
    body = raw.lstrip()
    document = XmlDocument(reader.options, reader.find, 1, body)
    page = reader.page
    for found in document.records(body, io.BytesIO()):
        if isinstance(found, BadRecord):
            page.records.append(OaiRecord(problem=found.message))
    page.is_whole = bool(body) and not document.is_broken
    if document.root not in ("", _ROOT):
        raise UnreadableSource(
            f"{name} answered with XML whose root is {shown(document.root)}, not OAI-PMH. "
            "Check the endpoint."
        )
    if page.is_whole and not (reader.lists or page.error_code):
        raise UnreadableSource(
            f"{name} answered without a list of records and without an error. Check the endpoint."
        )
    return page


class _PageReader:
    """Fills a page with the elements that a document holds."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.page = OaiPage()
        self.lists = False

    def find(self, tag: str, parent: str) -> Make[None] | None:
        """Return what takes an element in."""
        name = local_name(tag)
        self.lists = self.lists or (parent, name) == (_ROOT, _LIST)
        takers: dict[tuple[str, str], Make[None]] = {
            (_LIST, "record"): self._take_record,
            (_LIST, "resumptionToken"): self._take_token,
            (_ROOT, "responseDate"): self._take_response_date,
            (_ROOT, "error"): self._take_error,
        }
        return takers.get((parent, name))

    def _take_record(self, element: Element, place: Place) -> None:
        found = paper_of(oai_values, element, place, self.options)
        self.page.records.append(_record(oai_header(element), found))

    def _take_token(self, element: Element, _place: Place) -> None:
        self.page.token = (element.text or "").strip()
        announced = element.get("completeListSize", "").strip()
        if announced.isascii() and announced.isdigit() and len(announced) < 19:
            self.page.announced = int(announced)

    def _take_response_date(self, element: Element, _place: Place) -> None:
        self.page.response_date = (element.text or "").strip()

    def _take_error(self, element: Element, _place: Place) -> None:
        self.page.error_code = element.get("code") or "unknown"
        self.page.error_message = " ".join((element.text or "").split())


def _record(header: OaiHeader, found: Paper | BadRecord) -> OaiRecord:
    """Return a record with its paper, or with what is wrong with it."""
    identifier, datestamp, is_deleted = header
    if not identifier:
        return OaiRecord(datestamp=datestamp, problem="the record has no identifier")
    if isinstance(found, Paper):
        return OaiRecord(identifier=identifier, datestamp=datestamp, paper=found)
    is_deleted = is_deleted and found.kind == DELETED
    problem = "" if is_deleted else f"{identifier}: {found.message}"
    return OaiRecord(
        identifier=identifier, datestamp=datestamp, is_deleted=is_deleted, problem=problem
    )
