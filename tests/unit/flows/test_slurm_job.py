from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.slurm_job import JobStatus, fault_of, status_of
from tasks.errors import CamNetError, ExitCode, PermanentFault, RetryableFault

RUNNING, PENDING = JobStatus("7", "RUNNING", "n1"), JobStatus("7", "PENDING", "Resources")


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of Slurm's: it says what is in the file ``said``, and ends with what is in ``code``."""
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/said\nexit $(cat {tmp_path}/code)\n")
    program.chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "said"


@pytest.mark.parametrize(
    ("said", "state", "reason"),
    [
        ("7|RUNNING|None|n[1-2]", "RUNNING", "n[1-2]"),
        ("7|PENDING|Resources|", "PENDING", "Resources"),
        ("7|NODE_FAIL|NodeDown|n1", "NODE_FAIL", "NodeDown"),
        ("7|OUT_OF_MEMORY|OutOfMemory|n1", "OUT_OF_MEMORY", "OutOfMemory"),
        ("7|TIMEOUT|TimeLimit|n1", "TIMEOUT", "TimeLimit"),
        ("7|PREEMPTED|None|n1", "PREEMPTED", "no reason told yet"),
        ("8|REQUEUED|None|\n7|RUNNING|None|n1", "RUNNING", "n1"),
        ("Welcome to the cluster!\n7|COMPLETED|None|n1", "COMPLETED", "no reason told yet"),
        ("", "GONE", ""),
        ("<html>503</html>", "UNKNOWN", ""),
    ],
)
def test_what_squeue_says_of_a_job(squeue: Path, said: str, state: str, reason: str) -> None:
    squeue.write_text(said)
    assert status_of("camnet-train-x", RUNNING) == JobStatus("7", state, reason)


@pytest.mark.parametrize(("said", "code"), [("<html>503</html>", "0"), ("", "1")])
def test_a_job_that_waits_goes_on_waiting_while_slurm_does_not_answer(squeue: Path, said: str, code: str) -> None:
    squeue.write_text(said)
    squeue.with_name("code").write_text(code)
    assert status_of("camnet-train-x", PENDING) == PENDING
    asked = status_of("camnet-train-x", RUNNING)
    assert asked == JobStatus("7", "UNKNOWN")
    assert not asked.has_ended


@pytest.mark.parametrize(
    ("state", "kind", "cause", "remedy"),
    [
        ("NODE_FAIL", RetryableFault, "a node failed", "start the training again"),
        ("BOOT_FAIL", RetryableFault, "a node did not start", "start the training again"),
        ("TIMEOUT", RetryableFault, "it reached its walltime", "raise it in [horovod.slurm]"),
        ("DEADLINE", RetryableFault, "it reached its deadline", "start the training again"),
        ("PREEMPTED", RetryableFault, "it was pre-empted", "start the training again"),
        ("CANCELLED", RetryableFault, "it was cancelled by somebody else", "start the training again"),
        ("LAUNCH_FAILED", RetryableFault, "a node could not start it", "start the training again"),
        ("REVOKED", RetryableFault, "another cluster took it", "start the training again"),
        ("GONE", RetryableFault, "Slurm does not know how", "start the training again"),
        ("OUT_OF_MEMORY", PermanentFault, "for want of memory", "raise memory_mib"),
    ],
)
def test_each_end_by_slurm_is_an_error_with_a_remedy(
    state: str, kind: type[CamNetError], cause: str, remedy: str
) -> None:
    ended = JobStatus("7", state)
    assert ended.has_ended
    fault = fault_of(ended, "rank 0 says")
    assert type(fault) is kind
    assert (fault.subject, fault.exit_code) == ("job 7", ExitCode.RETRY_LATER)
    assert cause in fault.cause
    assert "rank 0 says" in fault.cause
    assert remedy in (fault.remedy or "")


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_ends_by_the_ranks_are_theirs_to_explain(state: str) -> None:
    assert JobStatus("7", state).has_ended
    assert fault_of(JobStatus("7", state), "") is None
