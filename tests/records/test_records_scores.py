"""Score tables from elsewhere: what claims more than it holds is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from classmark.errors import InvalidScores
from classmark.records import ScoreTable


def test_an_array_that_claims_more_numbers_than_there_is_memory_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (1 << 45,)}
    np.lib.format.write_array_header_1_0(header, about)
    path = tmp_path / "table.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scores.npy", header.getvalue())
    with pytest.raises(InvalidScores, match=r"table\.npz is not a readable score table"):
        ScoreTable.read(path)
