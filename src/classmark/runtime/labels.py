"""The labels of a model: codes of the arXiv taxonomy, or the user's own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from classmark import taxonomy
from classmark.errors import UnknownCategory
from classmark.records import BundleManifest
from classmark.taxonomy.table import nearest
from classmark.wire import Answer, AuthorCategory

MAX_SHOWN_CHARS = 60
_N_SUGGESTIONS = 3
_N_COMPARED = 50
"""Comparing two labels letter by letter takes up to 0.1 ms, and a model may have 10,000 of them."""
_N_REMEMBERED = 4096
_MOST_OF_THE_PROBABILITY = 0.5


class Labels:
    """The labels of one model, as people write them; it never changes, so it is shared.

    Attributes:
        codes: k labels, the columns of the scores.
        space: ``arxiv`` or ``free``.
    """

    def __init__(self, manifest: BundleManifest) -> None:
        self.codes = manifest.labels
        self.space = manifest.label_space
        self._model = f"{manifest.name} {manifest.version}"
        self._policy = manifest.policy
        self._known = frozenset(self.codes)
        self._by_spelling = _by_spelling(self.codes)
        self._unknown_message = lru_cache(_N_REMEMBERED)(self._make_unknown_message)
        is_arxiv = self.space == "arxiv"
        self._archives = _archives() if is_arxiv else frozenset()
        self._archive_of = {code: taxonomy.parent(code) for code in self.codes if is_arxiv}

    def canonical(self, category: str) -> str:
        """Return the category that somebody means, whatever its case and surrounding white space.

        With arXiv's categories that is today's code, also of one that the model does not have;
        else it is one of the model's own labels.

        Raises:
            UnknownCategory: there is no such category, or two labels differ only in case; names
                the nearest ones.
        """
        if self.space == "arxiv":
            return taxonomy.canonical(category)
        if category in self._known:
            return category
        found = self._by_spelling.get(_spelling(category), ())
        if len(found) == 1:
            return found[0]
        raise UnknownCategory(self._unknown_message(category.strip()[:MAX_SHOWN_CHARS]))

    def author_category(self, category: str) -> str:
        """Return the category that an author chose: as ``canonical``, or the code of an archive.

        Raises:
            UnknownCategory: it is neither.
        """
        archive = category.strip().lower()
        return archive if archive in self._archives else self.canonical(category)

    def verdict(self, answer: Answer, code: str) -> AuthorCategory:
        """Return what an answer makes of the author's category.

        Args:
            answer: with every category ranked.
            code: as ``author_category`` returns it. A whole archive (``math``; also a retired,
                undivided one such as ``astro-ph``) that the model does not have as a category is
                judged by the sum of the archive's categories.
        """
        if code not in self._known and code in self._archives:
            return self._verdict_on_archive(answer, code)
        rank = next((i for i, r in enumerate(answer.ranked, 1) if r.code == code), None)
        probability = answer.ranked[rank - 1].probability if rank else 0.0
        # Without a set nothing is ruled out.
        is_plausible = answer.set is None or code in (*answer.set, *answer.cross_lists)
        return _verdict(code, rank, probability, code == answer.primary, is_plausible)

    def verdict_on(self, answer: Answer, category: str) -> AuthorCategory:
        """Return the same of a category as somebody wrote it, ``unknown`` if there is none."""
        try:
            return self.verdict(answer, self.author_category(category))
        except UnknownCategory:
            return AuthorCategory(category, "unknown")

    def _verdict_on_archive(self, answer: Answer, archive: str) -> AuthorCategory:
        archive_of = self._archive_of
        sums = dict.fromkeys(archive_of.values(), 0.0)
        for ranked in answer.ranked:
            sums[archive_of[ranked.code]] += ranked.probability
        falling = sorted(sums, key=sums.__getitem__, reverse=True)
        rank = falling.index(archive) + 1 if archive in sums else None
        probability = sums.get(archive, 0.0)
        is_likely = probability > _MOST_OF_THE_PROBABILITY and answer.reason != "out_of_scope"
        is_confirmed = is_likely or archive == archive_of.get(answer.primary or "")
        likely = {archive_of[code] for code in (*(answer.set or ()), *answer.cross_lists)}
        lowest = self._policy.set_threshold_of(used_authors="authors" in answer.evidence)
        is_plausible = answer.set is None or archive in likely or probability >= lowest
        return _verdict(archive, rank, probability, is_confirmed, is_plausible)

    def _make_unknown_message(self, category: str) -> str:
        words = set(_spelling(category).split())
        likely = sorted(self.codes, key=lambda code: -len(words & set(_spelling(code).split())))
        names = {code: code for code in likely[:_N_COMPARED]}
        found = ", ".join(map(repr, nearest(category, names, count=_N_SUGGESTIONS)))
        return (
            f"unknown category {category!r}: the model {self._model} has {len(self.codes)} labels "
            f"of its own. Use one of them, spelled as it is; the nearest are {found}."
        )


def _verdict(
    code: str, rank: int | None, probability: float, is_confirmed: bool, is_plausible: bool
) -> AuthorCategory:
    if is_confirmed:
        return AuthorCategory(code, "confirmed", rank, probability)
    return AuthorCategory(code, "plausible" if is_plausible else "challenged", rank, probability)


def _archives() -> frozenset[str]:
    """Return the codes that name an archive and no category that papers can be filed in."""
    active = {category.code for category in taxonomy.categories()}
    every = taxonomy.categories(active_only=False)
    return frozenset(category.archive for category in every) - active


def _by_spelling(codes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for code in codes:
        spelling = _spelling(code)
        found[spelling] = (*found.get(spelling, ()), code)
    return found


def _spelling(text: str) -> str:
    """Return a text without what people do not see: case, white space at its ends, composition."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
