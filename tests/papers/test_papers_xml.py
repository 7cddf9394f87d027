"""XML of papers: every record is an answer or an error that names its line."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import UnreadableSource
from classmark.papers import detect_format, normalise, read_papers, read_stream
from classmark.papers import xmlfiles as xmlfiles_module
from classmark.records import BadRecord, Paper

OAI = "http://www.openarchives.org/OAI/2.0/"

ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title>arXiv Query: all:sieves</title>
  <id>http://arxiv.org/api/xyz</id>
  <entry>
    <id>http://arxiv.org/abs/2401.00010v2</id>
    <updated>2024-02-03T10:00:00Z</updated>
    <published>2024-01-02T18:00:00Z</published>
    <title>Sieves
  for graphs</title>
    <summary>We sieve $a &lt; b$ &amp; colour.</summary>
    <author><name>Ada Sieve</name></author>
    <author><name>Bo Graph</name></author>
    <arxiv:doi xmlns:arxiv="http://arxiv.org/schemas/atom">10.1/x</arxiv:doi>
    <arxiv:primary_category xmlns:arxiv="http://arxiv.org/schemas/atom" term="math.CO"/>
    <category term="cs.DM" scheme="http://arxiv.org/schemas/atom"/>
    <category term="math.CO" scheme="http://arxiv.org/schemas/atom"/>
    <category term="05C15" scheme="http://arxiv.org/schemas/atom"/>
    <category term="G.2.2" scheme="http://arxiv.org/schemas/atom"/>
  </entry>
</feed>
"""

ARXIV = """<arXiv xmlns="http://arxiv.org/OAI/arXiv/">
 <id>2401.00011</id><created>2024-01-03</created><updated>2024-03-01</updated>
 <authors><author><keyname>Sieve</keyname><forenames>Ada</forenames></author></authors>
 <title>Lattices</title><categories>hep-lat cs.LG</categories><doi>10.1/y</doi>
 <abstract>We study lattices.</abstract></arXiv>"""

RAW = """<arXivRaw xmlns="http://arxiv.org/OAI/arXivRaw/">
 <id>2401.00012</id><submitter>Ada</submitter>
 <version version="v1"><date>Wed, 3 Jan 2024 10:00:00 GMT</date><size>1kb</size></version>
 <version version="v2"><date>Thu, 4 Jan 2024 10:00:00 GMT</date></version>
 <title>Raw lattices</title><authors>Ada Sieve and Bo Graph</authors>
 <categories>hep-lat</categories><abstract>Raw.</abstract></arXivRaw>"""

DC = """<oai_dc:dc xmlns:oai_dc="http://www.openarchives.org/OAI/2.0/oai_dc/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Cores</dc:title>
 <dc:creator>Sieve, Ada</dc:creator><dc:creator>Graph, Bo</dc:creator>
 <dc:subject>Computer Science - Machine Learning</dc:subject>
 <dc:subject>High Energy Physics - Theory</dc:subject><dc:subject>colouring</dc:subject>
 <dc:description>We find cores.</dc:description>
 <dc:description>Comment: 12 pages</dc:description>
 <dc:date>2024-01-05</dc:date><dc:date>2024-02-05</dc:date>
 <dc:identifier>http://arxiv.org/abs/2401.00013</dc:identifier></oai_dc:dc>"""

ENDNOTE = """<?xml version="1.0" encoding="UTF-8"?><xml><records><record>
<rec-number>7</rec-number><contributors><authors><author><style face="normal">Sieve, A.</style>
</author></authors></contributors><titles><title><style face="normal">Growth of </style><style
face="italic">E. coli</style></title><secondary-title>Journal</secondary-title></titles>
<abstract><style face="normal">We grow it.</style></abstract>
<dates><year><style>2021</style></year></dates>
<electronic-resource-num><style>10.1/z</style></electronic-resource-num></record></records></xml>
"""

PUBMED = """<?xml version="1.0"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2024//EN" "https://x/y.dtd">
<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID Version="1">12345</PMID><Article>
<Journal><JournalIssue><PubDate><Year>2020</Year><Month>Mar</Month></PubDate></JournalIssue></Journal>
<ArticleTitle>Growth in H<sub>2</sub>O of <i>E. coli</i></ArticleTitle>
<Abstract><AbstractText Label="AIM">To grow.</AbstractText>
<AbstractText Label="RESULT">It grew.</AbstractText></Abstract>
<AuthorList><Author><LastName>Sieve</LastName><ForeName>Ada</ForeName></Author>
<Author><CollectiveName>The Group</CollectiveName></Author></AuthorList></Article></MedlineCitation>
</PubmedArticle></PubmedArticleSet>"""

JATS = """<!DOCTYPE article PUBLIC "-//NLM//DTD JATS//EN" "JATS.dtd">
<article xmlns:mml="http://www.w3.org/1998/Math/MathML"><front><article-meta>
<article-id pub-id-type="doi">10.1/w</article-id>
<title-group><article-title>Bounds on <mml:math><mml:mi>n</mml:mi></mml:math></article-title>
</title-group><contrib-group><contrib contrib-type="author"><name><surname>Sieve</surname>
<given-names>Ada</given-names></name></contrib><contrib contrib-type="editor"><name>
<surname>No</surname></name></contrib></contrib-group><pub-date><year>2022</year></pub-date>
<pub-date><day>3</day><month>2</month><year>2021</year></pub-date>
<abstract abstract-type="graphical"><p>Picture.</p></abstract>
<abstract><title>Abstract</title><p>We bound it.</p></abstract></article-meta></front>
<body><p>Long text.</p></body></article>"""


def record(metadata: str, *, id: str = "2401.00099", sets: str = "", status: str = "") -> str:
    specs = "".join(f"<setSpec>{name}</setSpec>" for name in sets.split())
    status = f' status="{status}"' if status else ""
    return (
        f"<record>\n<header{status}><identifier>oai:arXiv.org:{id}</identifier>{specs}</header>\n"
        f"{f'<metadata>{metadata}</metadata>' if metadata else ''}</record>\n"
    )


def response(*records: str) -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<OAI-PMH xmlns="{OAI}"><ListRecords>\n'
        f"{''.join(records)}<resumptionToken>1</resumptionToken></ListRecords></OAI-PMH>\n"
    )


def read(content: str | bytes, **options: object) -> list[Paper | BadRecord]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_stream(io.BytesIO(raw), **options))  # type: ignore[arg-type]


def only(content: str) -> Paper:
    (paper,) = read(content)
    assert isinstance(paper, Paper), paper
    return paper


def test_atom_is_read_with_its_categories_dates_and_authors() -> None:
    assert only(ATOM) == Paper(
        id="2401.00010v2",
        title="Sieves\n  for graphs",
        abstract="We sieve $a < b$ & colour.",
        category_code="math.CO",
        categories=("math.CO", "cs.DM"),
        published_date="2024-01-02",
        updated_date="2024-02-03",
        authors="Ada Sieve, Bo Graph",
    )


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
                authors="Ada Sieve",
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
                authors="Ada Sieve and Bo Graph",
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
                authors="Sieve, Ada, Graph, Bo",
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
        authors="Sieve, A.",
    )


def test_pubmed_is_read_and_its_markup_taken_out() -> None:
    assert only(PUBMED) == Paper(
        id="12345",
        title="Growth in H_{2}O of E. coli",
        abstract="AIM: To grow.\nRESULT: It grew.",
        published_date="2020-03-01",
        authors="Ada Sieve, The Group",
    )


def test_the_front_matter_of_jats_is_one_paper() -> None:
    paper = only(JATS)
    assert (paper.id, paper.title.strip(), paper.abstract.strip()) == (
        "10.1/w",
        "Bounds on n",
        "We bound it.",
    )
    assert (paper.published_date, paper.authors) == ("2021-02-03", "Ada Sieve")
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


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
DEFAULTS = f'<!DOCTYPE x [<!ATTLIST a b CDATA "{"x" * 1000}">]>'
PARAMETER = '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://localhost:9/"> %p;]>'


@pytest.mark.parametrize("definitions", [LAUGHS, FILE, DEFAULTS, PARAMETER])
def test_entities_and_own_definitions_are_refused(tmp_path: Path, definitions: str) -> None:
    path = tmp_path / "papers.xml"
    path.write_text(ATOM.replace("<feed", f"{definitions}<feed").replace("Sieves", "&b;"))
    with pytest.raises(
        UnreadableSource,
        match=r"papers\.xml, line 2: the XML has a document type definition of its",
    ):
        list(read_papers(path))


def test_what_precedes_a_refusal_is_given() -> None:
    papers = read_stream(io.BytesIO((ATOM + ATOM.replace("<feed", f"{LAUGHS}<feed")).encode()))
    assert isinstance(next(papers), Paper)
    with pytest.raises(UnreadableSource, match="definition of its own"):
        next(papers)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<a>" * 300, r"line 6: the XML nests elements more than 200 deep, which no"),
        (
            "<a " + " ".join(f'b{i}="1"' for i in range(300)) + "/>",
            r"gives an element 300 attributes",
        ),
    ],
)
def test_absurd_structure_is_refused(inside: str, message: str) -> None:
    content = ATOM.replace("<entry>", f"<entry>\n{inside}")
    with pytest.raises(UnreadableSource, match=message):
        read(content)


@pytest.mark.slow
@pytest.mark.parametrize("opening", ['<a b="', "<!-- ", "<?pi "])
def test_a_tag_or_comment_without_end_is_refused_in_bounded_memory(opening: str) -> None:
    head = ATOM.partition("<entry>")[0] + opening

    tracemalloc.start()
    with pytest.raises(UnreadableSource, match=r"a tag or comment of more than 1,048,576 bytes"):
        list(read_stream(Endless(head.encode(), b"x" * 65_536, 1_000), format="xml"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 16_000_000


class Endless(io.RawIOBase):
    """A stream of a head, and one piece many times over."""

    def __init__(self, head: bytes, piece: bytes, times: int, tail: bytes = b"") -> None:
        self._pieces: Iterator[bytes] = iter([head, *[piece] * times, tail])
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest and (more := next(self._pieces, None)) is not None:
            self._rest = more
        chunk, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


def test_a_record_over_the_limit_is_one_error_and_reading_goes_on() -> None:
    long = record(ARXIV.replace("We study", "We " + "study " * 40_000))
    one, bad, two = read(response(record(ARXIV), long, record(RAW)), max_record_bytes=100_000)
    assert isinstance(bad, BadRecord)
    assert bad.kind == "too_long"
    assert "more than the limit of 100,000" in bad.message
    assert (one.id, two.id) == ("2401.00011", "2401.00012")


def test_a_record_of_too_many_elements_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmlfiles_module, "MAX_ELEMENTS", 100)
    many = record(ARXIV.replace("<title>", "<x/>" * 100 + "<title>"))
    bad, paper = read(response(many, record(RAW)))
    assert isinstance(bad, BadRecord)
    assert bad.message == "line 3: holds more than 100 elements"
    assert paper.id == "2401.00012"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file() -> None:
    head, tail = response("").split("<resumptionToken>")
    stream = Endless(head.encode(), (record(ARXIV) * 100).encode(), 30, tail.encode())
    tracemalloc.start()
    n_papers = sum(isinstance(paper, Paper) for paper in read_stream(stream, format="xml"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_papers == 3_000
    assert peak_bytes < 2_000_000


def test_broken_xml_gives_what_precedes_and_one_error() -> None:
    one = record(ARXIV)
    content = response(one, one, one.replace("</title>", "</titel>"), one)
    first, second, bad = read(content)
    assert isinstance(first, Paper)
    assert isinstance(second, Paper)
    assert isinstance(bad, BadRecord)
    begins = content[: content.rindex("<record>", 0, content.index("</titel>"))].count("\n") + 1
    breaks = content[: content.index("</titel>")].count("\n") + 1
    assert bad.kind == "broken_xml"
    assert bad.message.startswith(f"line {breaks}: the XML is broken or cut short (mismatched tag")
    assert bad.message.endswith(f"in the record of line {begins}); what follows was not read")


def test_junk_behind_a_document_is_an_error() -> None:
    paper, bad = read(ATOM + "and more")
    assert isinstance(paper, Paper)
    assert isinstance(bad, BadRecord)
    assert bad.kind == "broken_xml"


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


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=30
)
WRITTEN = st.lists(st.tuples(TEXTS.filter(str.strip), TEXTS), min_size=1, max_size=5)


def written(records: list[tuple[str, str]], kind: str) -> str:
    items = [
        (str(i), escape(title, {"\r": "&#13;"}), escape(abstract))
        for i, (title, abstract) in enumerate(records, 1)
    ]
    if kind == "atom":
        entries = [
            f"<entry><id>{i}</id><title>{t}</title><summary>{a}</summary></entry>\n"
            for i, t, a in items
        ]
        return f'<feed xmlns="http://www.w3.org/2005/Atom">{"".join(entries)}</feed>'
    if kind == "endnote":
        entries = [
            f"<record><rec-number>{i}</rec-number><titles><title><style>{t}</style></title>"
            f"</titles><abstract>{a}</abstract></record>\n"
            for i, t, a in items
        ]
        return f"<xml><records>{''.join(entries)}</records></xml>"
    return response(
        *(
            record(f"<arXiv><id>{i}</id><title>{t}</title><abstract>{a}</abstract></arXiv>")
            for i, t, a in items
        )
    )


KINDS = st.sampled_from(["atom", "endnote", "oai"])


@settings(deadline=None, max_examples=60)
@given(WRITTEN, KINDS)
def test_whatever_is_written_as_xml_is_read_back(records: list[tuple[str, str]], kind: str) -> None:
    # Letters only: what looks like markup or an entity is taken out, which other tests look at.
    records = [(f"A{t}".replace("<", "").replace("&", ""), a.replace("<", "").replace("&", ""))
               for t, a in records]  # fmt: skip
    papers = read(written(records, kind), format="xml")
    assert [(p.title, p.abstract) for p in papers] == [(t.strip(), a.strip()) for t, a in records]
    assert [p.id for p in papers] == [str(i) for i in range(1, len(records) + 1)]


@settings(deadline=None, max_examples=80)
@given(WRITTEN, KINDS, st.data())
def test_cut_anywhere_each_record_is_an_answer_or_there_is_an_error(
    records: list[tuple[str, str]], kind: str, data: st.DataObject
) -> None:
    whole = written(records, kind).strip().encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    found = read(whole[:cut], format="xml")
    *papers, last = found
    assert isinstance(last, BadRecord)
    assert last.kind == "broken_xml"
    n_whole = whole[:cut].count(b"</entry>" if kind == "atom" else b"</record>")
    assert len(papers) == n_whole


def test_no_tag_is_among_the_words_of_a_paper() -> None:
    for content in (ATOM, PUBMED, JATS, ENDNOTE):
        paper = only(content)
        assert not {"style", "sub", "mml", "mi", "lt", "amp"} & set(
            normalise(f"{paper.title} {paper.abstract}").split()
        )
