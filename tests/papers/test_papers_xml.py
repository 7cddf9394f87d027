"""XML of papers: what is read of every kind of record, and what is none of a paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from xml_samples import (
    ARXIV,
    ATOM,
    DC,
    ENDNOTE,
    JATS,
    OAI,
    PUBMED,
    RAW,
    RSS,
    only,
    read,
    record,
    response,
)

from classmark.errors import UnreadableSource
from classmark.papers import detect_format, normalise, read_papers
from classmark.records import BadRecord, Paper


def test_atom_is_read_with_its_categories_dates_and_authors() -> None:
    assert only(ATOM) == Paper(
        id="2401.00010v2",
        title="Sieves\n  for graphs",
        abstract="We sieve $a < b$ & colour.",
        category_code="math.CO",
        categories=("math.CO", "cs.DM"),
        published_date="2024-01-02",
        updated_date="2024-02-03",
        authors=("Ada Sieve", "Bo Graph"),
    )


@pytest.mark.parametrize("line_end", ["\n", " \n", " "])
def test_the_feed_of_new_papers_is_read_without_its_announcements(line_end: str) -> None:
    before = f"arXiv:2401.00010v2 Announce Type: replace-cross{line_end}Abstract: "
    feed = ATOM.replace("http://arxiv.org/abs/", "oai:arXiv.org:").replace(
        "We si", f"{before}We si"
    )
    creator = '<dc:creator xmlns:dc="http://purl.org/dc/elements/1.1/">Ada Sieve, Bo Graph'
    feed = feed.replace("<author><name>Ada Sieve</name></author>", f"{creator}</dc:creator>")
    paper = only(feed.replace("<author><name>Bo Graph</name></author>", ""))
    assert (paper.id, paper.abstract) == ("2401.00010v2", "We sieve $a < b$ & colour.")
    assert paper.authors == ("Ada Sieve", "Bo Graph")


def test_the_rss_of_new_papers_is_read() -> None:
    paper, other = read(RSS)
    assert paper == Paper(
        id="2401.00010v1",
        title="Sieves for graphs",
        abstract="We sieve $a < b$ & colour.",
        category_code="math.CO",
        categories=("math.CO", "cs.DM"),
        published_date="2024-01-02",
        authors=("Ada Sieve", "Bo Graph"),
    )
    assert other == Paper(id="2401.00011", title="Lattices", abstract="We study lattices.")
    without_declaration = RSS.partition("\n")[2]
    assert read(without_declaration) == [paper, other]
    assert read(without_declaration.replace("<rss ", "<rss\n")) == [paper, other]


def test_the_longest_description_in_dublin_core_is_the_abstract() -> None:
    notes = "<dc:description>Broad audience</dc:description>"
    paper = only(record(DC.replace("<dc:description>We", f"{notes}<dc:description>We often", 1)))
    assert paper.abstract == "We often find cores."


def test_atom_of_arxiv_that_holds_an_error_is_one_error() -> None:
    feed = ATOM.replace("abs/2401.00010v2", "api/errors#incorrect_id_format_for_1234")
    (bad,) = read(feed)
    assert isinstance(bad, BadRecord)
    assert (bad.kind, bad.message) == (
        "api_error",
        "line 5: arXiv answered with an error: We sieve $a < b$ & colour.",
    )


@pytest.mark.parametrize(
    ("metadata", "paper"),
    [
        (
            ARXIV,
            Paper(
                id="2401.00011",
                title="Lattices",
                abstract="We study lattices.",
                category_code="hep-lat",
                categories=("hep-lat", "cs.LG"),
                published_date="2024-01-03",
                updated_date="2024-03-01",
                authors=("Ada Sieve",),
            ),
        ),
        (
            RAW,
            Paper(
                id="2401.00012",
                title="Raw lattices",
                abstract="Raw.",
                category_code="hep-lat",
                categories=("hep-lat",),
                published_date="2024-01-03",
                updated_date="2024-01-04",
                authors=("Ada Sieve", "Bo Graph"),
            ),
        ),
        (
            DC,
            Paper(
                id="2401.00099",
                title="Cores",
                abstract="We find cores.",
                category_code="cs.LG",
                categories=("cs.LG", "hep-th"),
                published_date="2024-01-05",
                updated_date="2024-02-05",
                authors=("Sieve, Ada", "Graph, Bo"),
            ),
        ),
    ],
)
def test_oai_pmh_is_read(metadata: str, paper: Paper) -> None:
    assert only(response(record(metadata))) == paper
    # A harvester's own root around its records changes nothing.
    inner = f'<harvest xmlns="{OAI}">{record(metadata)}</harvest>'
    assert only(f"<?xml version='1.0'?>\n{inner}") == paper


def test_namespaces_that_a_tool_took_out_are_not_missed() -> None:
    bare = response(record(ARXIV), record("", status="deleted")).replace(f' xmlns="{OAI}"', "")
    bare = bare.replace(' xmlns="http://arxiv.org/OAI/arXiv/"', "")
    paper, bad = read(bare)
    assert isinstance(paper, Paper)
    assert isinstance(bad, BadRecord)
    assert (paper.id, bad.kind) == ("2401.00011", "deleted")
    assert only(ATOM.replace(' xmlns="http://www.w3.org/2005/Atom"', "")).category_code == "math.CO"


def test_the_metadata_alone_is_a_record() -> None:
    assert only(ARXIV).id == "2401.00011"
    assert only(DC).id == "http://arxiv.org/abs/2401.00013"


@pytest.mark.parametrize(
    ("sets", "categories"),
    [
        ("cs:cs:LG", ("cs.LG",)),
        ("physics:hep-th", ("hep-th",)),
        ("physics:astro-ph:CO", ("astro-ph.CO",)),
        ("cs:cs:LG math:math:CO", ()),  # which one is the primary cannot be known
        ("cs com_123", ()),
    ],
)
def test_sets_give_the_category_where_nothing_else_does(
    sets: str, categories: tuple[str, ...]
) -> None:
    bare = DC.replace("<dc:subject>", "<dc:type>").replace("</dc:subject>", "</dc:type>")
    assert only(response(record(bare, sets=sets))).categories == categories


def test_a_namespace_may_have_any_prefix() -> None:
    inner = record(ARXIV).replace("<arXiv xmlns=", "<a:arXiv xmlns:a=")
    for name in ("id", "created", "title", "categories", "abstract", "arXiv"):
        inner = inner.replace(f"</{name}>", f"</a:{name}>").replace(f"<{name}>", f"<a:{name}>")
    for name in ("record", "header", "metadata", "identifier"):
        inner = inner.replace(f"<{name}>", f"<o:{name}>").replace(f"</{name}>", f"</o:{name}>")
    paper = only(f'<o:OAI-PMH xmlns:o="{OAI}">{inner}</o:OAI-PMH>')
    assert (paper.id, paper.title, paper.category_code) == ("2401.00011", "Lattices", "hep-lat")


def test_endnote_is_read() -> None:
    assert only(ENDNOTE) == Paper(
        id="10.1/z",
        title="Growth of E. coli",
        abstract="We grow it.",
        published_date="2021-01-01",
        authors=("Sieve, A.",),
    )


def test_pubmed_is_read_and_its_markup_taken_out() -> None:
    assert only(PUBMED) == Paper(
        id="12345",
        title="Growth in H_{2}O of E. coli",
        abstract="AIM: To grow.\nRESULT: It grew.",
        published_date="2020-03-01",
        authors=("Ada Sieve", "The Group"),
    )


def test_a_name_of_pubmed_without_a_first_name_has_its_initials() -> None:
    short = PUBMED.replace("<ForeName>Ada</ForeName>", "<Initials>AB</Initials>")
    assert only(short).authors == ("A. B. Sieve", "The Group")


def test_the_front_matter_of_jats_is_one_paper() -> None:
    paper = only(JATS)
    assert (paper.id, paper.title.strip(), paper.abstract.strip()) == (
        "10.1/w",
        "Bounds on n",
        "We bound it.",
    )
    assert (paper.published_date, paper.authors) == ("2021-02-03", ("Ada Sieve",))
    assert only(response(record(JATS.partition("\n")[2]))).id == "10.1/w"


@pytest.mark.parametrize(
    ("date", "published"),
    [
        ("<Year>2020</Year><Month>Spring</Month>", "2020-01-01"),
        ("<Year>2020</Year><Month>12</Month><Day>31</Day>", "2020-12-31"),
        ("<MedlineDate>2019 Dec-2020 Jan</MedlineDate>", "2019-01-01"),
        ("<Year>2020</Year><Month>02</Month><Day>31</Day>", "2020-01-01"),
        ("<Season>Spring</Season>", None),
    ],
)
def test_dates_of_pubmed_in_all_their_forms(date: str, published: str | None) -> None:
    start, _, rest = PUBMED.partition("<PubDate>")
    content = f"{start}<PubDate>{date}</PubDate>{rest.partition('</PubDate>')[2]}"
    assert only(content).published_date == published


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (
            response(record("", status="deleted")),
            "deleted",
            r"^line 3: the record has been deleted",
        ),
        (response(record("")), "no_metadata", r"^line 3: the record has no metadata"),
        (
            response(record("<marc>x</marc>")),
            "unknown_metadata",
            r"^line 3: metadata in <marc> is not read\. Harvest it as arXiv",
        ),
        (
            f'<OAI-PMH xmlns="{OAI}">\n<error code="noRecordsMatch">None.</error></OAI-PMH>',
            "api_error",
            r"^line 2: the archive answered noRecordsMatch: None\.",
        ),
        (
            f'<OAI-PMH xmlns="{OAI}"><header><identifier>a:1</identifier></header></OAI-PMH>',
            "no_metadata",
            r"only the header of a record is here\. Harvest with verb=ListRecords",
        ),
        (
            PUBMED.replace("</PubmedArticleSet>", "")[:1]
            + PUBMED[1 : PUBMED.index("<PubmedArticle>")]
            + "<DeleteCitation><PMID>1</PMID><PMID>2</PMID></DeleteCitation></PubmedArticleSet>",
            "deleted",
            r"2 records are deleted in PubMed",
        ),
        (
            response(record(ARXIV.replace("Lattices", "").replace("We study lattices.", ""))),
            "missing_text",
            r"title and abstract are empty",
        ),
    ],
)
def test_a_record_that_is_no_paper_is_one_error(content: str, kind: str, message: str) -> None:
    (bad,) = read(content)
    assert isinstance(bad, BadRecord)
    assert bad.kind == kind
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(bad.message)


def test_several_documents_one_after_the_other_are_read_with_their_lines() -> None:
    one, two = response(record(ARXIV)), response(record("", status="deleted"))
    first, bad, last = read(one + "\n \n" + two + "\ufeff" + one + "<!-- end -->\n")
    assert isinstance(bad, BadRecord)
    assert bad.message.startswith(f"line {one.count(chr(10)) + 5}: the record has been deleted")
    assert first == last
    assert len(read((one.strip() * 400) + "\n\n")) == 400


def test_documents_of_different_kinds_may_follow_each_other() -> None:
    papers = read(ATOM + PUBMED + ENDNOTE + JATS)
    assert [p.id for p in papers] == ["2401.00010v2", "12345", "10.1/z", "10.1/w"]


def test_text_in_cdata_entities_and_escaped_markup_is_text() -> None:
    markup = "<![CDATA[A <b>bold</b> & ]]>claim&#8212;&lt;i&gt;so&lt;/i&gt; &amp;amp; on"
    assert only(response(record(ARXIV.replace("Lattices", markup)))).title == (
        "A bold & claim\u2014so & on"
    )


def test_tex_in_mathml_is_kept() -> None:
    math = (
        "On <math xmlns='http://www.w3.org/1998/Math/MathML'><semantics><mi>x</mi>"
        "<annotation encoding='application/x-tex'>x^2</annotation></semantics></math>"
    )
    assert only(JATS.replace("Bounds on ", math)).title.startswith("On $x^2$")


def test_names_of_characters_are_known_where_a_dtd_defines_them() -> None:
    assert only(PUBMED.replace("Growth", "Caf&eacute;")).title.startswith("Café in")
    start = PUBMED.replace("Growth", "&nosuch;")
    (bad,) = read(start)
    assert isinstance(bad, BadRecord)
    assert "undefined entity" in bad.message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1", "cp1252"])
def test_the_encoding_that_is_declared_is_read(encoding: str) -> None:
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    content = ATOM.replace("UTF-8", declared).replace("Sieves", "Café")
    (paper,) = read(content.encode(encoding))
    assert isinstance(paper, Paper)
    assert paper.title.startswith("Café")


@pytest.mark.parametrize("encoding", ["gbk", "no-such", "utf-7", "idna"])
def test_an_encoding_that_the_parser_does_not_know_is_refused(encoding: str) -> None:
    with pytest.raises(UnreadableSource, match=r"line 1: the XML cannot be parsed|is XML"):
        read(ATOM.replace("UTF-8", encoding))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<TEI xmlns='http://www.tei-c.org/ns/1.0'><text/></TEI>", r"XML with the root <TEI>"),
        ("<MODS>\n<titleInfo>x</titleInfo></MODS>", r"XML with the root <MODS>"),
        ("<?xml version='1.0'?><rss><channel/></rss>", r"XML with the root <rss>"),
        ("<feed xmlns='http://www.w3.org/2005/Atom'><title>x</title></feed>", r"the root <feed>"),
        ("<?xml version='1.0'?><html><p>x</p></html>", r"is a web page"),
        ("<html lang='en'><p>x</p></html>", r"is a web page"),
    ],
)
def test_xml_without_records_is_refused_by_its_root(content: str, message: str) -> None:
    with pytest.raises(UnreadableSource, match=message):
        read(content)


@pytest.mark.parametrize(
    "text",
    [
        "<x> is the mean of x over <y> > 0.",
        "<jats:p>We colour graphs.</jats:p>",
        '<jats:p xmlns:jats="http://jats.nlm.nih.gov">We colour <jats:sub>2</jats:sub></jats:p>',
        "<p><b>We</b> colour graphs.</p>",
        "<title>Graphs</title> <p>We colour.</p>",
    ],
)
def test_a_text_with_some_markup_is_a_text(text: str) -> None:
    (paper,) = read(text)
    assert isinstance(paper, Paper)


def test_the_name_and_the_option_make_xml_of_what_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "papers.xml"
    path.write_text("<fe")
    assert detect_format(path) == "xml"
    (bad,) = read_papers(path)
    assert isinstance(bad, BadRecord)
    assert bad.message.startswith("line 1: the XML is broken or cut short (unclosed token")
    with pytest.raises(UnreadableSource, match="is empty"):
        read(" \n", format="xml")


def test_no_tag_is_among_the_words_of_a_paper() -> None:
    for content in (ATOM, PUBMED, JATS, ENDNOTE):
        paper = only(content)
        assert not {"style", "sub", "mml", "mi", "lt", "amp"} & set(
            normalise(f"{paper.title} {paper.abstract}").split()
        )
