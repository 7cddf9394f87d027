"""Draws the held-out papers of the two headline tables and writes their ids.

python benchmarks/holdout.py --data FOLDER    (the three Parquet files of arXiv metadata)

In proportion from the main and the 2018-19 file; from the 2020s file a capped number a category
(that file is itself capped a category, and a proportional sample of it flatters). The draw ranks a
keyed hash of the id, so the lists do not depend on the order of the files.
"""

from __future__ import annotations

import argparse
from hashlib import blake2b
from pathlib import Path

import polars as pl

SEED = b"classmark holdout 1"
HERE = Path(__file__).parent / "holdout"
PROPORTIONAL = {"arxiv-train": (15_000, 2_700), "arxiv-recent": (5_000, 2_700)}
CAPPED = "arxiv-2020s"
CAP_TEST, CAP_VALID, MOST_SHARE = 70, 60, 0.15
RETIRED = ("astro-ph", "cond-mat")


def rank(identifier: str) -> bytes:
    """Return the key that orders a paper in the draw."""
    return blake2b(identifier.encode(), digest_size=8, key=SEED).digest()


def draw_proportional(ids: list[str], n_test: int, n_valid: int) -> tuple[list[str], list[str]]:
    """Return the ids for test and for valid."""
    ordered = sorted(ids, key=rank)
    return ordered[:n_test], ordered[n_test : n_test + n_valid]


def draw_capped(frame: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Return the ids for test and for valid, at most so many of each category."""
    test: list[str] = []
    valid: list[str] = []
    for group in frame.partition_by("category_code", maintain_order=True):
        most = int(len(group) * MOST_SHARE)
        chosen = draw_proportional(group["id"].to_list(), min(CAP_TEST, most), min(CAP_VALID, most))
        test += chosen[0]
        valid += chosen[1]
    return test, valid


def read(path: Path) -> pl.DataFrame:
    """Return id and label of the papers whose label can ship."""
    frame = pl.read_parquet(path, columns=["id", "category_code"])
    return frame.filter(~pl.col("category_code").is_in(RETIRED))


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the lists of ids")
    options = parser.parse_args()
    data, output = options.data, options.output
    test, valid = draw_capped(read(data / f"{CAPPED}.parquet"))
    for name, sizes in PROPORTIONAL.items():
        drawn = draw_proportional(read(data / f"{name}.parquet")["id"].to_list(), *sizes)
        test += drawn[0]
        valid += drawn[1]
    output.mkdir(exist_ok=True)
    for split, ids in (("test", test), ("valid", valid)):
        (output / f"{split}-ids.txt").write_text("\n".join(sorted(ids)) + "\n")
        print(f"{split}: {len(ids)} papers")


if __name__ == "__main__":
    main()
