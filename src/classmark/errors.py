"""One exception tree: every error says what was wrong, the value seen and what to do next."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

ADVICE = {
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "Raise the limit of open files (sysctl fs.file-max)",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or try again later",
    errno.ENOMEM: "Close other programs, or give it less at once",
}
"""What to do when the machine is short of something, which is no fault of any file."""
_NO_TEMPORARY_FOLDER = "No usable temporary directory"
"""What ``tempfile`` says where neither TMPDIR nor any usual folder can be written."""


def advice(error: OSError, otherwise: str) -> str:
    """Return what to do about an error of the system, also of one that a library has put in words.

    Args:
        error: that was raised.
        otherwise: what to do if the machine is not short of anything.
    """
    if _NO_TEMPORARY_FOLDER in str(error):
        return "Set TMPDIR to a folder that you can write to"
    if error.errno in ADVICE:
        return ADVICE[error.errno]
    in_words = (number for number in ADVICE if os.strerror(number) in str(error))
    return next((ADVICE[number] for number in in_words), otherwise)


def unreadable(error: OSError, otherwise: str) -> str:
    """Return why a file cannot be read and what to do, to follow the name of the file."""
    return f"cannot be read ({error.strerror}). {advice(error, otherwise)}."


class ClassmarkError(Exception):
    """Base of every error that classmark raises on purpose; the CLI prints it as one line."""

    exit_code = 1
    blames_request = False
    """Whether what was asked for is at fault: over HTTP that is 4xx, and its text may be shown."""

    @property
    def kind(self) -> str:
        """Stable machine-readable name, used in ``{"error": {"kind", "message"}}``."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class UsageError(ClassmarkError):
    """The command was called with options or arguments that cannot work."""

    exit_code = 2
    blames_request = True


class InvalidConfig(UsageError):
    """A configuration key or value is unknown or out of range."""

    blames_request = False


class MissingExtra(ClassmarkError):
    """A feature needs packages that are not installed.

    Attributes:
        feature: what needs them, as the subject of a sentence.
        extra: of classmark, which brings them.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self._arguments = (feature, extra)
        self.feature = feature
        self.extra = extra
        super().__init__(
            f"{feature} needs packages that are not installed. "
            f"Run: pip install 'classmark[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        """Pickle as what it was made of: a pool that cannot unpickle an error waits for ever."""
        return MissingExtra, self._arguments


class UnknownCategory(ClassmarkError):
    """A category is none of arXiv's, nor a known alias of one, nor one of the model's labels."""

    blames_request = True


class UnreadableSource(ClassmarkError):
    """A file is missing, empty, binary, mis-encoded, or in no format that can be read."""

    blames_request = True


class WrongColumns(UnreadableSource):
    """A table lacks the columns that papers are read from.

    Attributes:
        columns_seen: names of its columns, without those that are too long to be offered.
    """

    def __init__(self, message: str, columns_seen: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.columns_seen = tuple(columns_seen)


class InvalidPaper(ClassmarkError):
    """One record cannot be read as a paper."""

    blames_request = True


class ContractViolation(ClassmarkError):
    """Papers break the data contract of a dataset."""


class LeakFound(ClassmarkError):
    """The same paper stands in two splits."""


class InvalidDataset(ClassmarkError):
    """A dataset folder is missing, incomplete, changed, or cannot be used for this."""


class TrainingFailed(ClassmarkError):
    """A model could not be fitted."""


class OutOfMemory(TrainingFailed):
    """A fit needs more memory than there is."""


class EncoderNotFound(ClassmarkError):
    """An encoder is neither packaged nor a folder nor to be had from a hub, or cannot be read."""


class CheckpointCorrupt(ClassmarkError):
    """A checkpoint is missing, damaged, or of another format version."""


class Interrupted(ClassmarkError):
    """The user ended a command that can go on where it was."""

    exit_code = 130


class TrackerDown(ClassmarkError):
    """A tracker cannot keep a run; training goes on without it."""


class RunNotFound(ClassmarkError):
    """No run, or no store of runs, of that name."""


class RunCorrupt(ClassmarkError):
    """A file of a run is missing or damaged, or was written by a newer classmark."""


class ParityFailed(ClassmarkError):
    """An exported model does not give what the fitted one gives."""


class LabelMismatch(ClassmarkError):
    """Model and data do not share their labels."""


class EmptyEvaluation(ClassmarkError):
    """There is nothing to evaluate."""


class InvalidScores(ClassmarkError):
    """A score table is missing, damaged or inconsistent."""


class InvalidReport(ClassmarkError):
    """An evaluation report is damaged or of another format version."""


class OutputBusy(ClassmarkError):
    """Another run writes the same output."""


class WorkerFailed(ClassmarkError):
    """A worker process could not be started, or ended, and trying again did not help."""


class InvalidGates(ClassmarkError):
    """A gate file is missing or damaged, or does not fit what was measured."""


class GateFailed(ClassmarkError):
    """A measured value is below the minimum that a gate file asks for."""


class BundleNotFound(ClassmarkError):
    """No bundle of that name, version or path."""


class BundleCorrupt(ClassmarkError):
    """A file of a bundle is missing, does not belong to it, or has changed since it was written."""


class BundleIncompatible(ClassmarkError):
    """A bundle was written for another format or text recipe, or holds what makes no sense."""


class DownloadFailed(ClassmarkError):
    """A file could not be fetched: refused, not there, broken off, or not what was expected."""


class InvalidArchive(ClassmarkError):
    """An archive is damaged, encrypted, absurdly large, or has names that lead out of it."""


class NoHomeFolder(ClassmarkError):
    """There is no folder for files of the user, and no setting names another place."""


class StorageFailed(ClassmarkError):
    """A file or folder cannot be written: read-only, full disk, or in the way."""


class ListenFailed(ClassmarkError):
    """The service cannot listen on its address."""


class InvalidEvent(ClassmarkError):
    """A prediction or feedback cannot be what it says it is."""

    blames_request = True


class InvalidJournal(ClassmarkError):
    """A journal is missing, damaged, or no journal."""


class JournalTooNew(ClassmarkError):
    """A journal was written by a newer classmark."""


class InvalidKeys(ClassmarkError):
    """A file of API keys is missing or damaged, or lacks a key."""


class TextTooLong(InvalidPaper):
    """A paper has more text than the service takes."""


class RetryLater(ClassmarkError):
    """A service cannot answer now, but may soon.

    Attributes:
        retry_after_s: when to try again, in seconds.
    """

    retry_after_s = 1

    def __init__(self, why: str, retry_after_s: int = 1) -> None:
        super().__init__(f"{why}. Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Overloaded(RetryLater):
    """A service has too much to do."""


class NotReady(RetryLater):
    """A service is starting or stopping."""


class DeadlineExceeded(ClassmarkError):
    """An answer was not ready by its deadline."""
