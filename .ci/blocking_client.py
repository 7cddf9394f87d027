"""Writes ``client/synchronous.py`` from ``client/asynchronous.py``.

python .ci/blocking_client.py [--check]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parents[1] / "src" / "classmark" / "client"
SOURCE, TARGET = "asynchronous.py", "synchronous.py"
WORDS = {"AsyncClient": "Client", "aclose": "close", "asyncio": "time"}
DOCSTRING = '"""The blocking client, which ``.ci/blocking_client.py`` writes from the other."""'


def blocking_client() -> str:
    """Return the source of the blocking client."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = (CLIENT / SOURCE).read_text(encoding="utf-8")
        _, _, rest = source.partition("\n")
        (folder / SOURCE).write_text(f"{DOCSTRING}\n{rest}", encoding="utf-8")
        rule = unasync.Rule(f"/{SOURCE}", f"/{TARGET}", WORDS)
        unasync.unasync_files([str(folder / SOURCE)], [rule])
        for command in (["check", "--fix", "--select", "I"], ["format"]):
            subprocess.run(
                [sys.executable, "-m", "ruff", *command, "--quiet", str(folder / TARGET)],
                cwd=CLIENT,  # where ruff finds the settings of the project
                check=True,
            )
        return (folder / TARGET).read_text(encoding="utf-8")


def main() -> int:
    """Write the file, or say whether it is current."""
    path, wanted = CLIENT / TARGET, blocking_client()
    if "--check" not in sys.argv:
        path.write_text(wanted, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != wanted:
        sys.stderr.write(f"{path} is stale. Run: python .ci/blocking_client.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
