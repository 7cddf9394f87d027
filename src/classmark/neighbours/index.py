"""A kept index: a folder of arrays with a manifest, checked before anything of it is used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from classmark.errors import IndexCorrupt, IndexIncompatible, NotFound, UsageError
from classmark.kernels.linear import DIM
from classmark.neighbours.evidence import EvidenceWeights
from classmark.neighbours.rows import PROBES, Bits, Floats, decode, row_bytes, unit
from classmark.papers import RECIPE_VERSION
from classmark.storage import sha256_file
from classmark.wire import ModelRef, Similar

MANIFEST_FILE = "index.json"
FORMAT_VERSION = 1
MOST_SIMILAR = 100
PACKAGED = "arxiv"
"""Names the index of the package ``classmark-neighbours``: papers of arXiv."""
_PACKAGE = "classmark_neighbours"
_REPAIR = "Build it again with `classmark index build`"


@dataclass(frozen=True, kw_only=True)
class IndexManifest:
    """What the manifest of an index records.

    Attributes:
        format_version: of the folder.
        papers: rows.
        lists: that a search chooses from; 1 compares all rows.
        bits: of each of the 128 numbers of a row, 8, 4 or 2.
        has_titles: whether titles are kept.
        model: whose numbers the rows are.
        text_recipe: version of the normaliser.
        codes: all categories that papers have.
        files: bytes and SHA-256 of each array.
        evidence: how the papers count as evidence; None until the index is calibrated.
    """

    format_version: int
    papers: int
    lists: int
    bits: Bits
    has_titles: bool
    model: ModelRef
    text_recipe: str
    codes: tuple[str, ...]
    files: dict[str, tuple[int, str]]
    evidence: EvidenceWeights | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {**asdict(self), "model": self.model.to_dict()}


@dataclass(frozen=True, eq=False)
class Arrays:
    """n papers in the order of l lists; texts are one after another, in UTF-8.

    Attributes:
        centroids: float32 [l, 128], of length 1.
        starts: int64 [l + 1], rows of list i are starts[i] .. starts[i + 1] - 1.
        rows: uint8 [n, 16 bits].
        inverse_lengths: float32 [n], 1 / length of each row, 0 for one of zeros.
        years: int16 [n], of the first version, 0 if unknown.
        categories: uint16 [m], columns of the codes, the primary of a paper first.
        category_starts: int64 [n + 1].
        ids: uint8 [bytes].
        id_starts: int64 [n + 1].
        titles: uint8 [bytes]; empty if none are kept.
        title_starts: int64 [n + 1].
    """

    centroids: Floats
    starts: NDArray[np.int64]
    rows: NDArray[np.uint8]
    inverse_lengths: Floats
    years: NDArray[np.int16]
    categories: NDArray[np.uint16]
    category_starts: NDArray[np.int64]
    ids: NDArray[np.uint8]
    id_starts: NDArray[np.int64]
    titles: NDArray[np.uint8]
    title_starts: NDArray[np.int64]


_DTYPES = {
    "centroids": np.float32,
    "starts": np.int64,
    "rows": np.uint8,
    "inverse_lengths": np.float32,
    "years": np.int16,
    "categories": np.uint16,
    "category_starts": np.int64,
    "ids": np.uint8,
    "id_starts": np.int64,
    "titles": np.uint8,
    "title_starts": np.int64,
}


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The rows that are most similar to each of q vectors, the nearest first.

    Attributes:
        rows: int64 [q, k], -1 where the index has fewer.
        similarity: float32 [q, k], cosine, -1..1; 0 where there is no row.
    """

    rows: NDArray[np.int64]
    similarity: Floats


class Index:
    """The papers of a kept index; may be shared by threads.

    Attributes:
        path: the folder.
        manifest: what `index.json` records.
        arrays: memory-mapped, to be read only.
    """

    def __init__(self, path: Path, manifest: IndexManifest, arrays: Arrays) -> None:
        self.path, self.manifest, self.arrays = path, manifest, arrays

    @classmethod
    def open(cls, path: str | Path, *, model: ModelRef | None = None) -> Index:
        """Check and map an index.

        Args:
            path: the folder that ``classmark index build`` wrote; ``arxiv`` is that of the package
                classmark-neighbours.
            model: that vectors will come from (``Classifier.model``); None checks it later.

        Raises:
            NotFound: the package is not installed.
            IndexCorrupt: it is not an index, or a file of it is missing, cut off or changed.
            IndexIncompatible: it has another format, text recipe or model.
        """
        folder = _packaged() if str(path) == PACKAGED else Path(path)
        manifest = _read_manifest(folder)
        index = cls(folder, manifest, _read_arrays(folder, manifest))
        if model is not None:
            index.check_model(model)
        return index

    def __len__(self) -> int:
        return self.manifest.papers

    @property
    def years(self) -> NDArray[np.int16]:
        """Year of each row, int16 [n], 0 if unknown."""
        return self.arrays.years

    @property
    def codes(self) -> tuple[str, ...]:
        """Categories that ``arrays.categories`` are columns of."""
        return self.manifest.codes

    def check_model(self, model: ModelRef) -> None:
        """Check that the rows are numbers of this model.

        Raises:
            IndexIncompatible: they are those of another one.
        """
        own = self.manifest.model
        if own.digest != model.digest:
            raise IndexIncompatible(
                f"the index {self.path} was built with model {own.name} {own.version} (digest "
                f"{own.digest[:12]}), not with {model.name} {model.version} (digest "
                f"{model.digest[:12]}). Use that model, or build the index again."
            )

    def id_of(self, row: int) -> str:
        """Return the identifier of a row."""
        return _text(self.arrays.ids, self.arrays.id_starts, row)

    def title_of(self, row: int) -> str | None:
        """Return the title of a row, None if it has none."""
        return _text(self.arrays.titles, self.arrays.title_starts, row) or None

    def categories_of(self, row: int) -> tuple[str, ...]:
        """Return the categories of a row, the primary first."""
        first, end = self.arrays.category_starts[row : row + 2]
        return tuple([self.codes[i] for i in self.arrays.categories[first:end].tolist()])

    def search(self, vectors: Floats, k: int, *, probes: int = PROBES) -> Neighbours:
        """Return the k most similar rows to each vector.

        Args:
            vectors: float32 [q, 128], as ``Classifier.vectors`` returns them, of any length.
            k: rows to find, at least 1.
            probes: lists to compare; more find more of the true neighbours, and take longer.

        Raises:
            UsageError: ``k`` or ``probes`` is below 1, or the vectors have another shape.
        """
        if k < 1 or probes < 1:
            raise UsageError(f"k and probes must be at least 1, got {k} and {probes}.")
        if vectors.ndim != 2 or vectors.shape[1] != DIM:
            raise UsageError(f"vectors must be [n, {DIM}], got {list(vectors.shape)}.")
        rows = np.full((len(vectors), k), -1, dtype=np.int64)
        similarity = np.zeros((len(vectors), k), dtype=np.float32)
        for i, vector in enumerate(unit(vectors.astype(np.float32))):
            found, values = self._search_one(vector, k, probes)
            rows[i, : len(found)], similarity[i, : len(found)] = found, values
        return Neighbours(rows, similarity)

    def similar(self, vectors: Floats, n: int) -> list[tuple[Similar, ...]]:
        """Return the n most similar papers to each vector, the nearest first.

        Papers whose similarity is not positive are left out: they have nothing in common. A vector
        of zeros, of a text without a known word, is similar to nothing.

        Raises:
            UsageError: as ``search``.
        """
        found = self.search(vectors, n)
        pairs = zip(found.rows.tolist(), found.similarity.tolist(), strict=True)
        return [
            tuple([self._paper(row, s) for row, s in zip(rows, values, strict=True) if s > 0])
            for rows, values in pairs
        ]

    def _paper(self, row: int, similarity: float) -> Similar:
        return Similar(
            id=self.id_of(row),
            year=int(self.years[row]) or None,
            categories=self.categories_of(row),
            similarity=min(1.0, round(similarity, 4)),
            title=self.title_of(row),
        )

    def _search_one(self, vector: Floats, k: int, probes: int) -> tuple[NDArray[np.int64], Floats]:
        a = self.arrays
        order = _best(a.centroids @ vector, min(len(a.centroids), max(probes, k)))
        places, values, n_found = [], [], 0
        for i, column in enumerate(order.tolist()):
            if i >= probes and n_found >= k:
                break
            first, end = int(a.starts[column]), int(a.starts[column + 1])
            dots = decode(a.rows[first:end], self.manifest.bits) @ vector
            values.append(dots * a.inverse_lengths[first:end])
            places.append(np.arange(first, end))
            n_found += end - first
        rows, similarity = np.concatenate(places), np.concatenate(values)
        best = _best(similarity, min(k, len(rows)))
        return rows[best], similarity[best]


def _packaged() -> Path:
    """Return the folder of arXiv's papers: one of that name here, else that of the package."""
    here, spec = Path(PACKAGED), find_spec(_PACKAGE)
    if here.is_dir():
        return here
    if spec is None or spec.origin is None:
        raise NotFound(
            f"the index {PACKAGED!r} is not installed. Install the package "
            f"{_PACKAGE.replace('_', '-')}, or give the folder of an index."
        )
    return Path(spec.origin).parent / "index"


def _best(values: Floats, k: int) -> NDArray[np.intp]:
    """Return the places of the k greatest values, falling; equal ones in their order."""
    places = np.arange(len(values))
    if k < len(values):
        places = np.sort(np.argpartition(-values, k - 1)[:k])
    return np.asarray(places[np.argsort(-values[places], kind="stable")])


def _text(content: NDArray[np.uint8], starts: NDArray[np.int64], row: int) -> str:
    first, end = starts[row : row + 2]
    return content[first:end].tobytes().decode("utf-8", "replace")


def array_file(name: str) -> str:
    """Return the file of an array."""
    return f"{name}.npy"


def _read_manifest(folder: Path) -> IndexManifest:
    path = folder / MANIFEST_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version = value["format_version"]
    except FileNotFoundError as error:
        raise IndexCorrupt(f"{folder} is not an index: no {MANIFEST_FILE}. {_REPAIR}.") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise IndexCorrupt(f"{path} cannot be read ({error}). {_REPAIR}.") from error
    if version != FORMAT_VERSION:
        raise IndexIncompatible(
            f"{folder} has index format {version!r}, this classmark reads {FORMAT_VERSION}. "
            f"{_REPAIR}, or install the classmark that wrote it."
        )
    try:
        manifest = _manifest_of(value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise IndexCorrupt(f"{path} is not valid: {error}. {_REPAIR}.") from error
    if manifest.text_recipe != RECIPE_VERSION:
        raise IndexIncompatible(
            f"{folder} was built with text recipe {manifest.text_recipe!r}, this classmark has "
            f"{RECIPE_VERSION!r}. {_REPAIR}."
        )
    return manifest


def _manifest_of(value: dict[str, Any]) -> IndexManifest:
    """Return a manifest from JSON; raises KeyError, TypeError, ValueError or OverflowError."""
    evidence = value.get("evidence")
    manifest = IndexManifest(
        **{
            **value,
            "model": ModelRef(**value["model"]),
            "codes": tuple(map(str, value["codes"])),
            "files": {name: (int(size), str(sha)) for name, (size, sha) in value["files"].items()},
            "evidence": evidence and EvidenceWeights.from_dict(evidence),
        }
    )
    if manifest.bits not in get_args(Bits) or manifest.files.keys() != _DTYPES.keys():
        raise ValueError(f"bits {manifest.bits!r}, files {', '.join(manifest.files)}")
    if not all(type(n) is int and n >= 0 for n in (manifest.papers, manifest.lists)):
        raise ValueError(f"papers {manifest.papers!r}, lists {manifest.lists!r}")
    return manifest


def _read_arrays(folder: Path, manifest: IndexManifest) -> Arrays:
    """Return the arrays of an index, after checking all that a search relies on."""
    arrays = {name: _read_array(folder, name, *manifest.files[name]) for name in _DTYPES}
    found = Arrays(**cast("Any", arrays))
    n = manifest.papers
    wanted = {
        "centroids": (manifest.lists, DIM),
        "starts": (manifest.lists + 1,),
        "rows": (n, row_bytes(manifest.bits)),
        **dict.fromkeys(("inverse_lengths", "years"), (n,)),
        **dict.fromkeys(("category_starts", "id_starts", "title_starts"), (n + 1,)),
    }
    wrong = [name for name, shape in wanted.items() if arrays[name].shape != shape]
    ends = (
        ("starts", n),
        ("category_starts", len(found.categories)),
        ("id_starts", len(found.ids)),
        ("title_starts", len(found.titles)),
    )
    wrong += [name for name, end in ends if not _are_starts(arrays[name], end)]
    if len(found.categories) and int(found.categories.max()) >= len(manifest.codes):
        wrong.append("categories")
    if wrong:
        raise IndexCorrupt(f"{folder / array_file(wrong[0])} contradicts the index. {_REPAIR}.")
    return found


def _read_array(folder: Path, name: str, size: int, sha256: str) -> NDArray[Any]:
    path = folder / array_file(name)
    try:
        seen = path.stat().st_size
        if seen != size:
            raise IndexCorrupt(f"{path} has {seen:,} bytes, it was {size:,}. {_REPAIR}.")
        if sha256_file(path) != sha256:
            raise IndexCorrupt(f"{path} has changed since it was written. {_REPAIR}.")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise IndexCorrupt(f"{path} is missing. {_REPAIR}.") from error
    except (OSError, ValueError) as error:
        raise IndexCorrupt(f"{path} cannot be read ({error}). {_REPAIR}.") from error
    if array.dtype != _DTYPES[name]:
        raise IndexCorrupt(f"{path} holds {array.dtype}, not {_DTYPES[name].__name__}. {_REPAIR}.")
    return cast("NDArray[Any]", array)


def _are_starts(starts: NDArray[np.int64], end: int) -> bool:
    is_rising = bool((np.diff(starts) >= 0).all())
    return len(starts) > 0 and is_rising and int(starts[0]) == 0 and int(starts[-1]) == end


def joined_starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Return where each of some parts begins, and the end, int64 [parts + 1]."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
