"""What to do about what the system reports."""

from __future__ import annotations

import errno
import os

HOME_VARIABLE = "CLASSMARK_HOME"
"""Environment variable that names the folder for the user's files."""
ADVICE = {
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "Raise the limit of open files (sysctl fs.file-max)",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or try again later",
    errno.ENOMEM: "Close other programs, or give it less at once",
}
"""What to do when the machine is short of something; no file is at fault."""
_NO_TEMPORARY_FOLDER = "No usable temporary directory"
"""What ``tempfile`` says if neither TMPDIR nor any usual folder is writable."""


def advice(error: OSError, otherwise: str) -> str:
    """Return what to do about a system error, even one that a library has turned into text.

    Args:
        error: the error that was raised.
        otherwise: what to do if the machine is not short of anything.
    """
    if _NO_TEMPORARY_FOLDER in str(error):
        return "Set TMPDIR to a folder that you can write to"
    if error.errno in ADVICE:
        return ADVICE[error.errno]
    in_words = (number for number in ADVICE if os.strerror(number) in str(error))
    return next((ADVICE[number] for number in in_words), otherwise)


def unreadable(error: OSError, otherwise: str) -> str:
    """Return why a file cannot be read and what to do; the caller puts the file name in front."""
    return f"cannot be read ({error.strerror}). {advice(error, otherwise)}."
