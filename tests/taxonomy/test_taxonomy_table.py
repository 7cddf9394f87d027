"""The table: what is in it, and what every code and alias leads to."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark import taxonomy
from classmark.errors import UnknownCategory
from classmark.taxonomy import table

ACTIVE_PER_ARCHIVE = {
    "astro-ph": 6,
    "cond-mat": 9,
    "cs": 38,
    "econ": 3,
    "eess": 4,
    "gr-qc": 1,
    "hep-ex": 1,
    "hep-lat": 1,
    "hep-ph": 1,
    "hep-th": 1,
    "math": 30,
    "math-ph": 1,
    "nlin": 5,
    "nucl-ex": 1,
    "nucl-th": 1,
    "physics": 22,
    "q-bio": 10,
    "q-fin": 8,
    "quant-ph": 1,
    "stat": 5,
}
ALIASES = {
    "acc-phys": "physics.acc-ph",
    "adap-org": "nlin.AO",
    "alg-geom": "math.AG",
    "ao-sci": "physics.ao-ph",
    "atom-ph": "physics.atom-ph",
    "bayes-an": "physics.data-an",
    "chao-dyn": "nlin.CD",
    "chem-ph": "physics.chem-ph",
    "cmp-lg": "cs.CL",
    "comp-gas": "nlin.CG",
    "cs.NA": "math.NA",
    "cs.SY": "eess.SY",
    "dg-ga": "math.DG",
    "funct-an": "math.FA",
    "math.IT": "cs.IT",
    "math.MP": "math-ph",
    "mtrl-th": "cond-mat.mtrl-sci",
    "patt-sol": "nlin.PS",
    "plasm-ph": "physics.plasm-ph",
    "q-alg": "math.QA",
    "q-fin.EC": "econ.GN",
    "solv-int": "nlin.SI",
    "stat.TH": "math.ST",
    "supr-con": "cond-mat.supr-con",
}
CODES_BY_ARCHIVE = """
astro-ph: CO EP GA HE IM SR
cond-mat: dis-nn mes-hall mtrl-sci other quant-gas soft stat-mech str-el supr-con
cs: AI AR CC CE CG CL CR CV CY DB DC DL DM DS ET FL GL GR GT HC IR IT LG LO MA MM MS NE NI OH OS
cs: PF PL RO SC SD SE SI
econ: EM GN TH
eess: AS IV SP SY
math: AC AG AP AT CA CO CT CV DG DS FA GM GN GR GT HO KT LO MG NA NT OA OC PR QA RA RT SG SP ST
nlin: AO CD CG PS SI
physics: acc-ph ao-ph app-ph atm-clus atom-ph bio-ph chem-ph class-ph comp-ph data-an ed-ph flu-dyn
physics: gen-ph geo-ph hist-ph ins-det med-ph optics plasm-ph pop-ph soc-ph space-ph
q-bio: BM CB GN MN NC OT PE QM SC TO
q-fin: CP GN MF PM PR RM ST TR
stat: AP CO ME ML OT
"""
WHOLE_ARCHIVES = [
    "gr-qc",
    "hep-ex",
    "hep-lat",
    "hep-ph",
    "hep-th",
    "math-ph",
    "nucl-ex",
    "nucl-th",
    "quant-ph",
]
RETIRED = ("astro-ph", "cond-mat", "q-bio")
DIGEST_OF_VERSION = {"1": "66b9630a1109700522af09359e80fdcc2620ff187109c34d2f6fecc8d1f5969f"}


def listed_codes() -> set[str]:
    rows = (line.split(": ") for line in CODES_BY_ARCHIVE.strip().splitlines())
    return {f"{archive}.{subject}" for archive, subjects in rows for subject in subjects.split()}


def every_spelling() -> list[str]:
    return [c.code for c in taxonomy.categories(active_only=False)] + list(ALIASES)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, str]:
    """A known code or alias, and the same in any case with white space around it."""
    code = draw(st.sampled_from(every_spelling()))
    upper = draw(st.lists(st.booleans(), min_size=len(code), max_size=len(code)))
    cased = "".join(c.upper() if up else c.lower() for c, up in zip(code, upper, strict=True))
    return code, draw(st.sampled_from(["", " ", "\t\n"])) + cased + draw(
        st.sampled_from(["", "\n"])
    )


def test_active_codes_are_exactly_the_frozen_list() -> None:
    assert {c.code for c in taxonomy.categories()} == listed_codes() | set(WHOLE_ARCHIVES)


def test_each_archive_has_its_known_number_of_active_categories() -> None:
    assert Counter(c.archive for c in taxonomy.categories()) == ACTIVE_PER_ARCHIVE


def test_retired_undivided_archives_are_listed_only_on_request() -> None:
    everything = taxonomy.categories(active_only=False)
    assert {c.code for c in everything} - {c.code for c in taxonomy.categories()} == set(RETIRED)


def test_categories_come_in_order_of_their_codes() -> None:
    codes = [c.code for c in taxonomy.categories(active_only=False)]
    assert codes == sorted(codes)


def test_there_are_eight_groups_and_all_are_used() -> None:
    names = {taxonomy.group_name(c.group) for c in taxonomy.categories()}
    assert names == {
        "Physics",
        "Mathematics",
        "Computer Science",
        "Quantitative Biology",
        "Quantitative Finance",
        "Statistics",
        "Electrical Engineering and Systems Science",
        "Economics",
    }


@pytest.mark.parametrize(("alias", "code"), ALIASES.items())
def test_alias_leads_to_todays_code(alias: str, code: str) -> None:
    assert taxonomy.canonical(alias) == code
    assert taxonomy.is_active(alias)


@pytest.mark.parametrize("code", RETIRED)
def test_retired_undivided_archive_is_known_but_not_active(code: str) -> None:
    assert taxonomy.canonical(code) == code
    assert not taxonomy.is_active(code)


@given(spellings())
def test_canonical_ignores_case_and_surrounding_white_space(pair: tuple[str, str]) -> None:
    code, spelling = pair
    assert taxonomy.canonical(spelling) == taxonomy.canonical(code)


@given(spellings())
def test_canonical_is_idempotent(pair: tuple[str, str]) -> None:
    once = taxonomy.canonical(pair[1])
    assert taxonomy.canonical(once) == once


@given(st.text())
def test_canonical_answers_a_listed_code_or_refuses(text: str) -> None:
    try:
        code = taxonomy.canonical(text)
    except UnknownCategory:
        return
    assert code in {c.code for c in taxonomy.categories(active_only=False)}


@pytest.mark.parametrize(
    ("code", "archive", "group", "name"),
    [
        ("cs.LG", "cs", "grp_cs", "Machine Learning"),
        ("stat.ML", "stat", "grp_stat", "Machine Learning"),
        ("hep-th", "hep-th", "grp_physics", "High Energy Physics - Theory"),
        ("math-ph", "math-ph", "grp_physics", "Mathematical Physics"),
        ("math.AP", "math", "grp_math", "Analysis of PDEs"),
        ("physics.ao-ph", "physics", "grp_physics", "Atmospheric and Oceanic Physics"),
        ("cond-mat", "cond-mat", "grp_physics", "Condensed Matter"),
        ("cs.NA", "math", "grp_math", "Numerical Analysis"),
        ("q-fin.EC", "econ", "grp_econ", "General Economics"),
    ],
)
def test_levels_and_name_of_a_code(code: str, archive: str, group: str, name: str) -> None:
    seen = (taxonomy.parent(code), taxonomy.group(code), taxonomy.name(code))
    assert seen == (archive, group, name)


def test_two_categories_share_the_name_machine_learning_and_no_others_share_one() -> None:
    counts = Counter(c.name for c in taxonomy.categories())
    assert {name: n for name, n in counts.items() if n > 1} == {"Machine Learning": 2}


@pytest.mark.parametrize(
    ("archive", "name"),
    [("cs", "Computer Science"), ("nlin", "Nonlinear Sciences"), ("quant-ph", "Quantum Physics")],
)
def test_archive_name_is_arxivs(archive: str, name: str) -> None:
    assert taxonomy.archive_name(archive) == name


def test_archive_name_of_a_category_code_names_the_archives() -> None:
    with pytest.raises(UnknownCategory, match=r"unknown arXiv archive 'cs\.LG'\. .*cond-mat, cs,"):
        taxonomy.archive_name("cs.LG")


def test_group_name_of_an_archive_code_names_the_groups() -> None:
    with pytest.raises(UnknownCategory, match=r"unknown arXiv group 'physics'\. .*grp_physics"):
        taxonomy.group_name("physics")


def test_data_changes_only_together_with_the_version() -> None:
    data = Path(table.__file__).with_name("categories.json").read_bytes()
    digest = hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest()
    assert {taxonomy.VERSION: digest} == DIGEST_OF_VERSION
