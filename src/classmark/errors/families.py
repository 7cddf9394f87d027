"""The families of errors: what a caller catches who does not care which one it is."""

from __future__ import annotations


class ClassmarkError(Exception):
    """Any error that classmark raises on purpose; the command line prints it as one line."""

    exit_code = 1
    """Exit code of the command line; families may set their own."""
    blames_request = False
    """Whether the request is at fault: over HTTP that is 4xx, and the message may be shown."""

    @property
    def kind(self) -> str:
        """Stable machine-readable name, used in ``{"error": {"kind", "message"}}``."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class UsageError(ClassmarkError):
    """The command or function was called with options or arguments that cannot work."""

    exit_code = 2
    blames_request = True


class NotFound(ClassmarkError):
    """Nothing has the name that was given."""


class DamagedFile(ClassmarkError):
    """A file, or a record in it, cannot be used as it is: damaged, incomplete or another format."""


class Refused(ClassmarkError):
    """Everything can be read, but a check fails."""


class Unavailable(ClassmarkError):
    """A package, file system, process or network that is needed is missing or fails."""


class Interrupted(ClassmarkError):
    """The user stopped a command that can be resumed."""

    exit_code = 130
