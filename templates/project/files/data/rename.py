"""Gives the columns of an invented sample the names that this project's papers have.

python data/rename.py SAMPLE OUTPUT title=NAME abstract=NAME category_code=NAME
"""

import csv
import sys
from pathlib import Path

# What `classmark dataset sample` calls them; the label is a name, as people choose labels.
OF_THE_SAMPLE = {"title": "title", "abstract": "summary", "category_code": "category"}


def main(sample: str, output: str, *columns: str) -> None:
    """Write the papers with an id, a title, an abstract and a label."""
    names = dict(pair.split("=", 1) for pair in columns)
    with (
        Path(sample).open(encoding="utf-8", newline="") as source,
        Path(output).open("w", encoding="utf-8", newline="") as target,
    ):
        writer = csv.writer(target)
        writer.writerow(["id", *names.values()])
        for row in csv.DictReader(source):
            writer.writerow([row["id"], *(row[OF_THE_SAMPLE[field]] for field in names)])


if __name__ == "__main__":
    main(*sys.argv[1:])
