"""Logins for Globus: a file that its owner alone can read, and a client that renews its tokens from it."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import globus_sdk
from globus_sdk.authorizers import GlobusAuthorizer
from globus_sdk.scopes import GCSCollectionScopes, Scope, TransferScopes
from globus_sdk.transport import RequestsTransport, RetryConfig

from tasks import atomic
from tasks.errors import CamNetError, InputError
from transfer.globus_faults import globus_errors
from transfer.servers import GlobusCollection

_log = logging.getLogger(__name__)
_FIELDS = {"client": ("client_id", "client_secret"), "tokens": ("client_id", "refresh_token")}
_MOST_BYTES = 64 << 10


def read_login(path: Path) -> dict[str, Any]:
    """Read a login file; its content is never part of a message.

    Returns
    -------
    dict
        ``kind`` ``client`` with ``client_id`` and ``client_secret``, or ``kind`` ``tokens`` with ``client_id`` and
        ``refresh_token``, and where they are known ``access_token`` and ``expires_at_seconds`` (Unix time).

    Raises
    ------
    InputError
        The file is not there, others can read it, it belongs to another user, or it is no login.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would never answer
    except OSError as error:
        raise InputError(
            f"the Globus login cannot be read ({error.strerror})", subject=path, remedy="run `camnet globus login`"
        ) from error
    try:
        state = os.fstat(descriptor)
        if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError("the Globus login can be read by others", subject=path, remedy=f"chmod 600 {path}")
        if state.st_uid != os.geteuid():
            raise InputError(
                "the Globus login belongs to another user", subject=path, remedy="use a file of your own, mode 600"
            )
        content = os.read(descriptor, _MOST_BYTES) if stat.S_ISREG(state.st_mode) else b""
    finally:
        os.close(descriptor)
    login = _parsed(content)
    fields = next((names for kind, names in _FIELDS.items() if login.get("kind") == kind), None)
    if fields is None or not all(_is_word(login.get(name)) for name in fields):
        raise InputError(
            "is no Globus login",
            subject=path,
            remedy='write {"kind": "client", "client_id": …, "client_secret": …}, or run `camnet globus login`',
        )
    return login


def write_login(path: Path, login: dict[str, Any]) -> None:
    """Write a login file at once, readable by its owner alone.

    Raises
    ------
    InputError, PermanentFault
        The file cannot be written.
    """
    with atomic.atomic_path(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(login, file, indent=1)


def globus_scopes(collections: Iterable[GlobusCollection]) -> Scope:
    """Give the scope of the Transfer service, with the consents that mapped collections ask for."""
    mapped = sorted({str(one.collection) for one in collections if one.kind == "mapped"})
    return TransferScopes.all.with_dependencies([GCSCollectionScopes(name).data_access for name in mapped])


@contextmanager
def transfer_client(
    credentials: Path, collections: Iterable[GlobusCollection], *, timeout_s: float, retries: int = 5
) -> Iterator[globus_sdk.TransferClient]:
    """Open a client for the Transfer service; a token is fetched at once where the file has none that is valid.

    Tokens that are renewed are written back to the file. The client is used by one thread at a time.

    Parameters
    ----------
    collections
        Those that are used with it.
    timeout_s, retries
        Of one request.

    Raises
    ------
    InputError
        See `read_login`; or Globus Auth refuses the login.
    RetryableFault
        Globus Auth does not answer.
    """
    login = read_login(credentials)
    with closing(RequestsTransport(http_timeout=timeout_s)) as transport:
        with globus_errors(str(credentials)):
            authorizer = _authorizer(credentials, login, globus_scopes(collections), transport, retries)
        yield globus_sdk.TransferClient(
            authorizer=authorizer, transport=transport, retry_config=RetryConfig(max_retries=retries)
        )


class NativeLogin:
    """The login of a person: they open `url` in a browser, and bring back the code that it shows.

    Parameters
    ----------
    client_id
        Id of a native application that is registered with Globus.
    collections
        Those that consents are asked for.
    """

    def __init__(self, client_id: str, collections: Iterable[GlobusCollection]) -> None:
        self._client_id = client_id
        self._client = globus_sdk.NativeAppAuthClient(client_id)
        self._client.oauth2_start_flow(globus_scopes(collections), refresh_tokens=True)
        self.url = self._client.oauth2_get_authorize_url()

    def finish(self, code: str, path: Path) -> None:
        """Exchange the code for tokens and write them to `path`.

        Raises
        ------
        InputError
            Globus Auth does not take the code, or the file cannot be written.
        RetryableFault
            It does not answer.
        """
        with closing(self._client), globus_errors(str(path)):
            tokens = self._client.oauth2_exchange_code_for_tokens(code.strip())
        write_login(path, {"kind": "tokens", "client_id": self._client_id} | _kept(tokens))


def _authorizer(
    path: Path, login: dict[str, Any], scope: Scope, transport: RequestsTransport, retries: int
) -> GlobusAuthorizer:
    """Make what adds the token to each request, and renews it."""
    tuning = RetryConfig(max_retries=retries)
    if login["kind"] == "client":
        secret_client = globus_sdk.ConfidentialAppAuthClient(
            login["client_id"], login["client_secret"], transport=transport, retry_config=tuning
        )
        return globus_sdk.ClientCredentialsAuthorizer(secret_client, scope)
    token, expires = login.get("access_token"), login.get("expires_at_seconds")
    known = _is_word(token) and isinstance(expires, int)
    authorizer = globus_sdk.RefreshTokenAuthorizer(
        login["refresh_token"],
        globus_sdk.NativeAppAuthClient(login["client_id"], transport=transport, retry_config=tuning),
        access_token=token if known else "",
        expires_at=expires if known else 0,
    )

    def keep(tokens: globus_sdk.OAuthRefreshTokenResponse) -> None:
        login.update(_kept(tokens))
        # The SDK forgets it where the answer does not repeat it.
        authorizer.refresh_token = login["refresh_token"]
        try:
            write_login(path, login)
        except CamNetError as fault:  # this process has the token; the next one renews it again
            _log.warning("%s The renewed Globus token was not kept.", fault)

    authorizer.on_refresh = keep
    authorizer.ensure_valid_token()
    return authorizer


def _kept(tokens: globus_sdk.OAuthTokenResponse) -> dict[str, Any]:
    """Give what goes into the file; a response without a new refresh token leaves the old one."""
    found = tokens.by_resource_server["transfer.api.globus.org"]
    names = ("access_token", "expires_at_seconds", "refresh_token", "scope")
    return {name: found[name] for name in names if found.get(name)}


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        login = json.loads(content)
    except ValueError:
        return {}
    return login if isinstance(login, dict) else {}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value.strip())
