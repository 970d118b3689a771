from __future__ import annotations

import errno
import socket

import paramiko
import pytest

from tasks.errors import CamNetError, IntegrityError, PermanentFault, RetryableFault
from transfer.brake import Brake
from transfer.faults import fault_of
from transfer.retry import pause_s, retrying
from transfer.streams.far_faults import fault_told


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), RetryableFault),
        (TimeoutError("no progress for 60 s"), RetryableFault),
        (EOFError(), RetryableFault),
        (paramiko.SSHException("banner"), RetryableFault),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), RetryableFault),
        (OSError(errno.EHOSTUNREACH, "no route"), RetryableFault),
        (OSError(errno.ESTALE, "stale handle"), RetryableFault),
        (OSError(errno.ENOSPC, "no space"), PermanentFault),
        (OSError(errno.EDQUOT, "quota"), PermanentFault),
        (OSError(errno.EROFS, "read-only"), PermanentFault),
        (OSError(errno.EIO, "io"), PermanentFault),
        (OSError(errno.EMFILE, "too many"), PermanentFault),
        (PermissionError(errno.EACCES, "denied"), PermanentFault),
        (OSError(errno.ENAMETOOLONG, "long"), PermanentFault),
    ],
)
def test_each_error_has_its_place_and_a_remedy(error: Exception, kind: type[CamNetError]) -> None:
    fault = fault_of(error, subject="site-b:a.bin")
    assert type(fault) is kind
    assert fault.remedy
    assert str(fault).startswith("site-b:a.bin: ")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EDQUOT, "ask for more quota"),
        (errno.ENOSPC, "free some space there"),
        (errno.EACCES, "give the account write permission"),
        (errno.EFBIG, "raise the account's limit of file sizes"),
        (errno.EMFILE, "raise the limit of open files"),
    ],
)
def test_what_the_far_side_of_streams_tells_by_number_has_the_same_remedy(number: int, remedy: str) -> None:
    told = fault_told({"errno": number}, "me@host:/data/a.bin")
    assert told is not None
    fault = fault_of(told, subject="site-b:a.bin")
    assert type(fault) is PermanentFault
    assert str(fault.remedy).startswith(remedy)
    assert "me@host:/data/a.bin" in str(fault)


def test_what_is_known_stays_and_what_is_ours_is_not_hidden() -> None:
    known = IntegrityError("is wrong")
    assert fault_of(known, subject="x") is known
    assert fault_of(TypeError("a bug"), subject="x") is None


def test_only_retryable_faults_are_tried_again() -> None:
    calls: list[int] = []

    def third_time_lucky(k: int) -> str:
        calls.append(k)
        if k < 2:
            raise RetryableFault("not yet")
        return "done"

    assert retrying(third_time_lucky, attempts=5, backoff_s=0.0, brake=Brake()) == "done"
    assert calls == [0, 1, 2]
    with pytest.raises(RetryableFault):
        retrying(third_time_lucky, attempts=2, backoff_s=0.0, brake=Brake())

    def broken(k: int) -> str:
        calls.append(k)
        raise PermanentFault("never")

    calls.clear()
    with pytest.raises(PermanentFault):
        retrying(broken, attempts=5, backoff_s=0.0, brake=Brake())
    assert calls == [0]


def test_pauses_double_up_to_a_minute_and_differ() -> None:
    for failures, expected in [(0, 1.0), (1, 2.0), (4, 16.0), (10, 60.0), (10_000, 60.0)]:
        pauses = [pause_s(failures, 1.0) for _ in range(50)]
        assert all(0.5 * expected <= pause <= 1.5 * expected for pause in pauses)
        assert len(set(pauses)) > 1
