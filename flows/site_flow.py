"""Stages as flows; as deployments they leave their results, or their errors, as small JSON at the Prefect server."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import prefect.runtime
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.flows import Flow

from flows.context import RunContext
from flows.elsewhere import artifact_key
from flows.software import software
from tasks.artifacts import Record
from tasks.errors import CamNetError, InputError

R = TypeVar("R", bound=Record)


def site_flow(function: Callable[..., R]) -> Flow[..., R]:
    """Make a stage's function a flow of the same name.

    As a deployment its result, or the error that ended it, is also left as an artifact of the flow run: the
    coordinator may share no file system with the site, but both reach the Prefect server.
    """

    @functools.wraps(function)
    def run(*args: Any, **keywords: Any) -> R:  # noqa: ANN401  # whatever the stage takes
        context: RunContext = inspect.signature(function).bind(*args, **keywords).arguments["context"]
        try:
            _refuse_other_software(context)
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


def describe_error(error: CamNetError) -> dict[str, str | None]:
    """Give an error as JSON."""
    return {"type": type(error).__name__, "cause": error.cause, "subject": error.subject, "remedy": error.remedy}


def _refuse_other_software(context: RunContext) -> None:
    """Results of different code have different keys, or none that the other code can read."""
    if context.software is not None and context.software != software():
        raise InputError(
            f"CamNet is {software()} here and {context.software} at the coordinator",
            subject=f"Python {sys.prefix}",
            remedy="install the same CamNet at all sites, then start their Prefect workers again",
        )


def _publish(context: RunContext, content: dict[str, Any]) -> None:
    running = FlowRunContext.get()
    if context.execution == "deployed" and running is not None and running.flow_run is not None:
        create_markdown_artifact(json.dumps(content), key=artifact_key(running.flow_run.id))
