"""The tutorial: every command is run, and prints what the page shows."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "tutorial_run.py"


@pytest.fixture(scope="module")
def tutorial() -> Any:
    spec = importlib.util.spec_from_file_location("tutorial_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PAGE = """
```console
$ printf 'a\\nb\\n' \\
    | cat
a
b
$ true
```

```python
print(1.5)
```

```text
1.5
```
"""


def test_commands_and_programs_are_read_with_their_output(tutorial: Any) -> None:
    steps = tutorial.read_steps(PAGE)
    assert [step.source for step in steps] == [
        "printf 'a\\nb\\n' \\\n    | cat",
        "true",
        "print(1.5)\n",
    ]
    assert [step.shown for step in steps] == ["a\nb\n", "", "1.5\n"]


def test_every_console_and_python_block_of_the_page_is_a_step(tutorial: Any) -> None:
    page = tutorial.PAGE.read_text("utf-8")
    steps = tutorial.read_steps(page)
    assert sum(step.is_python for step in steps) == page.count("```python\n") > 0
    prompts = [line for line in page.splitlines() if line.startswith("$ ")]
    assert len(prompts) == sum(not step.is_python for step in steps) > 10


def test_steps_run_in_one_shell_and_write_their_output_into_the_page(
    tutorial: Any, tmp_path: Path
) -> None:
    page = PAGE.replace("a\nb\n$", "stale\n$")
    outputs = tutorial.run_steps(tutorial.read_steps(page), tmp_path)
    assert outputs == ["a\nb\n", "", "1.5\n"]
    assert tutorial.rewrite(page, outputs) == PAGE


def test_a_failing_step_is_named(tutorial: Any, tmp_path: Path) -> None:
    steps = tutorial.read_steps("```console\n$ true\n$ ls nowhere\n```\n")
    with pytest.raises(SystemExit, match="`ls nowhere` failed"):
        tutorial.run_steps(steps, tmp_path)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("papers 601", "papers 601"),
        ("top-1 0.871 +0.10", "top-1  0.872 +0.11"),
        ("runs/linear-…", "runs/linear-20260101-101010"),
        ("cs.DS 0.91 ███████", "cs.DS 0.90 ██████"),
    ],
)
def test_what_must_differ_may_differ(tutorial: Any, shown: str, printed: str) -> None:
    assert tutorial.is_as_shown(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("papers 601", "papers 602"),
        ("top-1 0.871", "top-1 0.971"),
        ("top-1 0.871", "top-1 -0.871"),
        ("cs.DS 0.91", "cs.LG 0.91"),
        ("a\nb", "a"),
        ("", "a"),
    ],
)
def test_anything_else_is_found(tutorial: Any, shown: str, printed: str) -> None:
    assert not tutorial.is_as_shown(shown, printed)


@pytest.mark.slow  # trains two models and starts a service, as a reader does
@pytest.mark.timeout(600)  # thirteen processes, one after another, on a machine that may be busy
@pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("curl") is None, reason="needs bash and curl"
)
def test_every_command_of_the_tutorial_prints_what_the_page_shows() -> None:
    run = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, check=False, timeout=580
    )
    assert run.returncode == 0, run.stderr
    assert "steps print what the page shows" in run.stdout


@pytest.mark.slow  # fits heads on the packaged encoder
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra deep")
@pytest.mark.parametrize("name", ["compress-models", "hugging-face", "several-processes"])
def test_every_command_of_a_page_about_the_deep_tier_prints_what_it_shows(name: str) -> None:
    page = ROOT / "docs" / "how-to" / f"{name}.md"
    run = subprocess.run(
        [sys.executable, SCRIPT, page], capture_output=True, text=True, check=False, timeout=580
    )
    assert run.returncode == 0, run.stderr + run.stdout


@pytest.mark.slow  # fits three models, and measures two beside another one
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_every_command_of_the_page_about_gates_prints_what_it_shows() -> None:
    page = ROOT / "docs" / "how-to" / "gate-a-model.md"
    run = subprocess.run(
        [sys.executable, SCRIPT, page], capture_output=True, text=True, check=False, timeout=580
    )
    assert run.returncode == 0, run.stderr + run.stdout
