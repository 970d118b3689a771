"""The one error tree of CamNet (standard library only: every package may import it).

A caller asks two questions of an error: *may I try again?* (``RetryableFault``) and *whose fault is it?*
(``InputError`` is the user's, a plain ``Exception`` is ours). ``exit_code`` answers for the shell.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the ``camnet`` command returns to the shell."""

    DONE = 0
    BUG = 1
    USAGE = 2
    PARTIAL = 3
    INTEGRITY = 4
    RETRY_LATER = 5
    POLICY = 6


class CamNetError(Exception):
    """An error that CamNet understands.

    Parameters
    ----------
    cause
        What is wrong, as a sentence without the final full stop.
    subject
        The file, host or key that it is about.
    remedy
        What the user can do about it.
    """

    exit_code = ExitCode.BUG

    def __init__(self, cause: str, *, subject: object = None, remedy: str | None = None) -> None:
        self.cause = cause
        self.subject = None if subject is None else str(subject)
        self.remedy = remedy
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        where = f"{self.subject}: " if self.subject else ""
        remedy = f" Remedy: {self.remedy}." if self.remedy else ""
        return f"{where}{self.cause}.{remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Dask workers); keyword arguments would be lost by the default.
        return _rebuild, (type(self), self.cause, self.subject, self.remedy)


def _rebuild(kind: type[CamNetError], cause: str, subject: str | None, remedy: str | None) -> CamNetError:
    return kind(cause, subject=subject, remedy=remedy)


class InputError(CamNetError):
    """The user's slide, annotation, configuration or site file is wrong."""

    exit_code = ExitCode.USAGE


class RetryableFault(CamNetError):
    """The world failed for now (a connection dropped, a host did not answer); the same call may succeed."""

    exit_code = ExitCode.RETRY_LATER


class PermanentFault(CamNetError):
    """The world failed and trying again will not help (disk full, permission denied)."""

    exit_code = ExitCode.RETRY_LATER


class IntegrityError(PermanentFault):
    """Bytes are not what their digest says."""

    exit_code = ExitCode.INTEGRITY


class PolicyRefusal(PermanentFault):
    """A site's data policy forbids it."""

    exit_code = ExitCode.POLICY


class PartialResult(CamNetError):
    """Some inputs failed; the others are finished and the failures are named."""

    exit_code = ExitCode.PARTIAL
