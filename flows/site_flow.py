"""Stages as flows that run in this process or, as deployments, at their site; results travel as small JSON."""

from __future__ import annotations

import functools
import inspect
import json
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast
from uuid import UUID

import prefect.runtime
from prefect import flow, get_client
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import TerminationSignal
from prefect.flows import Flow
from prefect.states import Cancelling

from deployments.sites import Site
from flows.context import RunContext
from tasks import errors
from tasks.artifacts import Record
from tasks.errors import CamNetError, PermanentFault

R = TypeVar("R", bound=Record)
S = TypeVar("S", bound=Record)
_POLL_S = 1.0


def site_flow(function: Callable[..., R]) -> Flow[..., R]:
    """Make a stage's function a flow of the same name.

    As a deployment its result, or the error that ended it, is also left as an artifact of the flow run: the
    coordinator may share no file system with the site, but both reach the Prefect server.
    """

    @functools.wraps(function)
    def run(*args: Any, **keywords: Any) -> R:  # noqa: ANN401  # whatever the stage takes
        context: RunContext = inspect.signature(function).bind(*args, **keywords).arguments["context"]
        try:
            result = function(*args, **keywords)
        except CamNetError as error:
            _publish(context, {"error": describe_error(error)})
            raise
        _publish(context, {"result": result.model_dump(mode="json")})
        return result

    # Prefect reads the parameters' types; resolved here, since it would look for their names in this module.
    run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]  # functions have it
    run.__annotations__ = inspect.get_annotations(function, eval_str=True)
    as_flow = flow(name=function.__name__, flow_run_name=run_name, persist_result=True, result_serializer="json")
    return as_flow(run)


def run_name() -> str:
    """Name of a flow run: the flow and the run of CamNet that it belongs to."""
    context = prefect.runtime.flow_run.parameters["context"]
    plain = RunContext.model_validate(context) if isinstance(context, dict) else context
    return f"{prefect.runtime.flow_run.flow_name}-{plain.config.name}"


def at(context: RunContext, site: Site, stage: Flow[..., R], result: type[R], **inputs: Any) -> R:  # noqa: ANN401
    """Run a stage at its site and give its result.

    Parameters
    ----------
    result
        Type of the stage's result.
    inputs
        Further parameters of the stage: records of paths and digests.

    Raises
    ------
    CamNetError
        What ended the stage, also when that was at another site.
    """
    if context.execution == "embedded":
        return cast("R", stage(context=context, **inputs))
    [run] = _ended([_begun(context, site, stage, **inputs)])
    return result.model_validate(_published(run, site)["result"])


def both_at(
    context: RunContext,
    first: tuple[Site, Flow[..., R], type[R], dict[str, Any]],
    second: tuple[Site, Flow[..., S], type[S], dict[str, Any]],
    done: Callable[[R], object],
) -> S:
    """Run two stages at once, as deployments; the second follows what the first does.

    Parameters
    ----------
    first, second
        Site, stage, type of its result, further parameters, as for `at`.
    done
        Called with the first one's result.

    Returns
    -------
    S
        The second one's result.

    Raises
    ------
    CamNetError
        What ended the first one, the second is then cancelled; or what ended the second, the first has ended then.
    """
    leading = _begun(context, first[0], first[1], **first[3])
    try:
        following = _begun(context, second[0], second[1], **second[3])
    except BaseException:  # cancelled here, too, the first must not go on alone
        with get_client(sync_client=True) as client:
            _cancel(client, [leading])
        raise
    leading, following = _ended([leading, following])
    done(first[2].model_validate(_published(leading, first[0])["result"]))
    return second[2].model_validate(_published(following, second[0])["result"])


def _begun(context: RunContext, site: Site, stage: Flow[..., Any], **inputs: Any) -> FlowRun:  # noqa: ANN401
    parameters = {"context": context, **inputs}
    run = run_deployment(
        f"{stage.name}/{site.name}", parameters={name: _plain(value) for name, value in parameters.items()}, timeout=0
    )
    assert isinstance(run, FlowRun)  # noqa: S101  # called from a synchronous flow
    return run


def _ended(runs: list[FlowRun]) -> list[FlowRun]:
    """Wait for the end of stages elsewhere.

    When this process is told to end before, they are cancelled; when the first of them fails, the others are.
    """
    with get_client(sync_client=True) as client:
        told = False
        try:
            while not all(_is_final(run) for run in runs):
                if not told and _is_final(runs[0]) and not (runs[0].state and runs[0].state.is_completed()):
                    told = True
                    _cancel(client, runs[1:])
                time.sleep(_POLL_S)
                runs = [run if _is_final(run) else client.read_flow_run(run.id) for run in runs]
        except (KeyboardInterrupt, TerminationSignal):
            _cancel(client, runs)
            raise
    return runs


def _is_final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _cancel(client: SyncPrefectClient, runs: list[FlowRun]) -> None:
    for run in runs:
        if not _is_final(run):
            client.set_flow_run_state(run.id, Cancelling())


def describe_error(error: CamNetError) -> dict[str, str | None]:
    """Give an error as JSON."""
    return {"type": type(error).__name__, "cause": error.cause, "subject": error.subject, "remedy": error.remedy}


def rebuild_error(described: dict[str, str | None]) -> CamNetError:
    """Make the error again that `describe_error` described; an unknown type is a permanent fault."""
    kind = getattr(errors, str(described.get("type")), PermanentFault)
    if not (isinstance(kind, type) and issubclass(kind, CamNetError)):
        kind = PermanentFault
    return kind(str(described.get("cause")), subject=described.get("subject"), remedy=described.get("remedy"))


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, Record) else value


def _publish(context: RunContext, content: dict[str, Any]) -> None:
    running = FlowRunContext.get()
    if context.execution == "deployed" and running is not None and running.flow_run is not None:
        create_markdown_artifact(json.dumps(content), key=_artifact_key(running.flow_run.id))


def _published(run: FlowRun, site: Site) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[_artifact_key(run.id)]))
        )
    content: dict[str, Any] = json.loads(str(found[0].data)) if found else {}
    if "error" in content:
        raise rebuild_error(content["error"])
    if run.state is None or not run.state.is_completed() or "result" not in content:
        state = "unknown" if run.state is None else f"{run.state.name}: {run.state.message}"
        raise PermanentFault(
            f"flow run {run.name} ended without a result ({state})",
            subject=f"site {site.name}",
            remedy="see its log in the Prefect UI, then run again: finished work is kept",
        )
    return content


def _artifact_key(flow_run_id: UUID) -> str:
    return f"result-{flow_run_id}"
