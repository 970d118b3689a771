from __future__ import annotations

import json
import logging
import os
import stat
import traceback
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import CamNetError, InputError, RetryableFault
from tests.services.globus_fixtures import service
from tests.services.globus_route import client_login, globus_route, login_file
from tests.services.globus_service import GlobusService
from tests.services.small_disk import needs_root
from tests.services.sshd_route import QUICK, Route, random_bytes
from transfer.globus_login import NativeLogin, globus_scopes, read_login, transfer_client, write_login
from transfer.model import Outcome
from transfer.mover import open_mover
from transfer.servers import GlobusCollection

__all__ = ["service"]
CLIENT = "11111111-2222-4333-8444-555555555555"
CANARY = "canary-never-to-be-seen"


def token_login(service: GlobusService, folder: Path, **more: object) -> Path:
    return login_file(
        folder,
        {"kind": "tokens", "client_id": CLIENT, "refresh_token": service.auth.refresh_token(CLIENT), **more},
    )


def moved(route: Route) -> list[Outcome]:
    route.put({"a.bin": random_bytes(5000)})
    return route.move(route.batch("a.bin"))


def kept(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700 | 0o010])
def test_a_login_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = login_file(tmp_path, {"kind": "client", "client_id": "a", "client_secret": CANARY})
    path.chmod(mode)
    with pytest.raises(InputError, match="can be read by others") as caught:
        read_login(path)
    assert caught.value.remedy == f"chmod 600 {path}"


@needs_root
def test_a_login_of_another_user_is_refused(tmp_path: Path) -> None:
    path = login_file(tmp_path, {"kind": "client", "client_id": "a", "client_secret": CANARY})
    os.chown(path, 12345, 12345)
    with pytest.raises(InputError, match="belongs to another user"):
        read_login(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        CANARY,
        f'["{CANARY}"]',
        f'{{"kind": "client", "client_secret": "{CANARY}"}}',
        f'{{"kind": "client", "client_id": "a", "client_secret": ["{CANARY}"]}}',
        f'{{"kind": "client", "client_id": "a", "client_secret": "{CANARY}\\n"}}',
        f'{{"kind": "password", "client_id": "a", "client_secret": "{CANARY}"}}',
        f'{{"kind": ["client"], "client_id": "a", "client_secret": "{CANARY}"}}',
        f'{{"kind": "tokens", "client_id": "a", "refresh_token": "", "x": "{CANARY}"}}',
        f'{{"kind": "client", "client_id": "a", "client_secret": "{CANARY}"',
    ],
)
def test_what_is_no_login_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    path = login_file(tmp_path, {})
    path.write_text(content)
    with pytest.raises(InputError, match="is no Globus login") as caught:
        read_login(path)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_folder_or_a_pipe_is_no_login(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("folder", "pipe"):
        with pytest.raises(InputError, match="is no Globus login"):
            read_login(tmp_path / name)


def test_a_login_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_login(tmp_path / "none.json")
    assert caught.value.remedy == "run `camnet globus login`"


def test_a_login_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_login(tmp_path / "new" / "globus.json", {"kind": "client", "client_id": "a", "client_secret": "b"})
    finally:
        os.umask(before)
    path = tmp_path / "new" / "globus.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_login(path) == {"kind": "client", "client_id": "a", "client_secret": "b"}
    assert list(path.parent.iterdir()) == [path]


def test_only_mapped_collections_ask_for_a_consent_each_once(tmp_path: Path) -> None:
    ids = ["aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"]
    mapped, guest = (
        GlobusCollection.model_validate({"collection": name, "credentials": tmp_path, "kind": kind})
        for name, kind in zip(ids, ("mapped", "guest"), strict=True)
    )
    consent = f"https://auth.globus.org/scopes/{ids[0]}/data_access"
    everything = "urn:globus:auth:scope:transfer.api.globus.org:all"
    assert str(globus_scopes([mapped, guest, mapped])) == f"{everything}[{consent}]"
    assert str(globus_scopes([guest])) == everything


def test_a_client_login_asks_for_the_consents_of_mapped_collections(tmp_path: Path, service: GlobusService) -> None:
    route = globus_route(tmp_path / "sites", service, "globus only", mapped=True)
    assert moved(route)[0].state == "done"
    assert service.auth.grants == ["client_credentials"]


def test_a_missing_consent_names_the_scope_and_the_command(tmp_path: Path, service: GlobusService) -> None:
    credentials = token_login(service, tmp_path / "login")
    route = globus_route(tmp_path / "sites", service, "globus only", mapped=True, credentials=credentials)
    with pytest.raises(InputError, match="asks for a consent") as caught:
        moved(route)
    assert route.destination.globus is not None
    assert f"{route.destination.globus.collection}/data_access" in str(caught.value)
    assert "camnet globus login FILE --client-id ID --sites FOLDER" in str(caught.value.remedy)
    assert service.transfers == []


def test_a_refreshed_token_is_written_back_and_used_again(tmp_path: Path, service: GlobusService) -> None:
    credentials = token_login(service, tmp_path / "login")
    before = kept(credentials)
    route = globus_route(tmp_path / "sites", service, "globus only", credentials=credentials)
    assert moved(route)[0].state == "done"
    after = kept(credentials)
    assert after.pop("access_token").startswith("canary-access-token")
    assert after.pop("expires_at_seconds") > 0
    assert {name: after[name] for name in before} == before
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert moved(route)[0].state == "already"
    assert service.auth.grants == ["refresh_token"]


def test_a_refresh_token_that_is_good_for_one_use_is_replaced(tmp_path: Path, service: GlobusService) -> None:
    service.auth.rotates = True
    credentials = token_login(service, tmp_path / "login")
    route = globus_route(tmp_path / "sites", service, "globus only", credentials=credentials)
    for state in ("done", "already", "already"):
        service.auth.expire_tokens()
        assert moved(route)[0].state == state
    assert service.auth.grants == ["refresh_token"] * 3


def test_a_token_that_is_not_valid_any_more_is_refreshed(tmp_path: Path, service: GlobusService) -> None:
    credentials = token_login(service, tmp_path / "login", access_token="old", expires_at_seconds=4_000_000_000)  # noqa: S106  # no password
    route = globus_route(tmp_path / "sites", service, "globus only", credentials=credentials)
    assert moved(route)[0].state == "done"
    assert kept(credentials)["access_token"] != "old"  # noqa: S105  # no password


@pytest.mark.parametrize("kind", ["client", "tokens"])
def test_a_token_that_expires_while_a_task_goes_on_is_renewed(
    tmp_path: Path, service: GlobusService, kind: str
) -> None:
    make = client_login if kind == "client" else token_login
    route = globus_route(tmp_path / "sites", service, "globus folders", credentials=make(service, tmp_path / "login"))
    seen: list[int] = []

    def expire(path: str, arrived_bytes: int) -> None:
        if not seen:
            service.auth.expire_tokens()
            service.plan.gate.set()
        seen.append(arrived_bytes)

    service.plan.gate.clear()
    route.put({"a.bin": random_bytes(5000)})
    assert route.move(route.batch("a.bin"), progress=expire)[0].state == "done"
    assert len(service.auth.grants) == 2


@pytest.mark.parametrize("kind", ["client", "tokens"])
def test_a_login_that_was_revoked_says_to_log_in_again(tmp_path: Path, service: GlobusService, kind: str) -> None:
    make = client_login if kind == "client" else token_login
    route = globus_route(tmp_path / "sites", service, "globus only", credentials=make(service, tmp_path / "login"))
    service.auth.revoke_logins()
    with pytest.raises(InputError, match="Globus Auth refuses the login") as caught:
        moved(route)
    assert "camnet globus login" in str(caught.value.remedy)


def test_tokens_that_cannot_be_kept_do_not_end_the_transfer(
    tmp_path: Path, service: GlobusService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = token_login(service, tmp_path / "login")
    route = globus_route(tmp_path / "sites", service, "globus only", credentials=credentials)

    def full(path: Path, login: dict[str, Any]) -> None:
        raise InputError("cannot be written (No space left on device)", subject=path)

    monkeypatch.setattr("transfer.globus_login.write_login", full)
    assert moved(route)[0].state == "done"
    assert "was not kept" in caplog.text


def test_a_person_logs_in_with_a_browser(tmp_path: Path, service: GlobusService) -> None:
    service.auth.native_clients.add(CLIENT)
    collection = service.add_collection(tmp_path, mapped=True)
    end = GlobusCollection.model_validate({"collection": collection, "credentials": tmp_path})
    login = NativeLogin(CLIENT, [end])
    with urllib.request.urlopen(login.url) as answer:  # noqa: S310  # http, to our own service
        code = json.load(answer)["code"]
    login.finish(f" {code}\n", tmp_path / "globus.json")
    assert read_login(tmp_path / "globus.json")["kind"] == "tokens"
    with transfer_client(tmp_path / "globus.json", [end], timeout_s=5) as client:
        assert len(list(client.operation_ls(collection, "/"))) == 1
    assert service.auth.grants == ["authorization_code"]


def test_a_wrong_code_writes_nothing(tmp_path: Path, service: GlobusService) -> None:
    service.auth.native_clients.add(CLIENT)
    with pytest.raises(InputError, match="refuses the login"):
        NativeLogin(CLIENT, []).finish("wrong", tmp_path / "globus.json")
    assert list(tmp_path.iterdir()) == []


def test_an_auth_service_that_is_away_is_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", "http://127.0.0.1:9/")
    path = login_file(tmp_path, {"kind": "client", "client_id": "a", "client_secret": CANARY})
    with pytest.raises(RetryableFault, match="does not answer"), transfer_client(path, [], timeout_s=1, retries=0):
        pass


@pytest.mark.parametrize("kind", ["client", "tokens"])
@pytest.mark.parametrize("trouble", ["none", "consent", "revoked", "inactive", "failed", "refused"])
def test_no_secret_is_ever_told(
    tmp_path: Path, service: GlobusService, caplog: pytest.LogCaptureFixture, kind: str, trouble: str
) -> None:
    caplog.set_level(logging.DEBUG)
    make = client_login if kind == "client" else token_login
    credentials = make(service, tmp_path / "login")
    route = globus_route(tmp_path / "sites", service, "globus only", credentials=credentials)
    route.put({"a.bin": random_bytes(5000)})
    batch = route.batch("a.bin")
    assert route.destination.globus is not None
    match trouble:
        case "consent":
            service.mapped.add(str(route.destination.globus.collection))
        case "revoked":
            service.auth.revoke_logins()
        case "inactive":
            service.plan.inactive = True
        case "failed":
            service.plan.fatal = {"code": "QUOTA_EXCEEDED", "description": "Disk quota exceeded"}
        case "refused":
            credentials.chmod(0o644)
    mover = open_mover("globus", batch.source, batch.destination, QUICK, route.ledger)
    told = [batch.model_dump_json(), repr(batch), repr(mover), repr(vars(mover))]
    try:
        told += [outcome.model_dump_json() for outcome in mover.move(batch)]
    except CamNetError as fault:
        told += [repr(fault), "".join(traceback.format_exception(fault))]
    state = [path for path in route.ledger.path.parent.rglob("*") if path.is_file()]
    told += [path.read_text() for path in state]
    told += [record.getMessage() + repr(vars(record)) for record in caplog.records]
    assert len(told) > 5
    assert service.auth.secrets
    found = {word for word in service.auth.secrets if any(word in one for one in told)}
    assert found == set()
