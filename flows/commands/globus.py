"""Commands about Globus: logging in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.look import SitesOption
from flows.commands.options import DEFAULT_WORKSPACE, WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add these commands to `app`."""
    globus = typer.Typer(help="Transfers over Globus.", no_args_is_help=True)
    globus.callback()(_group)
    globus.command()(login)
    app.add_typer(globus, name="globus")


def _group() -> None:
    """Transfers over Globus."""


def login(
    file: Annotated[Path, typer.Argument(help="login file to write, as `credentials` in the site files names it")],
    client_id: Annotated[str, typer.Option("--client-id", help="id of a native application registered with Globus")],
    folder: SitesOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Log in to Globus as a person, with the consents that the collections of the sites ask for.

    Open the address that is shown, log in, and paste the code that you get.
    """
    from deployments.sites import load_sites
    from flows.endpoints import local_endpoint
    from tasks.errors import InputError
    from transfer.globus_login import NativeLogin, read_login

    if file.exists() and read_login(file)["kind"] == "client":
        raise InputError("holds the login of a client", subject=file, remedy="name another file, or remove it")
    ends = [local_endpoint(site) for site in load_sites(folder, workspace=workspace).values()]
    native = NativeLogin(client_id, [end.globus for end in ends if end.globus])
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("Open this address, log in, and paste the code that you get:\n")
    console.print(native.url, markup=False)
    code = typer.prompt("\nCode", err=True)
    native.finish(code, file)
    console.print(f"The login is in {file}; its owner alone can read it.", markup=False)
