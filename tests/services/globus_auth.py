"""Globus Auth, as far as logins need it: grants, tokens with scopes, expiry, revocation."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

TRANSFER = "transfer.api.globus.org"
ALL = f"urn:globus:auth:scope:{TRANSFER}:all"


class Refusal(Exception):
    """An answer that is an error: status and JSON."""

    def __init__(self, status: int, body: dict[str, object]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass
class GlobusAuth:
    """Accounts and tokens.

    Attributes
    ----------
    clients
        Secret of each confidential client.
    native_clients
        Ids of native applications.
    lifetime_s
        Of the access tokens that are given out.
    rotates
        Each refresh token is good for one use, and the answer has the next.
    grants
        Grant type of each token request, in order.
    secrets
        Everything that must never be seen elsewhere.
    """

    clients: dict[str, str] = field(default_factory=dict)
    native_clients: set[str] = field(default_factory=set)
    lifetime_s: int = 172_800
    rotates: bool = False
    grants: list[str] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    _access: dict[str, tuple[str, float]] = field(default_factory=dict)
    _refresh: dict[str, tuple[str, str]] = field(default_factory=dict)
    _codes: dict[str, tuple[str, str, str, str]] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def add_client(self) -> tuple[str, str]:
        """Register a confidential client; give its id and secret."""
        client, secret = "5f0c3f5e-0000-4000-8000-00000000c11e", self._made("canary-client-secret")
        self.clients[client] = secret
        return client, secret

    def refresh_token(self, client: str, scope: str = ALL) -> str:
        """Register a native client, and give it a refresh token as after a login."""
        self.native_clients.add(client)
        token = self._made("canary-refresh-token")
        self._refresh[token] = (client, scope)
        return token

    def expire_tokens(self) -> None:
        """Let no access token be valid any more."""
        with self._mutex:
            self._access.clear()

    def revoke_logins(self) -> None:
        """Let no token at all be valid any more."""
        self.expire_tokens()
        self._refresh.clear()
        self.clients = dict.fromkeys(self.clients, secrets.token_hex())

    def scope_of(self, authorization: str | None) -> str | None:
        """Give the scope of a bearer token that is valid."""
        kind, _, token = (authorization or "").partition(" ")
        scope, ends_s = self._access.get(token, ("", 0.0))
        return scope if kind == "Bearer" and scope and time.time() < ends_s else None

    def authorize(self, query: dict[str, str]) -> str:
        """Do what a person does in the browser; give the code that they are shown."""
        expected = {"client_id", "redirect_uri", "scope", "state", "response_type", "code_challenge"}
        expected |= {"code_challenge_method", "access_type"}
        if set(query) != expected or query["code_challenge_method"] != "S256" or query["response_type"] != "code":
            raise Refusal(400, {"error": "invalid_request"})
        if query["client_id"] not in self.native_clients or query["access_type"] != "offline":
            raise Refusal(400, {"error": "invalid_client"})
        code = self._made("canary-code")
        self._codes[code] = (query["client_id"], query["scope"], query["code_challenge"], query["redirect_uri"])
        return code

    def token(self, form: dict[str, str], authorization: str | None) -> dict[str, object]:
        """Answer the token endpoint."""
        grant = form.pop("grant_type", "")
        self.grants.append(grant)
        match grant:
            case "client_credentials":
                client, _, secret = base64.b64decode((authorization or " ").split(" ")[1]).decode().partition(":")
                if set(form) != {"scope"} or self.clients.get(client) != secret:
                    raise Refusal(401, {"error": "invalid_client"})
                return self._tokens(form["scope"])
            case "refresh_token":
                self._expect(form, {"refresh_token", "client_id"})
                client, scope = self._refresh.get(form["refresh_token"], ("", ""))
                if client != form["client_id"]:
                    raise Refusal(400, {"error": "invalid_grant"})
                if not self.rotates:
                    return self._tokens(scope)
                del self._refresh[form["refresh_token"]]
                return self._tokens(scope) | {"refresh_token": self.refresh_token(client, scope)}
            case "authorization_code":
                self._expect(form, {"code", "client_id", "redirect_uri", "code_verifier"})
                client, scope, challenge, redirect = self._codes.pop(form["code"], ("", "", "", ""))
                digest = hashlib.sha256(form["code_verifier"].encode()).digest()
                verified = base64.urlsafe_b64encode(digest).decode().rstrip("=") == challenge
                if (client, redirect) != (form["client_id"], form["redirect_uri"]) or not verified:
                    raise Refusal(400, {"error": "invalid_grant"})
                return self._tokens(scope) | {"refresh_token": self.refresh_token(client, scope)}
        raise Refusal(400, {"error": "unsupported_grant_type"})

    def _expect(self, form: dict[str, str], names: set[str]) -> None:
        if set(form) != names:
            raise Refusal(400, {"error": "invalid_request"})

    def _tokens(self, scope: str) -> dict[str, object]:
        if not scope.startswith(ALL):
            raise Refusal(400, {"error": "unknown_scope"})
        token = self._made("canary-access-token")
        with self._mutex:
            self._access[token] = (scope, time.time() + self.lifetime_s)
        return {
            "access_token": token,
            "scope": ALL,
            "expires_in": self.lifetime_s,
            "token_type": "Bearer",
            "resource_server": TRANSFER,
            "other_tokens": [],
        }

    def _made(self, words: str) -> str:
        made = f"{words}-{secrets.token_hex(12)}"
        self.secrets.add(made)
        return made


def query_of(url: str) -> dict[str, str]:
    """Give the query of a URL, each name once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, strict_parsing=True).items()}
