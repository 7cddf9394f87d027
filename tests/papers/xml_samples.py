"""Invented XML of every kind that is read."""

from __future__ import annotations

import io

from classmark.papers import read_stream
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

RSS = """<?xml version='1.0' encoding='UTF-8'?>
<rss xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:dc="http://purl.org/dc/elements/1.1/"
 version="2.0"><channel><title>math.CO updates on arXiv.org</title>
<link>http://rss.arxiv.org/rss/math.CO</link><description>math.CO updates</description>
<pubDate>Tue, 02 Jan 2024 00:00:00 -0500</pubDate>
<item><title>Sieves for graphs</title><link>https://arxiv.org/abs/2401.00010</link>
<description>arXiv:2401.00010v1 Announce Type: new
Abstract: We sieve $a &lt; b$ &amp; colour.</description>
<guid isPermaLink="false">oai:arXiv.org:2401.00010v1</guid>
<category>math.CO</category><category>cs.DM</category>
<pubDate>Tue, 02 Jan 2024 00:00:00 -0500</pubDate>
<arxiv:announce_type>new</arxiv:announce_type><dc:rights>http://example.org/by</dc:rights>
<dc:creator>Ada Sieve, Bo Graph</dc:creator></item>
<item><title>Lattices</title><link>https://arxiv.org/abs/2401.00011</link>
<description>We study lattices.</description><category>Physics News</category></item>
</channel></rss>
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


MODS = """<mods xmlns="http://www.loc.gov/mods/v3" version="3.7">
<titleInfo><nonSort>The</nonSort><title>colours of graphs</title><subTitle>a study</subTitle>
</titleInfo><titleInfo type="translated"><title>Farben</title></titleInfo>
<name type="personal"><namePart type="given">Ada</namePart><namePart type="family">Sieve</namePart>
<namePart type="date">1990-</namePart><role><roleTerm type="code">aut</roleTerm>
<roleTerm type="text">author</roleTerm></role></name>
<name><namePart>Graph, Bo</namePart></name>
<name><namePart>Prof, Ed</namePart><role><roleTerm>thesis advisor</roleTerm></role></name>
<originInfo><dateIssued>n.d.</dateIssued><dateIssued>2021-05-04</dateIssued></originInfo>
<abstract>We colour <i>all</i> graphs.</abstract>
<identifier type="doi">10.1/m</identifier></mods>"""

MARC = """<record xmlns="http://www.loc.gov/MARC21/slim"><leader>00000nam a</leader>
<controlfield tag="001">991</controlfield>
<datafield tag="100" ind1="1" ind2=" "><subfield code="a">Sieve, Ada,</subfield>
<subfield code="e">author.</subfield></datafield>
<datafield tag="245" ind1="1" ind2="4"><subfield code="a">The colours of graphs :</subfield>
<subfield code="b">a study /</subfield><subfield code="c">Ada Sieve.</subfield></datafield>
<datafield tag="260" ind1=" " ind2=" "><subfield code="b">Press,</subfield>
<subfield code="c">c2021.</subfield></datafield>
<datafield tag="520" ind1="3" ind2=" "><subfield code="a">We colour.</subfield></datafield>
<datafield tag="700" ind1="1" ind2=" "><subfield code="a">Graph, Bo.</subfield></datafield>
<datafield tag="700" ind1="1" ind2=" "><subfield code="a">Prof, Ed</subfield>
<subfield code="e">thesis advisor</subfield></datafield></record>"""

DATACITE = """<resource xmlns="http://datacite.org/schema/kernel-4">
<identifier identifierType="DOI">10.1/d</identifier><creators><creator>
<creatorName nameType="Personal">Sieve, Ada</creatorName><givenName>Ada</givenName></creator>
</creators><titles><title xml:lang="en">Colours</title></titles><publisher>P</publisher>
<publicationYear>2021</publicationYear><dates><date dateType="Created">2020</date>
<date dateType="Issued">2021-05-04</date></dates><descriptions>
<description descriptionType="Methods">By hand.</description>
<description descriptionType="Abstract">We colour.</description></descriptions></resource>"""

EUROPE_PMC = """<responseWrapper><hitCount>1</hitCount><resultList><result><id>345</id>
<source>MED</source><title>Colours.</title><authorString>Sieve A, Graph BC.</authorString>
<abstractText>We colour.</abstractText><pubYear>2021</pubYear></result></resultList>
</responseWrapper>"""

EUROPE_PMC_CORE = EUROPE_PMC.replace(
    "<authorString>",
    "<authorList><author><fullName>Sieve A</fullName><firstName>Ada</firstName>"
    "<lastName>Sieve</lastName><initials>A</initials></author>"
    "<author><collectiveName>The Group</collectiveName></author></authorList><authorString>",
)

DBLP = """<dblp><inproceedings key="conf/x/Sieve21"><author>Ada Sieve 0002</author>
<author>Bo Graph</author><title>Colours.</title><year>2021</year></inproceedings></dblp>"""

DBLP_HITS = """<result><query>colours</query><hits total="1"><hit score="1"><info><authors>
<author pid="1">Ada Sieve 0002</author></authors><title>Colours.</title><year>2021</year>
<key>conf/x/Sieve21</key></info></hit></hits></result>"""

TEI = """<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc><titleStmt>
<title level="a" type="main">Colours</title></titleStmt><sourceDesc><biblStruct><analytic><author>
<persName><forename type="first">Ada</forename><surname>Sieve</surname></persName></author>
</analytic><monogr><imprint><date type="published" when="2021-05-04"/></imprint></monogr>
<idno type="MD5">0A</idno><idno type="DOI">10.1/t</idno></biblStruct></sourceDesc></fileDesc>
<profileDesc><abstract><div><p><s>We colour.</s><s>It ends.</s></p></div></abstract>
</profileDesc></teiHeader>
<text><body><p>Not read.</p></body></text></TEI>"""

HAL = """<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc><titleStmt>
<title>HAL TEI export of hal-1</title></titleStmt></fileDesc></teiHeader><text><body><listBibl>
<biblFull><titleStmt><title xml:lang="en">Colours</title><author role="aut"><persName>
<forename type="first">Ada</forename><surname>Sieve</surname></persName></author></titleStmt>
<publicationStmt><idno type="halId">hal-1</idno><date>2021-05-04</date></publicationStmt>
<profileDesc><abstract xml:lang="en"><p>We colour.</p></abstract></profileDesc></biblFull>
</listBibl></body></text></TEI>"""

_STUDY = "The colours of graphs: a study"
LIBRARIES = {
    "MODS": (MODS, ("10.1/m", _STUDY, "We colour all graphs.", "Ada Sieve", "Graph, Bo")),
    "MARC": (
        MARC,
        ("991", "The colours of graphs : a study", "We colour.", "Sieve, Ada", "Graph, Bo"),
    ),
    "DataCite": (DATACITE, ("10.1/d", "Colours", "We colour.", "Sieve, Ada")),
    "Europe PMC": (EUROPE_PMC, ("345", "Colours.", "We colour.", "A. Sieve", "B. C. Graph")),
    "Europe PMC in full": (
        EUROPE_PMC_CORE,
        ("345", "Colours.", "We colour.", "Ada Sieve", "The Group"),
    ),
    "DBLP": (DBLP, ("conf/x/Sieve21", "Colours.", "", "Ada Sieve", "Bo Graph")),
    "DBLP's search": (DBLP_HITS, ("conf/x/Sieve21", "Colours.", "", "Ada Sieve")),
    "TEI of GROBID": (TEI, ("10.1/t", "Colours", "We colour. It ends.", "Ada Sieve")),
    "TEI of HAL": (HAL, ("hal-1", "Colours", "We colour.", "Ada Sieve")),
}
"""Of each source a file, and the id, title, abstract and authors of its only paper."""


def read(content: str | bytes, **options: object) -> list[Paper | BadRecord]:
    raw = content.encode() if isinstance(content, str) else content
    return list(read_stream(io.BytesIO(raw), **options))  # type: ignore[arg-type]


def only(content: str) -> Paper:
    (paper,) = read(content)
    assert isinstance(paper, Paper), paper
    return paper
