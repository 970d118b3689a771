"""Stages that run as deployments at their sites: begun, waited for, and asked for what they left at the server."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.states import Cancelling

from deployments.sites import Site
from flows.context import RunContext
from tasks import errors
from tasks.artifacts import Record
from tasks.errors import CamNetError, InputError, PermanentFault, RetryableFault

log = logging.getLogger(__name__)
_POLL_S = 1.0
# A server that does not answer may be restarted meanwhile; the stages go on without it.
_AWAY_S = 1800.0
# Ranks that are told to stop write a checkpoint, for five minutes at most; a dead worker never tells an end.
_CANCELLED_S = 420.0


def begun(context: RunContext, site: Site, stage: Flow[..., Any], **inputs: Any) -> FlowRun:  # noqa: ANN401
    """Begin a stage at its site.

    Raises
    ------
    InputError
        The server knows no such deployment.
    """
    parameters = {"context": context, **inputs}
    deployment = f"{stage.name}/{site.name}"
    try:
        run = run_deployment(
            deployment, parameters={name: _plain(value) for name, value in parameters.items()}, timeout=0
        )
    except ObjectNotFound as error:
        raise InputError(
            f"the Prefect server has no deployment {deployment}",
            subject=f"site {site.name}",
            remedy="name the site in deployments/prefect.yaml, then run `prefect deploy --all` (see README.md)",
        ) from error
    assert isinstance(run, FlowRun)  # noqa: S101  # called from a synchronous flow
    return run


def ended(runs: list[FlowRun]) -> list[FlowRun]:
    """Wait for the end of stages; when the first fails, those that follow it are cancelled.

    A server that is away is waited for. Stages that do not end although they were cancelled (their worker is gone) are
    left after seven minutes.

    Raises
    ------
    RetryableFault
        The server has been away for long, or has forgotten the stages.
    """
    with get_client(sync_client=True) as client:
        cancelled_s: float | None = None
        answered_s = time.monotonic()
        while not all(is_final(run) for run in runs):
            if cancelled_s is None and is_final(runs[0]) and not is_completed(runs[0]):
                cancelled_s = time.monotonic()
                cancel(client, runs[1:])
            if cancelled_s is not None and time.monotonic() - cancelled_s > _CANCELLED_S:
                log.warning("%s were cancelled and do not end; see the workers of their sites", _names(runs))
                return runs
            time.sleep(_POLL_S)
            try:
                now = [run if is_final(run) else client.read_flow_run(run.id) for run in runs]
                _tell_failures(client, runs, now)
            except ObjectNotFound as error:
                raise RetryableFault(
                    f"the Prefect server does not know {_names(runs)} any more",
                    subject=str(client.api_url),
                    remedy="its database was lost; wait until nothing of them runs at their sites, then run again: "
                    "finished work is kept",
                ) from error
            except httpx.HTTPError as error:
                if not _is_away(error):
                    raise
                if time.monotonic() - answered_s > _AWAY_S:
                    raise _away(client, error) from error
                log.warning("the Prefect server does not answer (%s); the stages go on", error)
                continue
            answered_s = time.monotonic()
            runs = now
    return runs


def published(run: FlowRun, site: Site) -> dict[str, Any]:
    """Read what a stage that has ended left at the server.

    Raises
    ------
    CamNetError
        What ended it.
    """
    with get_client(sync_client=True) as client:
        content = _left_by(client, run)
    if "error" in content:
        raise rebuild_error(content["error"])
    if not is_completed(run) or "result" not in content:
        raise PermanentFault(
            f"flow run {run.name} ended without a result ({_state_of(run)})",
            subject=f"site {site.name}",
            remedy="see its log in the Prefect UI, then run again: finished work is kept",
        )
    return content


def cancel(client: SyncPrefectClient, runs: Iterable[FlowRun]) -> None:
    """Ask for the end of those that have not ended, as far as the server can be reached."""
    for run in runs:
        try:
            if not is_final(client.read_flow_run(run.id)):
                client.set_flow_run_state(run.id, Cancelling())
        except (httpx.HTTPError, ObjectNotFound) as error:
            log.warning("%s could not be cancelled: %s", run.name, error)


def is_final(run: FlowRun) -> bool:
    """Whether nothing of it runs any more."""
    return run.state is not None and run.state.is_final()


def is_completed(run: FlowRun) -> bool:
    """Whether it ended well."""
    return run.state is not None and run.state.is_completed()


def rebuild_error(described: dict[str, str | None]) -> CamNetError:
    """Make the error again that `flows.site_flow.describe_error` described; an unknown type is a permanent fault."""
    kind = getattr(errors, str(described.get("type")), PermanentFault)
    if not (isinstance(kind, type) and issubclass(kind, CamNetError)):
        kind = PermanentFault
    return kind(str(described.get("cause")), subject=described.get("subject"), remedy=described.get("remedy"))


def artifact_key(flow_run_id: UUID) -> str:
    """Name the artifact in which a stage leaves its result or its error."""
    return f"result-{flow_run_id}"


def _left_by(client: SyncPrefectClient, run: FlowRun) -> dict[str, Any]:
    found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[artifact_key(run.id)])))
    content: dict[str, Any] = json.loads(str(found[0].data)) if found else {}
    return content


def _tell_failures(client: SyncPrefectClient, before: list[FlowRun], now: list[FlowRun]) -> None:
    """Tell at once what has failed: another stage may go on for hours before the error is raised."""
    for old, new in zip(before, now, strict=True):
        if is_final(new) and not is_final(old) and not is_completed(new):
            cause = _left_by(client, new).get("error", {}).get("cause") or _state_of(new)
            others = [run for run in now if not is_final(run)]
            goes_on = f"; {_names(others)} goes on" if others and new is not now[0] else ""
            log.error("%s ended: %s%s", new.name, cause, goes_on)


def _is_away(error: httpx.HTTPError) -> bool:
    return not isinstance(error, httpx.HTTPStatusError) or error.response.is_server_error


def _away(client: SyncPrefectClient, error: httpx.HTTPError) -> RetryableFault:
    return RetryableFault(
        f"the Prefect server has not answered for {_AWAY_S / 60:.0f} minutes ({error})",
        subject=str(client.api_url),
        remedy="run again when it answers: what the sites have finished meanwhile is kept",
    )


def _state_of(run: FlowRun) -> str:
    return "unknown" if run.state is None else f"{run.state.name}: {run.state.message}"


def _names(runs: Iterable[FlowRun]) -> str:
    return " and ".join(run.name for run in runs if not is_final(run))


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, Record) else value
