"""Writes tests/long.txt: the tests that `make quick` leaves out because they take long.

python .ci/long_tests.py JUNIT [--above SECONDS]

JUNIT is what `pytest --junitxml` wrote of a run of all tests that are not marked slow, on a quiet
machine. A function of tests counts with all its parameters. What is listed stays listed if it was
left out of that run; remove the file first to begin again.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
LONG = ROOT / "tests" / "long.txt"


def seconds_of(junit: Path) -> dict[str, float]:
    """Return the seconds that each function of tests took, by ``FILE::[CLASS::]FUNCTION``."""
    found: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(junit).iter("testcase"):
        parts = case.attrib["classname"].split(".")
        n_names = sum(part[0].isupper() for part in parts)  # classes of tests
        file = "/".join(parts[: len(parts) - n_names]) + ".py"
        function = case.attrib["name"].partition("[")[0]
        name = "::".join([file, *parts[len(parts) - n_names :], function])
        found[name] += float(case.attrib["time"])
    return found


def main() -> None:
    """Add what takes long to the list."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("junit", type=Path, help="results of a run")
    parser.add_argument("--above", type=float, default=0.1, help="seconds; 0.1")
    options = parser.parse_args()
    listed = set(LONG.read_text("utf-8").split()) if LONG.exists() else set()
    listed |= {name for name, s in seconds_of(options.junit).items() if s > options.above}
    LONG.write_text("".join(f"{name}\n" for name in sorted(listed)), encoding="utf-8")
    print(f"{len(listed):,} functions of tests are in {LONG.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
