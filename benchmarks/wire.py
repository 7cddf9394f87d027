"""Compares libraries that could write and read the published answer.

CPU time to make, write and read answers; CPU time of the import; packages that it installs. A
library that is not installed is left out (cattrs is in no extra: pip install cattrs). The papers
are the invented ones of evaluation/behaviour.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata, util
from itertools import cycle, islice
from typing import Any, get_type_hints

import msgspec
from packaging.requirements import Requirement

from classmark import Classifier, wire
from classmark.evaluation.behaviour import invented_papers
from report import run_benchmark

ROUNDS = 9
PARTS = (
    *(wire.Reliability, wire.Ranked, wire.Level, wire.Levels, wire.Evidence, wire.ModelRef),
    *(wire.AuthorCategory, wire.Similar, wire.TextAlone, wire.Answer),
)


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the CPU time of the fastest of a few rounds, in ms."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        rounds.append(time.process_time() - start)
    return round(min(rounds) * 1000, 2)


def answers_to(n_papers: int) -> list[wire.Answer]:
    """Return the answers of the packaged model to the golden papers, repeated."""
    return list(Classifier("fast").classify(islice(cycle(invented_papers()), n_papers)))


def as_dataclasses() -> dict[str, type]:
    """Return frozen dataclasses with the fields of the published answer."""
    made: dict[str, type] = {}
    for kind in PARTS:
        hints = get_type_hints(kind)
        types = {name: _translated(hint, made) for name, hint in hints.items()}
        made[kind.__name__] = dataclasses.make_dataclass(
            kind.__name__,
            [
                (f.name, types[f.name])
                if f.required
                else (f.name, types[f.name], dataclasses.field(default=f.default))
                for f in msgspec.structs.fields(kind)
            ],
            frozen=True,
            slots=True,
            kw_only=kind is wire.Answer,
        )
    return made


def _translated(hint: Any, made: dict[str, type]) -> Any:
    if isinstance(hint, type) and hint.__name__ in made:
        return made[hint.__name__]
    arguments = getattr(hint, "__args__", ())
    if not arguments or not any(isinstance(a, type) or hasattr(a, "__args__") for a in arguments):
        return hint
    replaced = tuple(_translated(argument, made) for argument in arguments)
    if type(hint).__name__ == "UnionType" or "Union" in str(getattr(hint, "__origin__", "")):
        joined = replaced[0]
        for one in replaced[1:]:
            joined = joined | one
        return joined
    return hint.__origin__[replaced]


def copy_of(value: Any, made: dict[str, type] | None = None) -> Any:
    """Return a value made again of new objects: of the dataclasses if there are any."""
    if isinstance(value, tuple):
        return tuple([copy_of(item, made) for item in value])
    if not isinstance(value, msgspec.Struct):
        return value
    kind = made[type(value).__name__] if made else type(value)
    return kind(**{name: copy_of(getattr(value, name), made) for name in value.__struct_fields__})


def measure_times(answers: list[wire.Answer]) -> dict[str, dict[str, float]]:
    """Return the times of every library that is installed."""
    content = b"[" + b",".join(map(wire.to_json, answers)) + b"]"
    dicts = [answer.to_dict() for answer in answers]
    made = as_dataclasses()
    copies = [copy_of(answer, made) for answer in answers]
    kind = made["Answer"]
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(list[wire.Answer]).decode
    decode_copies = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
    found = {
        "json, of dictionaries": {
            "write_ms": cpu_ms(lambda: [json.dumps(one, ensure_ascii=False) for one in dicts]),
            "read_ms": cpu_ms(lambda: json.loads(content)),
        },
        "dataclasses.asdict and json": {
            "write_ms": cpu_ms(lambda: [json.dumps(dataclasses.asdict(one)) for one in copies]),
        },
        "msgspec, structs": {
            "make_ms": cpu_ms(lambda: [copy_of(one) for one in answers]),
            "write_ms": cpu_ms(lambda: [encode(one) for one in answers]),
            "read_ms": cpu_ms(lambda: decode(content)),
        },
        "msgspec, dataclasses": {
            "make_ms": cpu_ms(lambda: [copy_of(one, made) for one in answers]),
            "write_ms": cpu_ms(lambda: [encode(one) for one in copies]),
            "read_ms": cpu_ms(lambda: decode_copies(content)),
        },
    }
    if util.find_spec("pydantic"):
        from pydantic import TypeAdapter

        one_of: Any = TypeAdapter(kind)
        many: Any = TypeAdapter(list[kind])  # type: ignore[valid-type]
        found["pydantic, dataclasses"] = {
            "write_ms": cpu_ms(
                lambda: [one_of.dump_json(a, exclude_defaults=True) for a in copies]
            ),
            "read_ms": cpu_ms(lambda: many.validate_json(content)),
        }
    if util.find_spec("cattrs"):
        from cattrs.preconf.json import make_converter

        converter = make_converter()
        found["cattrs, dataclasses"] = {
            "write_ms": cpu_ms(lambda: [converter.dumps(one) for one in copies]),
            "read_ms": cpu_ms(lambda: converter.loads(content, list[kind])),  # type: ignore[valid-type]
        }
    return found


def import_ms(module: str) -> float:
    """Return the CPU time of an import in a new process, in ms."""
    code = f"import time; s = time.process_time(); import {module}; print(time.process_time() - s)"
    run = [sys.executable, "-c", code]
    times = [float(subprocess.run(run, capture_output=True, check=True).stdout) for _ in range(5)]
    return round(min(times) * 1000, 1)


def packages_of(name: str) -> list[str]:
    """Return the distributions that a library installs, itself first."""
    found, waiting = [], [name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.append(name)
        needed = map(Requirement, metadata.requires(name) or ())
        waiting += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return times and packages of every library that is installed."""
    names = ("msgspec", "pydantic", "cattrs")
    installed = [name for name in names if util.find_spec(name)]
    return {
        "papers": options.papers,
        "times": measure_times(answers_to(options.papers)),
        "import_ms": {name: import_ms(name) for name in installed},
        "packages": {name: packages_of(name) for name in installed},
    }


FLAGS: dict[str, dict[str, Any]] = {
    "--papers": {"type": int, "default": 1000, "help": "answers to make, write and read"},
}

if __name__ == "__main__":
    run_benchmark(__doc__, measure, FLAGS, tiny={"papers": 4})
