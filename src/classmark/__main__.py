"""Entry of the command ``classmark``; answers ``--version`` before anything else loads."""

from __future__ import annotations

import sys
from contextlib import suppress


def main() -> None:
    """Run the command line with the arguments of the process, and exit."""
    from classmark.cli.output import open_standard_streams

    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    if sys.argv[1:] == ["--version"]:
        from classmark.cli.version import version_line

        with suppress(OSError):  # the app says why it cannot be written
            sys.stdout.write(version_line() + "\n")
            sys.stdout.flush()
            return
    from classmark.cli import interrupt

    interrupt.handle_first_interrupt()
    try:
        from classmark.cli.app import app

        app(prog_name="classmark")
    except KeyboardInterrupt:  # while the app was still loading
        interrupt.ignore_interrupts()
        sys.stderr.write(interrupt.INTERRUPTED_LINE + "\n")
        sys.exit(interrupt.INTERRUPTED)


if __name__ == "__main__":
    main()
