"""Two folders that are Globus collections, for tests of the mover."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tests.services.globus_service import GlobusService
from tests.services.sshd_route import Route, route_of
from transfer.servers import GlobusCollection

WAYS = ("globus folders", "globus only")
"""Whether the ends are also folders of this machine, or reached through the service alone."""


def login_file(folder: Path, login: dict[str, object]) -> Path:
    """Write a login as a person does who follows the documentation."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "globus.json"
    path.write_text(json.dumps(login))
    path.chmod(0o600)
    return path


def client_login(service: GlobusService, folder: Path) -> Path:
    """Register a confidential client, and write its login."""
    client, secret = service.auth.add_client()
    return login_file(folder, {"kind": "client", "client_id": client, "client_secret": secret})


def globus_route(
    folder: Path, service: GlobusService, way: str, *, credentials: Path | None = None, mapped: bool = False
) -> Route:
    """Make two folders, collections of the service, and the endpoints for one of `WAYS`.

    The collections begin above the folders, and these hold more than what is moved.
    """
    credentials = credentials or client_login(service, folder / "login")
    route = route_of(folder, "globus local", None)
    ends = {}
    for name, place in (("source", route.here), ("destination", route.there)):
        end = getattr(route, name)
        collection = GlobusCollection.model_validate(
            {
                "collection": service.add_collection(place.parent, mapped=mapped),
                "root": f"/{place.name}",
                "credentials": credentials,
                "kind": "mapped" if mapped else "guest",
                "only": way == "globus only",
            }
        )
        root = "/nowhere/here" if collection.only else end.root
        ends[name] = end.model_copy(update={"globus": collection, "root": root})
    return replace(route, source=ends["source"], destination=ends["destination"])
