"""Sites as the transfer layer sees them."""

from __future__ import annotations

from deployments.sites import Site
from transfer.model import Endpoint, SshAccount
from transfer.servers import FdtTool, GlobusCollection, GridftpServer


def local_endpoint(site: Site) -> Endpoint:
    """Give a site as it is seen from itself: a folder, and the services that both ends have to offer."""
    return Endpoint(
        site=site.name,
        root=str(site.root),
        policy=site.policy,
        gridftp=GridftpServer(**site.gridftp.model_dump()) if site.gridftp else None,
        globus=_collection(site, only=False),
        fdt=FdtTool(**site.fdt.model_dump()) if site.fdt else None,
    )


def endpoint(site: Site) -> Endpoint:
    """Give a site as it is seen from another one: by SSH where it has an account, else as a folder or collection."""
    local = local_endpoint(site).model_copy(update={"globus": _collection(site)})
    if site.ssh is None:
        return local
    account = SshAccount(**site.ssh.model_dump(exclude={"root"}))
    return local.model_copy(update={"root": site.ssh.root or local.root, "ssh": account})


def _collection(site: Site, **changes: bool) -> GlobusCollection | None:
    return GlobusCollection.model_validate(site.globus.model_dump() | changes) if site.globus else None
