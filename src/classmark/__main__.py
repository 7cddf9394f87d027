"""Entry of the command ``classmark``; answers ``--version`` before anything else loads."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with the arguments of the process, and exit."""
    if sys.argv[1:] == ["--version"]:
        from classmark.cli.version import version_line

        sys.stdout.write(version_line() + "\n")
        return
    from classmark.cli import interrupt

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # as under pythonw
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    interrupt.heed_first_interrupt()
    try:
        from classmark.cli.app import app

        app(prog_name="classmark")
    except KeyboardInterrupt:  # while the app was still loading
        interrupt.heed_no_interrupt()
        sys.stderr.write(interrupt.INTERRUPTED_LINE + "\n")
        sys.exit(interrupt.INTERRUPTED)


if __name__ == "__main__":
    main()
