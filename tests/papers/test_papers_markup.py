from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.papers.markup import without_markup

TEX_DOCUMENT = r"\documentclass{m}\usepackage{a}\begin{document}$$x_i = \alpha$$\end{document}"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<jats:title>Abstract</jats:title><jats:p>We time.</jats:p>", "  We time. "),
        ("<title>Summary:</title>\n<p>We time.</p>", " \n We time. "),
        ("of <jats:italic>E. coli</jats:italic> cells", "of E. coli cells"),
        ("H<sub>2</sub>O and cm<sup>-1</sup>", "H_{2}O and cm^{-1}"),
        ("M<jats:sub>eff</jats:sub>", "M_{eff}"),
        ("<b>bold</b> <i>words</i>", "bold words"),
        ('<a href="http://x.y/?a=1">link</a><br/>next', "link next"),
        ("<ce:para>We</ce:para>", " We "),
        ("caf&eacute; &amp; bar&#8217;s &#x3b1;", "café & bar’s α"),
        ("&lt;p&gt;We &lt;i&gt;draw&lt;/i&gt;&lt;/p&gt;", " We draw "),
        ("a &lt; b and c &gt; d", "a < b and c > d"),
        ("a &amp;lt; b &amp;amp;amp; c&amp;#8217;s &amp;beta;", "a < b & c’s β"),
        ("H&amp;lt;sub&amp;gt;2&amp;lt;/sub&amp;gt;O", "H_{2}O"),
        ("R&amp;D; &amp; AT&amp;T; &amp;", "R&D; & AT&T; &"),
        ("<![CDATA[We draw]]><!-- note -->", "We draw "),
        ("<mml:math><mml:mi>x</mml:mi><mml:mo>=</mml:mo><mml:mn>2</mml:mn></mml:math>", "x=2"),
        (
            '<math><semantics><mi>x</mi><annotation encoding="application/x-tex">x^2</annotation>'
            "</semantics></math>",
            "$x^2$",
        ),
        (
            f"<alternatives><tex-math>{TEX_DOCUMENT}</tex-math>"
            "<mml:math><mml:mi>x</mml:mi></mml:math></alternatives>",
            r"$$x_i = \alpha$$",
        ),
    ],
)
def test_markup_is_taken_out(text: str, plain: str) -> None:
    assert without_markup(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "the mean <p> and <x y> and <p_T>",
        "if $x<y$ then $z>0$",
        r"$\langle p \rangle$ < 3 & > 2",
        "vector<int> and <T> in C++",
        r"AT\&T; R&D; R&D",
        "x <- y -> z",
        "no markup at all",
        "",
    ],
)
def test_what_is_no_markup_stays_as_it_is(text: str) -> None:
    assert without_markup(text) == text


@given(
    st.lists(st.sampled_from(["<", ">", "a", "p", "x=", "/", "$", "&", ";", "amp"]), max_size=30)
)
def test_signs_that_stand_alone_are_never_taken_for_markup(words: list[str]) -> None:
    text = " ".join(words)
    assert without_markup(text) == text


@given(st.text(st.sampled_from('<>/="!- abipmsubthx:$\\{}'), max_size=60))
def test_a_text_without_markup_has_none_to_take_out(text: str) -> None:
    once = without_markup(text)
    assert without_markup(once.replace("<", "< ")) == once.replace("<", "< ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["<", "<a ", '<a b="', "<math>", "<tex-math>", "<!--", "<title>", "&", "<p>", "</p>"]
)
def test_the_time_is_linear_in_the_text(piece: str) -> None:
    start = time.process_time()
    without_markup(piece * (400_000 // len(piece)))
    assert time.process_time() - start < 20
