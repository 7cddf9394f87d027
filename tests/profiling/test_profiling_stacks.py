"""What a sampler writes becomes stacks and functions: nothing is lost, nothing counted twice."""

from __future__ import annotations

from classmark.profiling import Stacks
from classmark.profiling.stacks import short_file

MAIN = 'process 71:"python -m classmark serve"'
WORKER = f'{MAIN};process 72:"python -m classmark serve"'


def test_a_function_has_its_own_cost_and_that_of_what_it_calls() -> None:
    stacks = Stacks.read(["main (a.py:1);fit (b.py:2) 3", "main (a.py:1) 1"])
    found = {f.name: (f.file, f.own, f.total) for f in stacks.functions(10)}
    assert found == {"fit": ("b.py", 3, 3), "main": ("a.py", 1, 4)}
    assert stacks.total == 4


def test_a_function_that_calls_itself_is_counted_once() -> None:
    (walk,) = Stacks.read(["walk (a.py:1);walk (a.py:1);walk (a.py:1) 5"]).functions(10)
    assert (walk.own, walk.total) == (5, 5)


def test_processes_are_numbered_only_if_there_are_several() -> None:
    one = Stacks.read([f"{MAIN};serve (a.py:1) 2"])
    assert list(one.costs) == [("serve (a.py:1)",)]
    two = Stacks.read([f"{WORKER};answer (b.py:1) 2", f"{MAIN};serve (a.py:1) 1"])
    assert two.costs == {
        ("process 2", "answer (b.py:1)"): 2,
        ("process 1", "serve (a.py:1)"): 1,
    }


def test_what_the_profiler_does_itself_is_left_out() -> None:
    look = "Meter._look (classmark/profiling/meter.py:9);read (psutil/_pslinux.py:2)"
    stacks = Stacks.read(["run (a.py:1) 1", f"{look};open (io.py:3);x (io.py:4);y (io.py:5) 7"])
    assert stacks.costs == {("run (a.py:1)",): 1}


def test_the_lines_can_be_read_again_with_the_costliest_first() -> None:
    stacks = Stacks.read(["a (a.py:1) 1", "a (a.py:1);b (b.py:1) 9", "a (a.py:1) 1"])
    assert stacks.lines() == "a (a.py:1);b (b.py:1) 9\na (a.py:1) 2\n"
    assert Stacks.read(stacks.lines().splitlines()).costs == stacks.costs


def test_functions_with_a_large_total_are_listed_beside_those_with_a_large_own() -> None:
    lines = [f"main (a.py:1);f{n} (b.py:{n}) {n}" for n in range(1, 9)]
    names = [f.name for f in Stacks.read(lines).functions(2)]
    assert names == ["f8", "f7", "main"]


def test_a_file_is_named_from_its_package_on() -> None:
    assert short_file("/e/lib/python3.11/site-packages/numpy/lib/io.py") == "numpy/lib/io.py"
    assert short_file("/home/me/src/classmark/cli/app.py") == "classmark/cli/app.py"
    assert short_file("/usr/lib/python3.11/json/decoder.py") == "json/decoder.py"
