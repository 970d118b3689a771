"""What ``camnet doctor`` looks at where a site has a Globus collection."""

from __future__ import annotations

from deployments.sites import Site
from flows.endpoints import local_endpoint
from flows.finding import Finding
from tasks.errors import CamNetError
from transfer.globus_faults import globus_errors
from transfer.globus_login import read_login, transfer_client

_TIMEOUT_S = 10.0


def check_globus(site: Site) -> list[Finding]:
    """Look at the login file, and whether the collection answers."""
    collection = local_endpoint(site).globus
    if collection is None:
        return []
    login, answer = f"{site.name} Globus login", f"{site.name} Globus collection"
    try:
        kind = read_login(collection.credentials)["kind"]
    except CamNetError as fault:
        return [Finding(what=login, found=str(fault), good=False)]
    findings = [Finding(what=login, found=f"{collection.credentials} ({kind})", good=True)]
    try:
        with transfer_client(collection.credentials, [collection], timeout_s=_TIMEOUT_S, retries=0) as client:
            with globus_errors(answer):
                name = client.get_endpoint(collection.collection)["display_name"]
            with globus_errors(f"{answer}, {collection.root}"):
                client.operation_ls(collection.collection, f"{collection.root.rstrip('/')}/", limit=1)
    except CamNetError as fault:
        return [*findings, Finding(what=answer, found=str(fault), good=False)]
    return [*findings, Finding(what=answer, found=f"{name} answers, {collection.root} can be listed", good=True)]
