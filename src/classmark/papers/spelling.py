r"""How LaTeX commands and Unicode symbols are spelled: data of the text recipe.

Replacements may hold ``SOFT_SPACE``; the recipe turns it into a blank between two letters or
digits and drops it elsewhere, so that ``Ly$\alpha$`` gives ``Ly alpha`` and ``$\beta$-decay``
gives ``beta-decay``.
"""

from __future__ import annotations

SOFT_SPACE = "\x01"


def as_word(name: str) -> str:
    """Return a name that stands apart from letters and digits beside it."""
    return f"{SOFT_SPACE}{name}{SOFT_SPACE}"


def _words(table: str) -> list[str]:
    return table.split()


def _pairs(table: str) -> dict[str, str]:
    items = _words(table)
    return dict(zip(items[::2], items[1::2], strict=True))


_GREEK_NAMES = _words(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho "
    "sigma sigma tau upsilon phi chi psi omega"
)
"""In the order of Unicode, with the final sigma before the other one."""

GREEK: dict[str, str] = {
    **{chr(ord("α") + i): as_word(name) for i, name in enumerate(_GREEK_NAMES)},
    **{chr(ord("Α") + i): as_word(name.title()) for i, name in enumerate(_GREEK_NAMES)},
}

LETTERS: dict[str, str] = _pairs(
    "ß ss ẞ SS æ ae Æ AE œ oe Œ OE ø o Ø O ł l Ł L đ d Đ D ð d Ð D þ th Þ Th ı i ȷ j ŋ ng Ŋ NG "
    "Ħ H ŧ t Ŧ T ə e"
)
"""Letters that Unicode does not decompose into a base letter and marks."""

MATH_SYMBOLS: dict[str, str] = {
    symbol: as_word(name)
    for symbol, name in _pairs(
        "∞ infty ≤ leq ≦ leq ⩽ leq ≥ geq ≧ geq ⩾ geq ≠ neq ≪ ll ≫ gg ≲ lesssim ≳ gtrsim ≈ approx "
        "≃ simeq ≅ cong ≡ equiv ∼ sim ∝ propto × times ÷ div ± pm ∓ mp · cdot ⋅ cdot ∘ circ ° circ "
        "• bullet ⋆ star ★ star ∙ bullet → to ⟶ to ⇒ Rightarrow ⟹ Rightarrow ← leftarrow "
        "⇐ Leftarrow ↔ leftrightarrow ⇔ iff ⟺ iff ↦ mapsto ↪ hookrightarrow ↑ uparrow ↓ downarrow "
        "∈ in ∉ notin ∋ ni ⊂ subset ⊃ supset ⊆ subseteq ⊇ supseteq ⊊ subsetneq ∪ cup ∩ cap "
        "∖ setminus ∅ emptyset ∀ forall ∃ exists ∄ nexists ∧ wedge ∨ vee ¬ neg ⊕ oplus ⊖ ominus "
        "⊗ otimes ⊙ odot ⊠ boxtimes ⋉ ltimes ⋊ rtimes ∑ sum ∏ prod ∐ coprod ∫ int ∬ iint ∮ oint "
        "∂ partial ∇ nabla ∆ Delta √ sqrt ℓ ell ℏ hbar ⊥ perp ∥ parallel ∠ angle ⊢ vdash ⊨ models "
        "ħ hbar ɛ epsilon ɸ phi † dagger ‡ ddagger △ triangle □ square ◻ square ♯ sharp ♭ flat "
        "⊲ triangleleft ≺ prec ≻ succ ≼ preceq ≽ succeq ℵ aleph ℘ wp ☉ odot ⟂ perp ∣ mid"
    ).items()
}

PUNCTUATION: dict[str, str] = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"),
    **dict.fromkeys("‘’‚‛′ʹʻʼʽˈ‹›", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("\u2044\u2215", "/"),
    **dict.fromkeys("\u2217\u204e", "*"),
    **dict.fromkeys("\u2223\u2016\u01c0", "|"),
    # Accents that stand alone are left behind by PDF extraction: "Poincar´e".
    **dict.fromkeys("\u00a8\u00af\u00b4\u00b8\u02c6\u02c7\u02d8\u02d9\u02da\u02db\u02dc\u02dd", ""),
    "⋯": "...",
}

COMMAND_LETTERS: dict[str, str] = _pairs(
    "ss ss SS SS ae ae AE AE oe oe OE OE o o O O l l L L aa a AA A i i j j dh d DH D dj d DJ D "
    "th th TH Th ng ng NG NG imath i jmath j"
)

_VANISHING = (
    "emph textbf textit textsc textrm textsf texttt textsl textup textmd textnormal text mbox hbox "
    "vbox fbox makebox mathrm mathbf mathit mathsf mathtt mathcal mathbb mathfrak mathscr "
    "mathnormal mathds mathbbm mathop mathrel mathbin mathord operatorname boldsymbol bm pmb bold "
    "em it bf rm sf sc sl tt cal frak scr Bbb Cal bfseries itshape slshape rmfamily sffamily "
    "ttfamily scshape upshape mdseries normalfont tiny scriptsize footnotesize small normalsize "
    "large Large LARGE huge Huge displaystyle textstyle scriptstyle scriptscriptstyle limits "
    "nolimits left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm "
    "underline overline widehat widetilde hat tilde bar vec dot ddot dddot check breve acute grave "
    "mathring overrightarrow overleftarrow underbrace overbrace frac dfrac tfrac cfrac noindent "
    "protect ensuremath relax xspace centering null nonumber notag strut mathstrut footnote thanks "
    "textsuperscript textsubscript textcolor color SI si num unit qty lowercase uppercase "
    "textquoteright cite ref eqref label url href begin end allowbreak nobreak hfill vfill break"
)
_BLANK = (
    "quad qquad enspace enskip thinspace medspace thickspace space hspace vspace hskip newline "
    "linebreak par item smallskip medskip bigskip langle rangle lfloor rfloor lceil rceil lbrace "
    "rbrace textunderscore textasciitilde textbackslash"
)
SWALLOWING_COMMANDS: dict[str, str] = {
    **dict.fromkeys(_words(_VANISHING), ""),
    **dict.fromkeys(_words(_BLANK), " "),
    **dict.fromkeys(("textendash", "textemdash"), "-"),
    **COMMAND_LETTERS,
}
"""Commands that take the white space after them away with them, as TeX does."""

COMMAND_ALIASES: dict[str, str] = {
    name: as_word(spelled)
    for name, spelled in _pairs(
        "le leq leqslant leq leqq leq ge geq geqslant geq geqq geq ne neq lt < gt > "
        "lesssim lesssim lsim lesssim gtrsim gtrsim gsim gtrsim thickapprox approx thicksim sim "
        "rightarrow to longrightarrow to longmapsto mapsto Longrightarrow Rightarrow "
        "implies Rightarrow gets leftarrow Leftrightarrow iff Longleftrightarrow iff "
        "varepsilon epsilon vartheta theta varpi pi varrho rho varsigma sigma varphi phi "
        "varkappa kappa varGamma Gamma varDelta Delta varnothing emptyset land wedge lor vee "
        "lnot neg setminus setminus smallsetminus setminus hslash hbar degree circ textdegree circ "
        "ast * prime ' lvert | rvert | vert | Vert | lVert | rVert | dots ... ldots ... cdots ... "
        "dotsc ... dotsb ... textmu mu ohm Omega angstrom A sun odot textless < textgreater >"
    ).items()
}

COMMAND_SYMBOLS: dict[str, str] = {
    **dict.fromkeys("\"'`^~=.", ""),  # accents: the letter after them stays
    **dict.fromkeys("!-/@()${}", ""),
    **dict.fromkeys(",;:>[]\\_ \t\r\n", " "),
}
"""``\\`` and one character other than a letter; what is not listed stands for itself."""
