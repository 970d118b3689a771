"""Where a stage runs: in this process or, as a deployment, at its site; alone or beside another one."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow

from deployments.sites import Site
from flows.called_off import called_off_by
from flows.context import RunContext
from flows.elsewhere import begun, cancel, ended, published
from tasks.artifacts import Record

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Record)
S = TypeVar("S", bound=Record)


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
    [run] = _to_their_end([(site, stage, inputs)], context)
    return result.model_validate(published(run, site)["result"])


def both_at(
    context: RunContext,
    first: tuple[Site, Flow[..., R], type[R], dict[str, Any]],
    second: tuple[Site, Flow[..., S], type[S], dict[str, Any]],
    done: Callable[[R], object],
) -> S:
    """Run two stages at once; the second follows what the first does.

    When the first fails, the second is called off. When the second fails, that is logged, and the first goes on to its
    end: what it brings is needed all the same.

    Parameters
    ----------
    first, second
        Site, stage, type of its result, further parameters, as for `at`.
    done
        Called with the first one's result when it has ended.

    Returns
    -------
    S
        The second one's result.

    Raises
    ------
    CamNetError
        What ended the first one, or else what ended the second. Neither goes on then.
    """
    if context.execution == "embedded":
        return _both_here(context, first, second, done)
    leading, following = _to_their_end([(one[0], one[1], one[3]) for one in (first, second)], context)
    done(first[2].model_validate(published(leading, first[0])["result"]))
    return second[2].model_validate(published(following, second[0])["result"])


def _to_their_end(stages: list[tuple[Site, Flow[..., Any], dict[str, Any]]], context: RunContext) -> list[FlowRun]:
    """Run stages as deployments; what ends this process, or keeps it from following them, cancels them."""
    runs: list[FlowRun] = []
    try:
        for site, stage, inputs in stages:
            runs.append(begun(context, site, stage, **inputs))
        return ended(runs)
    except BaseException:  # an interruption too must leave nothing running elsewhere
        with get_client(sync_client=True) as client:
            cancel(client, runs)
        raise


def _both_here(
    context: RunContext,
    first: tuple[Site, Flow[..., R], type[R], dict[str, Any]],
    second: tuple[Site, Flow[..., S], type[S], dict[str, Any]],
    done: Callable[[R], object],
) -> S:
    """Run the second in a thread: signals come to the first one, in the main thread, and it hands them on."""
    off = threading.Event()

    def follow() -> S:
        with called_off_by(off):
            return cast("S", second[1](context=context, **second[3]))

    with ThreadPoolExecutor(1, thread_name_prefix=second[1].name) as pool:
        # Prefect finds the flow that this one belongs to in the context.
        following = pool.submit(contextvars.copy_context().run, follow)
        following.add_done_callback(lambda ended: _tell(ended, second[1].name, off))
        try:
            done(cast("R", first[1](context=context, **first[3])))
            return following.result()
        except BaseException:  # an interruption too: the pool waits for the second stage's end
            off.set()
            raise


def _tell(ended: Future[Any], name: str, off: threading.Event) -> None:
    error = ended.exception()
    if error is not None and not off.is_set():
        log.error("%s ended: %s; what it follows goes on to its end", name, error)
