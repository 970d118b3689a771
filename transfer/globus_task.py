"""One task of the Globus Transfer service, from its record to its end."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import globus_sdk

from tasks.errors import CamNetError, InputError, IntegrityError, PermanentFault
from transfer.brake import Brake, Cancelled
from transfer.cargo import Item
from transfer.globus_faults import globus_errors, lasting_fault, task_fault
from transfer.globus_record import GlobusRecord, partial_path
from transfer.servers import GlobusCollection

_log = logging.getLogger(__name__)
_FIRST_LOOK_S, _LAST_LOOK_S = 0.1, 10.0
_MOST_EVENTS = 100
_PROGRESS = ("bytes_transferred", "bytes_checksummed", "subtasks_succeeded")
_LABEL_CHARACTERS = 128
_MOST_DAMAGES = 4
"""Times that one file may arrive with another checksum; the service would send it until the deadline."""


@dataclass(frozen=True)
class TaskEnd:
    """How a task has ended.

    Attributes
    ----------
    fault
        Why it failed; None where it has succeeded.
    arrived
        Partial paths that were carried and verified, below the site's root.
    skipped
        Partial paths that the service has left out, with its reason.
    seconds
        From the request to the end by the service's clock, which has whole seconds; None where it does not tell.
    """

    fault: CamNetError | None
    arrived: frozenset[str]
    skipped: dict[str, str]
    seconds: float | None


def write_record(
    client: globus_sdk.TransferClient,
    folder: Path,
    items: Sequence[Item],
    source_paths: Sequence[str],
    ends: tuple[GlobusCollection, GlobusCollection],
    label: str,
) -> GlobusRecord:
    """Ask for a submission id, and write down what is going to be submitted under it.

    Parameters
    ----------
    source_paths
        Of each item, below the source's root.
    ends
        Source and destination.
    """
    source, destination = ends
    with globus_errors("Globus"):
        submission_id = str(client.get_submission_id()["value"])
    document = globus_sdk.TransferData(
        source.collection,
        destination.collection,
        label=" ".join(label.split())[:_LABEL_CHARACTERS].strip(),
        submission_id=submission_id,
        # A file that the service itself begins again is compared, and not sent, where it is whole already.
        sync_level="checksum",
        verify_checksum=True,
        encrypt_data=True,
        deadline=datetime.now(UTC) + timedelta(hours=destination.deadline_h),
        skip_source_errors=True,
        fail_on_quota_errors=True,
        notify_on_succeeded=False,
        notify_on_failed=False,
        notify_on_inactive=False,
    )
    partials = [partial_path(item.target, submission_id) for item in items]
    for item, source_path, partial in zip(items, source_paths, partials, strict=True):
        algorithm, _, hexadecimal = item.entry.digest.partition(":")
        document.add_item(
            source.full_path(source_path),
            destination.full_path(partial),
            external_checksum=hexadecimal,
            checksum_algorithm=algorithm.upper(),
        )
    return GlobusRecord.create(folder, _plain(document), [item.target for item in items], partials)


class GlobusTask:
    """The task of a record.

    Parameters
    ----------
    subject
        Between which sites, for messages.
    stall_s
        A status that does not pass, such as a lost permission, is given so long without progress; the service
        would try until the deadline.
    """

    def __init__(
        self, client: globus_sdk.TransferClient, record: GlobusRecord, subject: str, *, stall_s: float
    ) -> None:
        self._client = client
        self._record = record
        self._subject = subject
        self._stall_s = stall_s
        self._told: set[tuple[str, str, str]] = set()
        self._damages: Counter[str] = Counter()
        self._last_event = ""
        self._nice_status = "OK"

    def submit(self) -> None:
        """Submit it, unless that was done; doing it again under the same submission id makes no second task."""
        if self._record.task_id is not None:
            return
        with globus_errors(self._subject):
            answer = self._client.submit_transfer(self._record.document)
            task_id, code = str(answer["task_id"]), str(answer["code"])
        self._record.submitted(task_id)
        files = len(self._record.partials)
        _log.info("%s: Globus task %s (%s), %d files", self._subject, task_id, code, files)

    def follow(self, brake: Brake, tell: Callable[[int], None]) -> TaskEnd:
        """Wait until the task has ended; log its faults.

        Parameters
        ----------
        tell
            Called with the bytes that it has transferred so far.

        Raises
        ------
        Cancelled
            The brake was stopped; the task was cancelled at the service, as it is on Ctrl-C.
        InputError
            The task stands still because its login has expired.
        RetryableFault
            The service does not answer; the task goes on.
        """
        try:
            task, lasting = self._until_it_stops(brake, tell)
        except BaseException as stop:
            # Ctrl-C, and what Prefect raises when a flow run is cancelled, are no `Exception`.
            if isinstance(stop, Cancelled) or not isinstance(stop, Exception):
                self.cancel()
            raise
        if task["status"] == "INACTIVE":
            raise InputError(
                f"the Globus task {self._record.task_id} stands still: its login has expired",
                subject=self._subject,
                remedy="log in again with `camnet globus login` (docs/transfers.md), then run the same command: the "
                "task goes on",
            )
        return self._end(task, lasting)

    def cancel(self) -> None:
        """Cancel the task at the service; a service that does not answer is only logged."""
        if self._record.task_id is None:
            return
        try:
            with globus_errors(self._subject):
                self._client.cancel_task(self._record.task_id)
        except CamNetError as fault:
            _log.warning("%s The Globus task %s goes on.", fault, self._record.task_id)

    def _until_it_stops(
        self, brake: Brake, tell: Callable[[int], None]
    ) -> tuple[dict[str, Any], PermanentFault | None]:
        """Give the task when it is not active any more, and why we have cancelled it, if we have."""
        pause_s, moved_s, most = _FIRST_LOOK_S, time.monotonic(), -1
        lasting: PermanentFault | None = None
        while (task := self._look())["status"] == "ACTIVE":
            tell(int(task.get("bytes_transferred") or 0))
            # All three only grow.
            done = sum(int(task.get(name) or 0) for name in _PROGRESS)
            if done > most:
                most, moved_s = done, time.monotonic()
            elif lasting is None and time.monotonic() - moved_s > self._stall_s:
                lasting = lasting_fault(f"{self._nice_status} {self._last_event}".strip(), self._subject)
                if lasting:
                    self.cancel()
            if lasting is None and (lasting := self._damaged_fault()):
                self.cancel()
            brake.wait(pause_s)
            pause_s = min(_LAST_LOOK_S, 1.5 * pause_s)
        return task, lasting

    def _damaged_fault(self) -> PermanentFault | None:
        for details, times in self._damages.items():
            if times >= _MOST_DAMAGES:
                return IntegrityError(
                    f"was damaged on its way, {times} times ({details})",
                    subject=self._subject,
                    remedy="have the disk and memory of both sites checked",
                )
        return None

    def _look(self) -> dict[str, Any]:
        with globus_errors(self._subject):
            answer = self._client.get_task(str(self._record.task_id))
            task = {**answer.data, "status": str(answer["status"])}
        nice_status = str(task.get("nice_status") or "OK")
        if nice_status != self._nice_status:
            self._nice_status = nice_status
            _log.info("%s: Globus task %s is %s", self._subject, self._record.task_id, nice_status)
        if task.get("faults"):
            self._tell_faults()
        return task

    def _tell_faults(self) -> None:
        """Log the faults that were not told yet; the task is none the worse where they are not to be had."""
        try:
            with globus_errors(self._subject):
                events = list(self._client.task_event_list(str(self._record.task_id), limit=_MOST_EVENTS))
        except CamNetError as fault:
            _log.debug("%s", fault)
            return
        for event in reversed(events):  # the service gives the newest first
            time_, code, details = (str(event.get(name) or "") for name in ("time", "code", "details"))
            facts = (time_, code, " ".join(details.split())[:200])
            if event.get("is_error") and facts not in self._told:
                self._told.add(facts)
                self._damages[facts[2]] += facts[1] == "CHECKSUM_ERROR"
                self._last_event = f"{facts[1]} {facts[2]}".strip()
                _log.warning("%s: Globus task %s: %s", self._subject, self._record.task_id, self._last_event)

    def _end(self, task: dict[str, Any], lasting: PermanentFault | None) -> TaskEnd:
        items = {str(item["destination_path"]): item for item in self._record.document["DATA"]}
        partials = dict(zip(items, self._record.partials, strict=True))
        skipped = {
            partials[str(one["destination_path"])]: f"{one['error_code']} {one.get('error_details') or ''}".strip()
            for one in self._listed(self._client.paginated.task_skipped_errors)
            if one["destination_path"] in items
        }
        sent = {
            str(one["destination_path"]): one
            for one in self._listed(self._client.paginated.task_successful_transfers)
            if one["destination_path"] in items
        }
        for path, one in sent.items():
            if _is_another(one, items[path]):
                skipped[partials[path]] = f"the checksum is {one['checksum']}"
        if task["status"] == "SUCCEEDED":
            fault, arrived = None, set(partials.values())
        else:
            fault = lasting or task_fault(task, self._last_event, self._subject)
            arrived = {partials[path] for path in sent}
        return TaskEnd(fault, frozenset(arrived - skipped.keys()), skipped, _seconds(task))

    def _listed(self, pages: Callable[[str], Any]) -> list[dict[str, Any]]:
        with globus_errors(self._subject):
            return list(pages(str(self._record.task_id)).items())


def _plain(document: globus_sdk.TransferData) -> dict[str, Any]:
    """Give the document as what JSON has, without the fields that were left out."""
    plain = {name: value for name, value in document.items() if value is not globus_sdk.MISSING}
    plain["DATA"] = [
        {name: value for name, value in item.items() if value is not globus_sdk.MISSING} for item in document["DATA"]
    ]
    for name in ("source_endpoint", "destination_endpoint"):
        plain[name] = str(plain[name])
    return plain


def _is_another(sent: dict[str, Any], item: dict[str, Any]) -> bool:
    """Whether the service tells another digest than the one that it was given."""
    told = str(sent.get("checksum_algorithm") or "").upper() == item["checksum_algorithm"] and sent.get("checksum")
    return bool(told) and str(told).lower() != item["external_checksum"]


def _seconds(task: dict[str, Any]) -> float | None:
    try:
        begun, ended = (datetime.fromisoformat(str(task[name])) for name in ("request_time", "completion_time"))
    except (KeyError, ValueError):
        return None
    seconds = (ended - begun).total_seconds()
    return seconds if seconds >= 0 else None  # its clock was set back meanwhile
