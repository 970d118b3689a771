"""What the Globus services say when something fails, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import globus_sdk

from tasks.errors import CamNetError, InputError, IntegrityError, PermanentFault, RetryableFault

_LOG_IN = "log in again with `camnet globus login` (docs/transfers.md), then run the same command"
_LATER = "nothing is lost: run the same command again and it goes on where it stopped"
_CHANGED = "make the manifest again, then transfer again"
_LASTING = {
    "permission": "give the account of the collection access to that folder (write access at the destination)",
    "denied": "give the account of the collection access to that folder (write access at the destination)",
    "quota": "ask for more quota or remove files there, then run the same command again; finished files are kept",
    "no space": "free some space there, then run the same command again; finished files are kept",
    "no_space": "free some space there, then run the same command again; finished files are kept",
    "notfound": "check the root of the collection in the site file, and make the manifest again",
    "not_found": "check the root of the collection in the site file, and make the manifest again",
    "not found": "check the root of the collection in the site file, and make the manifest again",
    "exists": "move away what stands under that name",
}
"""Words of a status or event that does not pass, and what helps."""
_MOST_WORDS = 300


class GlobusAway(RetryableFault):
    """The service does not answer or is busy; what was asked of it may have been done all the same."""


class TaskStopped(RetryableFault):
    """The task was cancelled, or its deadline has passed: none of its files is to blame."""


@contextmanager
def globus_errors(subject: str) -> Iterator[None]:
    """Turn what the SDK raises into errors of `tasks.errors`.

    Parameters
    ----------
    subject
        What was asked for, for messages.

    Raises
    ------
    InputError
        The login or a consent is missing or has expired, or there is no such collection.
    GlobusAway
        The service did not answer, is busy, or failed in a way that may pass; or the answer has not the fields that
        the block takes from it.
    PermanentFault
        It refused for good.
    """
    try:
        yield
    except globus_sdk.GlobusAPIError as error:
        raise _api_fault(error, subject) from None  # its notes repeat the whole answer
    except globus_sdk.NetworkError as error:
        cause = type(error.underlying_exception).__name__
        raise GlobusAway(f"Globus does not answer ({cause})", subject=subject, remedy=_LATER) from None
    except (KeyError, TypeError, ValueError) as error:
        # Networks that want a login of their own answer everything with a web page.
        raise GlobusAway(
            f"what came is no answer of Globus ({_short(str(error))})",
            subject=subject,
            remedy="see that this machine reaches the internet without a page in between, then run the same command",
        ) from error


def task_fault(task: dict[str, Any], last_event: str, subject: str) -> CamNetError:
    """Say why a task failed.

    Parameters
    ----------
    task
        The task document of the service.
    last_event
        Words of its last fault; may be empty.
    """
    fatal = task.get("fatal_error") or {}
    code = str(fatal.get("code") or task.get("nice_status") or "FAILED")
    said = _short(": ".join(part for part in (code, str(fatal.get("description") or ""), last_event) if part))
    if "CANCEL" in code.upper() or task.get("subtasks_canceled"):
        who = str(task.get("canceled_by_admin_message") or "")
        return TaskStopped(_short(f"the Globus task was cancelled {who}").strip(), subject=subject, remedy=_LATER)
    if "EXPIRED" in code.upper() or task.get("subtasks_expired"):
        return TaskStopped(
            f"the Globus task did not finish before its deadline ({said})",
            subject=subject,
            remedy="run the same command again, or give more time with deadline_h in the [globus] table of the site",
        )
    return lasting_fault(said, subject) or RetryableFault(
        f"the Globus task failed ({said})", subject=subject, remedy=_LATER
    )


def lasting_fault(said: str, subject: str) -> PermanentFault | None:
    """Tell by the words of a status or event whether it is one that does not pass; None where it may."""
    lower = said.lower()
    if "checksum" in lower:
        return IntegrityError(
            f"the source does not have the manifest's digest, or cannot give it ({_short(said)})",
            subject=subject,
            remedy=_CHANGED,
        )
    for word, remedy in _LASTING.items():
        if word in lower:
            return PermanentFault(f"Globus cannot move it ({_short(said)})", subject=subject, remedy=remedy)
    return None


def _api_fault(error: globus_sdk.GlobusAPIError, subject: str) -> CamNetError:
    said = _short(f"{error.code}: {error.message}" if error.code else f"{error.http_status} {error.http_reason}")
    consent = error.info.consent_required
    if consent or error.code == "ConsentRequired":
        scopes = " ".join(consent.required_scopes or ()) if consent else ""
        return InputError(
            f"Globus asks for a consent to use the data of the collection ({scopes or said})",
            subject=subject,
            remedy="give it with `camnet globus login FILE --client-id ID --sites FOLDER`; a client login needs the "
            "collection's owner to give its identity access, and kind = 'mapped' in the site file",
        )
    if isinstance(error, globus_sdk.AuthAPIError) and error.http_status < 500 and error.http_status != 429:
        return InputError(f"Globus Auth refuses the login ({said})", subject=subject, remedy=_LOG_IN)
    if error.http_status == 401 or error.info.authorization_parameters:
        return InputError(f"Globus does not accept the login any more ({said})", subject=subject, remedy=_LOG_IN)
    if str(error.code).startswith(("EndpointNotFound", "EndpointDeleted")):
        return InputError(
            f"there is no such collection ({said})", subject=subject, remedy="correct the id in the site file"
        )
    lasting = lasting_fault(said, subject)
    if lasting and error.http_status != 429:
        return lasting
    if error.http_status in (408, 409, 429) or error.http_status >= 500:
        return GlobusAway(f"Globus cannot do it for now ({said})", subject=subject, remedy=_LATER)
    return PermanentFault(f"Globus refuses ({said})", subject=subject, remedy="mend that, then run the same command")


def _short(text: str) -> str:
    return " ".join(text.split())[:_MOST_WORDS]
