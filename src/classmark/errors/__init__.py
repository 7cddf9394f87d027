"""Every error that classmark raises on purpose, in families that can be caught.

    ClassmarkError
    ├── UsageError             the call cannot work: an option, an argument, a setting
    │   └── InvalidConfig
    ├── NotFound               nothing has that name
    │   ├── BundleNotFound
    │   ├── EncoderNotFound
    │   ├── RunNotFound
    │   ├── RegistryNotFound
    │   ├── CloudNotFound
    │   └── UnknownCategory
    ├── DamagedFile            a file or record cannot be used as it is
    │   ├── UnreadableSource
    │   │   └── WrongColumns
    │   ├── InvalidPaper
    │   │   └── TextTooLong
    │   ├── InvalidDataset
    │   ├── InvalidArchive
    │   ├── InvalidScores
    │   ├── InvalidReport
    │   ├── InvalidGates
    │   ├── InvalidKeys
    │   ├── InvalidJournal
    │   ├── JournalTooNew
    │   ├── BundleCorrupt
    │   ├── BundleIncompatible
    │   ├── IndexCorrupt
    │   ├── IndexIncompatible
    │   ├── CheckpointCorrupt
    │   ├── RunCorrupt
    │   ├── InvalidStudy
    │   ├── RegistryCorrupt
    │   └── RegistryTooNew
    ├── Refused                everything can be read, but a check fails
    │   ├── ContractViolation
    │   ├── LeakFound
    │   ├── LabelMismatch
    │   ├── EmptyEvaluation
    │   ├── ParityFailed
    │   ├── GateFailed
    │   │   └── CandidateRefused
    │   ├── InvalidEvent
    │   ├── InvalidWindow
    │   ├── DriftFound
    │   ├── ChangeRefused
    │   │   └── RegistryConflict
    │   ├── SignatureRefused
    │   ├── CloudRefused
    │   ├── FitStopped
    │   └── TrainingFailed
    │       └── OutOfMemory
    ├── Unavailable            a package, file system, process, or network fails
    │   ├── MissingExtra
    │   ├── NoHomeFolder
    │   ├── StorageFailed
    │   ├── OutputBusy
    │   ├── OutputChanged
    │   ├── WorkerFailed
    │   ├── ClusterFailed
    │   ├── ListenFailed
    │   ├── DownloadFailed
    │   ├── CloudFailed
    │   ├── RetryLater
    │   │   ├── Overloaded
    │   │   └── NotReady
    │   ├── DeadlineExceeded
    │   └── TrackerDown
    └── Interrupted            the user stopped a command that can be resumed

A message says what was wrong, the value seen, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence

from classmark.errors.families import (
    ClassmarkError,
    DamagedFile,
    Interrupted,
    NotFound,
    Refused,
    Unavailable,
    UsageError,
)
from classmark.errors.system import ADVICE, HOME_VARIABLE, advice, unreadable

__all__ = [
    "ADVICE",
    "HOME_VARIABLE",
    "ClassmarkError",
    "DamagedFile",
    "Interrupted",
    "NotFound",
    "Refused",
    "Unavailable",
    "UsageError",
    "advice",
    "unreadable",
]


class InvalidConfig(UsageError):
    """A configuration key or value is unknown or out of range."""

    blames_request = False


class BundleNotFound(NotFound):
    """No bundle has that name, version or path."""


class EncoderNotFound(NotFound):
    """The encoder is not packaged, not a folder and not on the hub, or cannot be read."""


class RunNotFound(NotFound):
    """No run, or no store of runs, has that name."""


class RegistryNotFound(NotFound):
    """There is no registry in that folder."""


class CloudNotFound(NotFound):
    """Google Cloud has no project, bucket, object, image, job or service of that name."""


class UnknownCategory(NotFound):
    """A category is not one of arXiv's, an alias of one, or a label of the model."""

    blames_request = True


class UnreadableSource(DamagedFile):
    """A file of papers is missing, empty, binary, wrongly encoded, or in an unknown format."""

    blames_request = True


class WrongColumns(UnreadableSource):
    """A table lacks the columns that papers are read from.

    Attributes:
        columns_seen: names of its columns, except those too long to be offered.
    """

    def __init__(self, message: str, columns_seen: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.columns_seen = tuple(columns_seen)


class InvalidPaper(DamagedFile):
    """A record cannot be read as a paper."""

    blames_request = True


class TextTooLong(InvalidPaper):
    """A paper has more text than the service takes."""


class InvalidDataset(DamagedFile):
    """A dataset folder is missing, incomplete, changed, or unfit for this use."""


class InvalidArchive(DamagedFile):
    """An archive is damaged, encrypted or far too large, or has names that lead out of it."""


class InvalidScores(DamagedFile):
    """A score table is missing, damaged or inconsistent."""


class InvalidReport(DamagedFile):
    """An evaluation report is damaged or has another format version."""


class InvalidGates(DamagedFile):
    """A gate file is missing, damaged, or does not fit what was measured."""


class InvalidKeys(DamagedFile):
    """A file of API keys is missing or damaged, or lacks a key."""


class InvalidJournal(DamagedFile):
    """A journal is missing, damaged, or not a journal, or its database cannot be used."""


class JournalTooNew(DamagedFile):
    """A journal was written by a newer classmark."""


class BundleCorrupt(DamagedFile):
    """A file of a bundle is missing, unexpected, or has changed since it was written."""


class BundleIncompatible(DamagedFile):
    """A bundle has another format or text recipe, or contradicts itself."""


class IndexCorrupt(DamagedFile):
    """A folder is not an index of papers, or a file of it is missing, cut off or changed."""


class IndexIncompatible(DamagedFile):
    """An index of papers has another format, text recipe or model."""


class CheckpointCorrupt(DamagedFile):
    """A checkpoint, or the state of a harvest, is missing, damaged, or of another version."""


class RunCorrupt(DamagedFile):
    """A file of a run is missing or damaged, or was written by a newer classmark."""


class InvalidStudy(DamagedFile):
    """The study of a sweep is damaged, or not a study."""


class RegistryCorrupt(DamagedFile):
    """A file of a registry is missing, or is not what its changes wrote."""


class RegistryTooNew(DamagedFile):
    """A registry was written by a newer classmark."""


class ContractViolation(Refused):
    """Papers break the data contract of a dataset."""


class LeakFound(Refused):
    """The same paper is in two splits."""


class LabelMismatch(Refused):
    """Model and data do not share their labels."""


class EmptyEvaluation(Refused):
    """There is nothing to evaluate."""


class ParityFailed(Refused):
    """An exported model does not give the scores of the fitted one."""


class GateFailed(Refused):
    """A measured value is below the minimum in a gate file."""


class CandidateRefused(GateFailed):
    """A candidate for promotion fails its gate: another exit code than that of an error."""

    exit_code = 3


class InvalidEvent(Refused):
    """A prediction or feedback contradicts itself."""

    blames_request = True


class InvalidWindow(Refused):
    """Predictions cannot be compared with a reference: too few, or of another model."""


class DriftFound(Refused):
    """The papers that a model is asked have changed so much that the policy asks for something."""

    exit_code = 3


class ChangeRefused(Refused):
    """A registry cannot be changed in that way: no passed gate report, nothing to go back to ..."""


class RegistryConflict(ChangeRefused):
    """Another process changed the registry in between."""


class SignatureRefused(Refused):
    """A bundle is not signed by a trusted key, or is not what was signed."""


class CloudRefused(Refused):
    """Google Cloud refuses a request: a permission, the quota, an argument, or another change."""


class FitStopped(Refused):
    """A fit was ended by what watches it, because others do better."""


class TrainingFailed(Refused):
    """A model cannot be fitted to these papers with this configuration."""


class OutOfMemory(TrainingFailed):
    """A fit needs more memory than there is."""


class MissingExtra(Unavailable):
    """A feature needs packages that are not installed.

    Attributes:
        feature: what needs them, as the subject of a sentence.
        extra: the extra of classmark that installs them.
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
        """Pickle the arguments: a pool that cannot unpickle an error waits forever."""
        return MissingExtra, self._arguments


class NoHomeFolder(Unavailable):
    """There is no folder for the user's files, and no setting names another place."""


class StorageFailed(Unavailable):
    """A file, folder or bucket cannot be written: read-only, full, in the way, or not allowed."""


class OutputBusy(Unavailable):
    """Another run is writing the same output."""


class OutputChanged(Unavailable):
    """Another process changed what was to be replaced, so that it was left as it is."""


class WorkerFailed(Unavailable):
    """A worker process did not start, or died, and retries did not help."""


class ClusterFailed(Unavailable):
    """A cluster does not answer, this machine is not part of it, or its nodes lack something."""


class ListenFailed(Unavailable):
    """The service cannot listen on its address."""


class DownloadFailed(Unavailable):
    """A file could not be fetched: refused, missing, cut off, or not what was expected."""


class CloudFailed(Unavailable):
    """Google Cloud does not answer, nobody is signed in, or what it runs has failed."""


class RetryLater(Unavailable):
    """A service cannot answer now, but may soon.

    Attributes:
        retry_after_s: when to try again, in seconds.
    """

    retry_after_s = 1

    def __init__(self, why: str, retry_after_s: int = 1) -> None:
        super().__init__(why, retry_after_s)  # pickled as they came
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        """Return what is wrong, and when to try again."""
        return f"{self.args[0]}. Try again in {self.retry_after_s} s."


class Overloaded(RetryLater):
    """A service has too much to do."""


class NotReady(RetryLater):
    """A service is starting or stopping."""


class DeadlineExceeded(Unavailable):
    """An answer was not ready by its deadline."""


class TrackerDown(Unavailable):
    """A tracker cannot keep a run; training continues without it."""
