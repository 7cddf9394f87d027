"""A fast bundle whose digests are right and whose content is not: one refusal, or a sane answer."""

from __future__ import annotations

import json
import math
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from call_faults import flush_coverage
from classmark import Classifier, Paper
from classmark.errors import BundleIncompatible, ClassmarkError
from spoilt_bundles import PAPER, npy, rewrite, setting, write_linear_bundle

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_linear_bundle(tmp_path_factory.mktemp("spoilt") / "tiny-1.0")


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "tiny-1.0"))


def arrays_of(folder: Path) -> Arrays:
    return {path.stem: np.load(path) for path in sorted((folder / "arrays").iterdir())}


def test_the_sound_bundle_answers(folder: Path) -> None:
    classifier = Classifier(folder)
    assert classifier.score([Paper.from_mapping(PAPER)]).known_share == 1
    answer = classifier.classify(PAPER)
    assert math.fsum(r.probability for r in answer.ranked) == pytest.approx(1)


def without(name: str) -> dict[str, Callable[[np.ndarray], bytes | None]]:
    return {name: lambda _: None}


def with_value(name: str, place: Any, value: float) -> dict[str, Callable[[np.ndarray], bytes]]:
    def change(array: np.ndarray) -> bytes:
        array[place] = value
        return npy(array)

    return {name: change}


def with_type(name: str, dtype: str) -> dict[str, Callable[[np.ndarray], bytes]]:
    return {name: lambda array: npy(array.view(dtype))}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (without("rows"), "has no array 'rows'"),
        (with_type("displacements", "<i2"), "displacements of int16"),
        (with_type("fingerprints", ">u2"), "fingerprints of >u2"),
        (with_type("scale_codes", "i1"), "scale_codes of int8"),
        (with_type("bias", "<i8"), "bias of int64"),
        ({"bias": lambda a: npy(a.astype(np.float32))}, "bias of float32"),
        (
            {"rows": lambda a: npy(a[:5])},
            r"rows of uint8 \(5, 32\), it must be of uint8 \(600, 32\)",
        ),
        ({"rows": lambda a: npy(a.ravel())}, r"rows of uint8 \(19200,\)"),
        ({"scale_codes": lambda a: npy(a[1:])}, r"scale_codes of uint8 \(599,\)"),
        ({"fingerprints": lambda a: npy(a[:0])}, r"fingerprints of uint16 \(0,\)"),
        ({"displacements": lambda a: npy(a[:0])}, r"displacements of uint16 \(0,\)"),
        ({"head": lambda a: npy(a[:3])}, r"head of int16 \(3, 128\), it must be .* \(4, 128\)"),
        ({"bias": lambda a: npy(a[:3])}, r"bias of float64 \(3,\), it must be of float64 \(4,\)"),
        ({"weights": lambda a: npy(a.T.copy())}, r"weights of int16 \(256, 16\)"),
        (with_value("bias", 1, math.nan), "bias with numbers from nan"),
        (with_value("bias", 1, math.inf), "bias with numbers from .* to inf"),
        (with_value("bias", 1, -1e300), r"bias with numbers from -1e\+300"),
        (with_value("weights", (0, 0), -1), "weights with numbers from -1 to"),
        (with_value("weights", (0, 0), 8192), "weights with numbers from .* to 8192"),
        (with_value("norms", 3, 0), "norms with numbers from 0 to"),
        (with_value("norms", 3, -7), "norms with numbers from -7 to"),
        (with_value("head", 0, 32767), "head whose sums reach"),
    ],
)
def test_an_array_that_the_kernel_cannot_count_with_is_refused(
    folder: Path, changes: dict[str, Callable[[np.ndarray], bytes | None]], problem: str
) -> None:
    arrays = arrays_of(folder)
    files = {f"arrays/{name}.npy": change(arrays[name]) for name, change in changes.items()}
    rewrite(folder, files=files)
    with pytest.raises(BundleIncompatible, match=problem):
        Classifier(folder)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("hidden_scale", 0, "has hidden_scale 0, it must be a number within"),
        ("hidden_scale", -5.2, r"has hidden_scale -5\.2"),
        ("hidden_scale", True, "has hidden_scale True"),
        ("hidden_scale", "5", "has hidden_scale '5'"),
        ("hidden_scale", 10**400, "has hidden_scale 1000"),
        ("logit_scale", None, "has logit_scale None"),
        ("logit_scale", 1e5, "has logits that reach"),
        ("colour", 1, "has the parameters .*colour"),
        ("row_bits", "2\x1b[2J", r"has rows of '2\\x1b\[2J' bits"),
        ("curve", 7, "has the curve 7, it must have gaps and factors"),
        ("curve", {"gaps": [0.0] * 8}, "it must have gaps and factors"),
        ("curve", {"gaps": [0.0] * 7, "factors": [1.0] * 6}, "it must have 8 numbers"),
        ("curve", {"gaps": "01234567", "factors": [1.0] * 6}, "it must have 8 numbers"),
        ("curve", {"gaps": [0.0] * 8, "factors": [0.0] * 6}, "with factors .* 6 numbers"),
        ("curve", {"gaps": [0.0] * 7 + [1e9], "factors": [1.0] * 6}, "with gaps"),
        ("curve", {"gaps": [0, 2, 1, 3, 4, 5, 6, 7], "factors": [1.0] * 6}, "do not rise from 0"),
        ("curve", {"gaps": [1, 2, 3, 4, 5, 6, 7, 8], "factors": [1.0] * 6}, "do not rise from 0"),
    ],
)
def test_a_parameter_that_no_kernel_can_use_is_refused(
    folder: Path, name: str, value: object, problem: str
) -> None:
    rewrite(folder, setting("parameters", name, to=value))
    with pytest.raises(BundleIncompatible, match=problem) as caught:
        Classifier(folder)
    assert str(caught.value).isprintable()


NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([10**18, -(10**18), 10**400, 1e300, -1e300, 1e-300, 0.5, True, False]),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    st.one_of(NUMBERS, st.none(), st.text(max_size=8), st.sampled_from(["arxiv", "free", ""])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
TYPES = [
    "u1",
    "i1",
    "<u2",
    "<i2",
    ">i2",
    "<i4",
    "<i8",
    "<f4",
    "<f8",
    "<c8",
    "?",
    "<U2",
    "V4",
    "M8[s]",
]


def ways(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in items:
        found.append((*way, key))
        if isinstance(item, dict | list):
            found += ways(item, (*way, key))
    return found


@st.composite
def array_changes(draw: st.DrawFn, array: np.ndarray) -> np.ndarray:
    kind = draw(st.sampled_from(["type", "shape", "values", "noise", "empty"]))
    if kind == "type":
        wanted = np.dtype(draw(st.sampled_from(TYPES)))
        flat = array.tobytes()
        return np.frombuffer(flat[: len(flat) // wanted.itemsize * wanted.itemsize], wanted)
    if kind == "shape":
        shape = draw(st.sampled_from([array.shape[::-1], (*array.shape, 1), (-1,), (1, -1)]))
        return array.reshape(shape)[: draw(st.integers(1, 20))]
    if kind == "empty":
        return array[:0]
    flat = array.flatten()
    if kind == "noise":
        n_bytes = array.nbytes
        noise = draw(st.binary(min_size=1, max_size=64)) * n_bytes
        return np.frombuffer(noise[:n_bytes], array.dtype).reshape(array.shape)
    low, high = (
        (-np.inf, np.inf)
        if array.dtype.kind == "f"
        else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    )
    places = st.integers(0, len(flat) - 1)
    for place in draw(st.lists(places, min_size=1, max_size=8)):
        flat[place] = draw(st.sampled_from([low, high, 0, 1]))
    if draw(st.booleans()):
        flat[:] = flat[draw(places)]
    return flat.reshape(array.shape)


class Answerer:
    """A forked process that opens one bundle after the other; after a crash there is a new one."""

    def __init__(self) -> None:
        self._child = 0

    def outcome(self, folder: Path) -> str:
        """Return ``refused`` or ``answered``, or what is wrong; after a crash, its status."""
        if not self._child:
            self._start()
        self._questions.write(f"{folder}\n")
        self._questions.flush()
        answer = self._answers.readline()
        return json.loads(answer) if answer else f"the process ended with status {self.end()}"

    def end(self) -> int:
        """End the process, and return its status."""
        if not self._child:
            return 0
        self._questions.close()
        self._answers.close()
        _, status = os.waitpid(self._child, 0)
        self._child = 0
        return status

    def _start(self) -> None:
        asked, ask = os.pipe()
        answers, answer = os.pipe()
        flush_coverage()
        self._child = os.fork()
        if not self._child:
            os.close(ask)
            with os.fdopen(asked) as folders:
                for line in folders:
                    found = json.dumps(outcome_or_traceback(Path(line[:-1])))
                    os.write(answer, found.encode() + b"\n")
            os._exit(0)
        os.close(asked)
        os.close(answer)
        self._questions, self._answers = os.fdopen(ask, "w"), os.fdopen(answers)


@pytest.fixture(scope="module")
def answerer() -> Iterator[Answerer]:
    process = Answerer()
    yield process
    assert process.end() == 0


def outcome_or_traceback(folder: Path) -> str:
    try:
        return outcome(folder)
    except BaseException:
        return traceback.format_exc()


def outcome(folder: Path) -> str:
    papers = [PAPER, {"abstract": "?"}]
    try:
        classifier = Classifier(folder)
        answers = [
            classifier.classify(PAPER, top=10),
            *classifier.classify(papers, top=10, explain=True),
        ]
        shares = classifier.score(map(Paper.from_mapping, papers)).known_share
    except ClassmarkError as error:
        return "refused" if str(error) else "refused without a word"
    for answer in answers:
        probabilities = [ranked.probability for ranked in answer.ranked]
        if not all(0 <= p <= 1 for p in probabilities) or abs(math.fsum(probabilities) - 1) > 1e-6:
            return f"answered with {probabilities}"
    if not ((shares >= 0) & (shares <= 1)).all():
        return f"answered with known shares of {shares}"
    return "answered"


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_bundle_with_right_digests_holds_it_is_refused_or_answers_sanely(
    sound: Path,
    answerer: Answerer,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("any") / "tiny-1.0"
    shutil.copytree(sound, folder)
    value = json.loads((folder / "bundle.json").read_bytes())
    arrays = arrays_of(folder)
    chosen = data.draw(st.lists(st.sampled_from(sorted(arrays)), max_size=2, unique=True))
    files = {f"arrays/{name}.npy": npy(data.draw(array_changes(arrays[name]))) for name in chosen}
    candidates = [way for way in ways(value) if way[0] not in ("digest", "files")]
    way = data.draw(st.sampled_from(candidates)) if data.draw(st.booleans()) else None
    change = (lambda _: None) if way is None else setting(*way, to=data.draw(VALUES))
    try:
        rewrite(folder, change, files)
        assert answerer.outcome(folder) in ("refused", "answered")
    finally:
        shutil.rmtree(folder)
