"""A Globus Transfer and Auth service on one port, reached by the unchanged SDK.

It is strict: a path, query or field that the real service does not know is refused, so that a wrong call is seen.
Folders are not made by transfers, and files follow links, as with a plain POSIX collection.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.services.globus_auth import GlobusAuth, Refusal
from tests.services.globus_tasks import TaskPlan, TransferTask, file_document

_PAGE = 100
_TRANSFER_FIELDS = {
    "DATA_TYPE", "submission_id", "label", "source_endpoint", "destination_endpoint", "DATA", "sync_level",
    "verify_checksum", "preserve_timestamp", "encrypt_data", "deadline", "skip_source_errors",
    "fail_on_quota_errors", "notify_on_succeeded", "notify_on_failed", "notify_on_inactive",
}  # fmt: skip
_ITEM_FIELDS = {"DATA_TYPE", "source_path", "destination_path", "recursive", "external_checksum", "checksum_algorithm"}
_DELETE_FIELDS = {
    "DATA_TYPE", "submission_id", "label", "endpoint", "DATA", "recursive", "ignore_missing", "interpret_globs",
    "deadline", "notify_on_succeeded", "notify_on_failed", "notify_on_inactive",
}  # fmt: skip


@dataclass
class HttpFault:
    """Something that goes wrong with requests that match.

    Attributes
    ----------
    request
        Regular expression on ``METHOD path``.
    kind
        ``reset`` (nothing was done), ``reset after`` (it was done, the answer is lost), ``page`` (a web page comes
        instead of the answer), or a status with a code.
    times
        How often.
    """

    request: str
    kind: str | tuple[int, str]
    times: int = 1


@dataclass
class GlobusService:
    """The state of the service.

    Attributes
    ----------
    collections
        Folder of each collection.
    mapped
        Collections that ask for a consent (data_access).
    requests
        ``METHOD path`` of every request, in order.
    """

    url: str = ""
    auth: GlobusAuth = field(default_factory=GlobusAuth)
    plan: TaskPlan = field(default_factory=TaskPlan)
    collections: dict[str, Path] = field(default_factory=dict)
    mapped: set[str] = field(default_factory=set)
    faults: list[HttpFault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    tasks: dict[str, TransferTask] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    _submissions: dict[str, str | None] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What leads the SDK here."""
        return {"GLOBUS_SDK_SERVICE_URL_TRANSFER": self.url, "GLOBUS_SDK_SERVICE_URL_AUTH": self.url}

    @property
    def transfers(self) -> list[TransferTask]:
        """The tasks that carry files, in order."""
        return [task for task in self.tasks.values() if task.document["DATA_TYPE"] == "transfer"]

    def add_collection(self, folder: Path, *, mapped: bool = False) -> str:
        """Make a collection of a folder; give its id."""
        collection = str(uuid.uuid4())
        self.collections[collection] = folder
        if mapped:
            self.mapped.add(collection)
        return collection

    def fault_of(self, request: str) -> HttpFault | None:
        with self._mutex:
            for fault in self.faults:
                if fault.times and re.search(fault.request, request):
                    fault.times -= 1
                    return fault
        return None

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, scope: str) -> dict[str, Any]:  # noqa: ANN401  # JSON
        """Answer a request to the Transfer service."""
        for pattern, names, handle in self._routes():
            match = re.fullmatch(pattern, f"{method} {path}")
            if match:
                if not set(query) <= names:
                    raise refusal(400, "ClientError.BadRequest", f"unknown parameters {sorted(set(query) - names)}")
                return handle(query, body, scope, *match.groups())
        raise refusal(404, "ClientError.NotFound", f"no such resource: {method} {path}")

    def _routes(self) -> list[tuple[str, set[str], Callable[..., dict[str, Any]]]]:
        one, task = "/v0.10/operation/endpoint/([^/]+)", "/v0.10/task/([^/]+)"
        return [
            ("GET /v0.10/submission_id", set(), self._submission_id),
            ("POST /v0.10/transfer", set(), self._transfer),
            ("POST /v0.10/delete", set(), self._delete),
            ("GET /v0.10/endpoint/([^/]+)", set(), self._endpoint),
            (f"GET {task}", set(), lambda query, body, scope, name: self._task(name).told()),
            (f"GET {task}/event_list", {"limit", "offset"}, self._events),
            (f"GET {task}/successful_transfers", {"marker"}, lambda *a: self._page("successful_transfers", "sent", *a)),
            (f"GET {task}/skipped_errors", {"marker"}, lambda *a: self._page("skipped_errors", "skipped", *a)),
            (f"POST {task}/cancel", set(), self._cancel),
            (f"GET {one}/ls", {"path", "limit"}, self._ls),
            (f"GET {one}/stat", {"path"}, self._stat),
            (f"POST {one}/mkdir", set(), self._mkdir),
            (f"POST {one}/rename", set(), self._rename),
        ]

    def _submission_id(self, query: dict[str, str], body: Any, scope: str) -> dict[str, Any]:  # noqa: ANN401
        name = str(uuid.uuid4())
        self._submissions[name] = None
        return {"DATA_TYPE": "submission_id", "value": name}

    def _transfer(self, query: dict[str, str], body: dict[str, Any], scope: str) -> dict[str, Any]:
        _expect(body, _TRANSFER_FIELDS, {"DATA_TYPE": "transfer"})
        for item in body["DATA"]:
            _expect(item, _ITEM_FIELDS, {"DATA_TYPE": "transfer_item"})
        if not body["DATA"]:
            raise refusal(400, "ClientError.BadRequest.NoTransferItems", "A transfer requires at least one item")
        if len(body.get("label", "")) > 128 or body.get("label", "").strip() != body.get("label", ""):
            raise refusal(400, "ClientError.BadRequest", "label")
        source, destination = (self._folder(body[f"{end}_endpoint"], scope) for end in ("source", "destination"))
        return self._submitted(body, source, destination)

    def _delete(self, query: dict[str, str], body: dict[str, Any], scope: str) -> dict[str, Any]:
        _expect(body, _DELETE_FIELDS, {"DATA_TYPE": "delete"})
        for item in body["DATA"]:
            _expect(item, {"DATA_TYPE", "path"}, {"DATA_TYPE": "delete_item"})
        return self._submitted(body, None, self._folder(body["endpoint"], scope))

    def _submitted(
        self, body: dict[str, Any], source: Callable[[str], Path] | None, destination: Callable[[str], Path]
    ) -> dict[str, Any]:
        with self._mutex:
            name = body.get("submission_id")
            if name not in self._submissions:
                raise refusal(400, "ClientError.BadRequest.InvalidSubmissionId", "unknown submission id")
            known = self._submissions[name]
            if known is None:
                task = TransferTask(body, self.plan, source, destination)
                self.tasks[task.task_id] = task
                self._submissions[name] = task.task_id
        code = "Duplicate" if known else "Accepted"
        kind = f"{body['DATA_TYPE']}_result"
        return {"DATA_TYPE": kind, "code": code, "task_id": self._submissions[name], "submission_id": name}

    def _endpoint(self, query: dict[str, str], body: Any, scope: str, name: str) -> dict[str, Any]:  # noqa: ANN401
        self._known(name)
        kind = "mapped_collection" if name in self.mapped else "guest_collection"
        return {
            "DATA_TYPE": "endpoint",
            "id": name,
            "display_name": f"Collection {name[:4]}",
            "entity_type": f"GCSv5_{kind}",
        }

    def _task(self, name: str) -> TransferTask:
        if name not in self.tasks:
            raise refusal(404, "TaskNotFound", f"no task {name}")
        return self.tasks[name]

    def _events(self, query: dict[str, str], body: Any, scope: str, name: str) -> dict[str, Any]:  # noqa: ANN401
        events = self._task(name).events
        first = int(query.get("offset", 0))
        return {"DATA_TYPE": "event_list", "total": len(events), "DATA": events[first : first + int(query["limit"])]}

    def _page(self, kind: str, facts: str, query: dict[str, str], body: Any, scope: str, name: str) -> dict[str, Any]:  # noqa: ANN401
        first = int(query.get("marker", 0))
        found = getattr(self._task(name), facts)
        rest = first + _PAGE if len(found) > first + _PAGE else None
        return {"DATA_TYPE": kind, "marker": first, "next_marker": rest, "DATA": found[first : first + _PAGE]}

    def _cancel(self, query: dict[str, str], body: Any, scope: str, name: str) -> dict[str, Any]:  # noqa: ANN401
        self._task(name).cancel()
        return {"DATA_TYPE": "result", "code": "Canceled", "message": "The task has been cancelled successfully."}

    def _ls(self, query: dict[str, str], body: Any, scope: str, name: str) -> dict[str, Any]:  # noqa: ANN401
        folder = self._folder(name, scope)(query["path"])
        if not folder.is_dir():
            raise refusal(404, "ClientError.NotFound", f"Directory '{query['path']}' not found on endpoint")
        return {
            "DATA_TYPE": "file_list",
            "path": query["path"],
            "DATA": [file_document(one) for one in folder.iterdir()],
        }

    def _stat(self, query: dict[str, str], body: Any, scope: str, name: str) -> dict[str, Any]:  # noqa: ANN401
        path = self._folder(name, scope)(query["path"])
        if not path.exists() and not path.is_symlink():
            raise refusal(404, "NotFound", "Path not found, Error (list)")
        return file_document(path)

    def _mkdir(self, query: dict[str, str], body: dict[str, Any], scope: str, name: str) -> dict[str, Any]:
        _expect(body, {"DATA_TYPE", "path"}, {"DATA_TYPE": "mkdir"})
        path = self._folder(name, scope)(body["path"])
        if path.exists():
            raise refusal(502, "ExternalError.MkdirFailed.Exists", "Path already exists")
        if not path.parent.is_dir():
            raise refusal(404, "ClientError.NotFound", "parent not found")
        path.mkdir()
        return {"DATA_TYPE": "mkdir_result", "code": "DirectoryCreated", "message": "created"}

    def _rename(self, query: dict[str, str], body: dict[str, Any], scope: str, name: str) -> dict[str, Any]:
        _expect(body, {"DATA_TYPE", "old_path", "new_path"}, {"DATA_TYPE": "rename"})
        folder = self._folder(name, scope)
        if not folder(body["old_path"]).exists():
            raise refusal(404, "ClientError.NotFound", f"'{body['old_path']}' not found")
        folder(body["old_path"]).rename(folder(body["new_path"]))
        return {"DATA_TYPE": "result", "code": "FileRenamed", "message": "File or directory renamed successfully"}

    def _known(self, collection: str) -> Path:
        if collection not in self.collections:
            raise refusal(404, "EndpointNotFound", f"No such endpoint '{collection}'")
        return self.collections[collection]

    def _folder(self, collection: str, scope: str) -> Callable[[str], Path]:
        root = self._known(collection)
        consent = f"https://auth.globus.org/scopes/{collection}/data_access"
        if collection in self.mapped and consent not in scope:
            needed = f"urn:globus:auth:scope:transfer.api.globus.org:all[*{consent}]"
            raise Refusal(
                403, {"code": "ConsentRequired", "message": "Missing required data_access consent", "request_id": "r",
                      "required_scopes": [needed]}
            )  # fmt: skip

        def place(path: str) -> Path:
            if not path.startswith("/") or ".." in path.split("/"):
                raise refusal(400, "ClientError.BadRequest.InvalidPath", path)
            return root / path.strip("/")

        return place


def refusal(status: int, code: str, message: str) -> Refusal:
    return Refusal(status, {"code": code, "message": message, "request_id": "r", "resource": "/"})


def _expect(body: object, fields: set[str], values: dict[str, str]) -> None:
    if not isinstance(body, dict) or not set(body) <= fields or any(body.get(name) != values[name] for name in values):
        raise refusal(400, "ClientError.BadRequest", f"unknown or missing fields in {body!r}")


@contextmanager
def globus_service() -> Iterator[GlobusService]:
    """Run a service on a free port."""
    service = GlobusService()

    class Handler(_Handler):
        state = service

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="globus-service")
    thread.start()
    try:
        yield service
    finally:
        service.plan.gate.set()
        service.plan.inactive = service.plan.paused = False
        for task in service.tasks.values():
            task.cancel()
            task.thread.join()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: GlobusService

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal clean; `GlobusService.requests` has them."""

    def _handle(self, method: str) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        self.state.requests.append(f"{method} {path}")
        fault = self.state.fault_of(f"{method} {path}")
        if fault and fault.kind == "reset":
            self._reset()
            return
        try:
            if fault and isinstance(fault.kind, tuple):
                raise refusal(*fault.kind, "as planned")
            status, answer = 200, self._answer(method, path, content)
        except Refusal as error:
            status, answer = error.status, error.body
            self.state.refused.append(f"{status} {method} {self.path} {error.body}")
        if fault and fault.kind == "reset after":
            self._reset()
            return
        is_page = fault is not None and fault.kind == "page"
        body = b"<html>Log in to this network</html>" if is_page else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if is_page else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, method: str, path: str, content: bytes) -> dict[str, Any]:
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if (method, path) == ("GET", "/v2/oauth2/authorize"):
            return {"code": self.state.auth.authorize(query)}
        if (method, path) == ("POST", "/v2/oauth2/token"):
            form = dict(parse_qsl(content.decode(), keep_blank_values=True))
            return self.state.auth.token(form, self.headers.get("Authorization"))
        scope = self.state.auth.scope_of(self.headers.get("Authorization"))
        if scope is None:
            raise refusal(401, "AuthenticationFailed", "Token is not valid")
        return self.state.answer(method, path, query, json.loads(content) if content else None, scope)

    def _reset(self) -> None:
        """Break the connection off, as a lost network does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
