"""Two stages at once, with a real Prefect server: in this process, and as deployments whose workers are played."""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed, Running

from deployments.sites import Site
from flows import elsewhere
from flows.at import both_at
from flows.called_off import refuse_when_called_off
from flows.context import RunContext
from flows.elsewhere import artifact_key
from flows.site_flow import describe_error, site_flow
from flows.software import software
from flows.train import TrainResult, train
from tasks.artifacts import Artifact, Record
from tasks.config import RunConfig
from tasks.errors import CamNetError, InputError, PermanentFault, RetryableFault
from tests.services.endless_training import endless_training, ranks_of
from tests.services.slurm import wait_until

pytestmark = pytest.mark.slow
FULL = PermanentFault("the disk is full", subject="site-b", remedy="make room")
SITES = {name: Site.model_validate({"name": name, "root": f"/nowhere/{name}"}) for name in ("site-a", "site-b")}


class Said(Record):
    """What a stage of these tests gives."""

    word: str


@pytest.fixture(scope="module", autouse=True)
def server(prefect_url: str) -> Iterator[None]:
    """A server that knows the two deployments and has no workers."""
    with temporary_settings({PREFECT_API_URL: prefect_url}):
        with get_client(sync_client=True) as client:
            for stage, site in (("brings", "site-a"), ("follows", "site-b")):
                client.create_deployment(flow_id=client.create_flow_from_name(stage), name=site)
        yield


def context_of(folder: Path, execution: str) -> RunContext:
    config = RunConfig.model_validate({"name": "twice", "cohort": {"slides": "slides"}})
    return RunContext.model_validate({"config": config, "sites": SITES, "workspace": folder, "execution": execution})


# What the stages do here, by name; the test says it.
ACTS: dict[str, Callable[[], str]] = {}


@site_flow
def brings(context: RunContext) -> Said:
    """The stage that is followed."""
    return Said(word=ACTS["brings"]())


@site_flow
def follows(context: RunContext) -> Said:
    """The stage that follows."""
    return Said(word=ACTS["follows"]())


def both(context: RunContext) -> tuple[str, list[str]]:
    """The word of the stage that follows, and what was told of the one that is followed."""
    told: list[str] = []
    try:
        result = both_at(
            context,
            (SITES["site-a"], brings, Said, {}),
            (SITES["site-b"], follows, Said, {}),
            lambda said: told.append(said.word),
        )
    except BaseException as error:
        error.add_note(json.dumps(told))
        raise
    return result.word, told


def until_called_off() -> str:
    while True:
        refuse_when_called_off()
        time.sleep(0.02)


def failing(error: BaseException) -> Callable[[], str]:
    def fail() -> str:
        raise error

    return fail


class TestInThisProcess:
    """``camnet run``."""

    @pytest.fixture
    def context(self, tmp_path: Path) -> RunContext:
        return context_of(tmp_path, "embedded")

    def test_both_run_at_the_same_time(self, context: RunContext) -> None:
        meeting = threading.Barrier(2, timeout=60)
        ACTS["brings"] = lambda: f"brought {meeting.wait() >= 0}"
        ACTS["follows"] = lambda: f"followed {meeting.wait() >= 0}"
        assert both(context) == ("followed True", ["brought True"])

    @pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
    def test_the_second_is_called_off_when_the_first_ends_early(
        self, context: RunContext, error: BaseException
    ) -> None:
        ACTS.update(brings=failing(error), follows=until_called_off)
        started = time.monotonic()
        with pytest.raises(type(error)) as caught:
            both(context)
        assert time.monotonic() - started < 10
        assert str(caught.value) == str(error)
        assert not [one for one in threading.enumerate() if one.name.startswith("follows")]

    def test_the_first_goes_on_when_the_second_fails(
        self, context: RunContext, caplog: pytest.LogCaptureFixture
    ) -> None:
        def bring() -> str:
            wait_until(lambda: "follows ended: the loss became nan" in caplog.text, 30)
            return "brought"

        ACTS.update(brings=bring, follows=failing(InputError("the loss became nan")))
        with caplog.at_level(logging.ERROR), pytest.raises(InputError, match="the loss became nan") as caught:
            both(context)
        assert caught.value.__notes__ == ['["brought"]']

    def test_real_ranks_are_called_off_and_none_is_left(self, tmp_path: Path) -> None:
        parameters = endless_training(tmp_path, {"slots": 1})
        told = RunContext.model_validate(parameters["context"]).model_copy(update={"execution": "embedded"})
        models = tmp_path / "site-b" / "endless" / "models"

        def bring() -> str:
            wait_until(lambda: any('"epoch"' in log.read_text() for log in models.rglob("log.jsonl")), 240)
            assert len(ranks_of(models)) > 1
            raise FULL

        ACTS["brings"] = bring
        manifest = Artifact.model_validate(parameters["manifest"])
        with pytest.raises(PermanentFault, match="the disk is full"):
            both_at(
                told,
                (told.trainer, brings, Said, {}),
                (told.trainer, train, TrainResult, {"manifest": manifest}),
                lambda said: pytest.fail(f"it did not bring {said}"),
            )
        assert ranks_of(models) == []
        assert list(models.glob(".*.checkpoints/checkpoint-*.json"))


class Workers:
    """Plays the workers of both sites: what a stage does is a list of states, each set when its time has come."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client

    def run_of(self, stage: str) -> FlowRun:
        """The flow run of this test, once it is there."""
        found: list[FlowRun] = []

        def there() -> bool:
            flow, runs = self._client.read_flow_by_name(stage).id, self._client.read_flow_runs()
            found[:] = [run for run in runs if run.flow_id == flow and run.name not in self.before]
            return bool(found)

        wait_until(there, 30)
        return found[0]

    before: frozenset[str] = frozenset()

    def set(self, stage: str, *states: State[Any]) -> None:
        for state in states:
            self._client.set_flow_run_state(self.run_of(stage).id, state, force=True)

    def fail(self, stage: str, error: CamNetError) -> None:
        self._leave(stage, {"error": describe_error(error)})
        self.set(stage, Failed())

    def complete(self, stage: str, word: str) -> None:
        self._leave(stage, {"result": {"word": word}})
        self.set(stage, Completed())

    def cancel_when_told(self, stage: str) -> None:
        wait_until(lambda: self.state(stage) is StateType.CANCELLING, 30)
        self.set(stage, Cancelled())

    def state(self, stage: str) -> StateType | None:
        return self.run_of(stage).state_type

    def _leave(self, stage: str, content: dict[str, Any]) -> None:
        from prefect.client.schemas.actions import ArtifactCreate

        key = artifact_key(self.run_of(stage).id)
        self._client.create_artifact(ArtifactCreate(key=key, type="markdown", data=json.dumps(content)))


class TestAsDeployments:
    """``camnet run --deployed`` and the deployment ``run/coordinator``."""

    @pytest.fixture
    def context(self, tmp_path: Path) -> RunContext:
        return context_of(tmp_path, "deployed")

    @pytest.fixture
    def workers(self) -> Iterator[Workers]:
        with get_client(sync_client=True) as client:
            workers = Workers(client)
            workers.before = frozenset(run.name for run in client.read_flow_runs())
            yield workers

    @contextlib.contextmanager
    def played(self, act: Callable[[], None]) -> Iterator[None]:
        """Let the workers act while the block waits for them."""
        failed: list[BaseException] = []

        def play() -> None:
            try:
                act()
            except BaseException as error:
                failed.append(error)
                raise

        # Prefect's settings, the server's address among them, are in the context.
        player = threading.Thread(target=contextvars.copy_context().run, args=(play,))
        player.start()
        yield
        player.join(60)
        assert not failed

    def test_both_have_ended_when_it_returns(self, context: RunContext, workers: Workers) -> None:
        def act() -> None:
            workers.set("follows", Running())
            workers.set("brings", Running())
            workers.complete("brings", "brought")
            workers.complete("follows", "followed")

        with self.played(act):
            assert both(context) == ("followed", ["brought"])

    def test_a_training_that_runs_is_cancelled_when_the_transfer_fails(
        self, context: RunContext, workers: Workers
    ) -> None:
        def act() -> None:
            workers.set("follows", Running())
            workers.fail("brings", FULL)
            workers.cancel_when_told("follows")

        with self.played(act), pytest.raises(PermanentFault) as caught:
            both(context)
        assert str(caught.value) == str(FULL)
        assert workers.state("follows") is StateType.CANCELLED

    def test_a_training_that_no_worker_has_taken_is_not_waited_for(self, context: RunContext, workers: Workers) -> None:
        with self.played(lambda: workers.fail("brings", FULL)), pytest.raises(PermanentFault, match="the disk is full"):
            both(context)
        assert workers.state("follows") is StateType.CANCELLED

    def test_a_training_whose_worker_is_gone_is_left_after_a_while(
        self,
        context: RunContext,
        workers: Workers,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(elsewhere, "_CANCELLED_S", 1.0)

        def act() -> None:
            workers.set("follows", Running())
            workers.fail("brings", FULL)

        with self.played(act), pytest.raises(PermanentFault, match="the disk is full"):
            both(context)
        assert workers.state("follows") is StateType.CANCELLING
        assert f"{workers.run_of('follows').name} were cancelled and do not end" in caplog.text

    def test_the_transfer_goes_on_when_the_training_fails(
        self, context: RunContext, workers: Workers, caplog: pytest.LogCaptureFixture
    ) -> None:
        def act() -> None:
            workers.set("brings", Running())
            workers.fail("follows", RetryableFault("a rank died"))
            wait_until(lambda: "ended: a rank died" in caplog.text, 30)
            assert workers.state("brings") is StateType.RUNNING
            workers.complete("brings", "brought")

        with self.played(act), pytest.raises(RetryableFault, match="a rank died") as caught:
            both(context)
        assert caught.value.__notes__ == ['["brought"]']
        assert f"{workers.run_of('brings').name} goes on" in caplog.text

    def test_interrupted_both_are_cancelled(self, context: RunContext, workers: Workers) -> None:
        def act() -> None:
            workers.set("brings", Running())
            workers.set("follows", Running())
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            workers.cancel_when_told("brings")
            workers.cancel_when_told("follows")

        with self.played(act), pytest.raises(KeyboardInterrupt):
            both(context)

    def test_a_site_without_a_deployment_is_named_and_nothing_goes_on(
        self, context: RunContext, workers: Workers
    ) -> None:
        nowhere = Site.model_validate({"name": "site-c", "root": "/nowhere/c"})
        with pytest.raises(InputError, match="site-c: the Prefect server has no deployment follows/site-c"):
            both_at(context, (SITES["site-a"], brings, Said, {}), (nowhere, follows, Said, {}), lambda _: None)
        assert workers.state("brings") is StateType.CANCELLED

    def test_a_server_that_is_away_for_a_while_is_waited_for(
        self, context: RunContext, workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked: list[UUID] = []
        reading = SyncPrefectClient.read_flow_run
        main = threading.main_thread()

        def away_at_first(client: SyncPrefectClient, flow_run_id: UUID) -> FlowRun:
            if threading.current_thread() is main and len(asked) < 2:
                asked.append(flow_run_id)
                raise httpx.ConnectError("no route")
            return reading(client, flow_run_id)

        monkeypatch.setattr(SyncPrefectClient, "read_flow_run", away_at_first)

        def act() -> None:
            wait_until(lambda: len(asked) == 2, 30)
            workers.complete("brings", "brought")
            workers.complete("follows", "followed")

        with self.played(act):
            assert both(context) == ("followed", ["brought"])
        assert "the Prefect server does not answer (no route); the stages go on" in caplog.text

    def test_a_server_that_has_lost_its_database_is_named(self, context: RunContext, workers: Workers) -> None:
        def act() -> None:
            with get_client(sync_client=True) as client:
                for run in [workers.run_of(stage).id for stage in ("brings", "follows")]:
                    client.delete_flow_run(run)

        with self.played(act), pytest.raises(RetryableFault, match=r"the Prefect server does not know .* any more"):
            both(context)

    def test_a_site_with_other_software_refuses(self, context: RunContext) -> None:
        ACTS["brings"] = lambda: "brought"
        here = context.model_copy(update={"execution": "embedded", "software": software()})
        assert brings(context=here).word == "brought"
        with pytest.raises(InputError, match=r"0\.0, code 1 at the coordinator.*install the same CamNet at all sites"):
            brings(context=here.model_copy(update={"software": "0.0, code 1"}))
