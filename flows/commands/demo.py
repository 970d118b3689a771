"""``camnet demo``: the whole pipeline on a cohort that it makes itself, or on real slides."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows.commands.options import DEFAULT_WORKSPACE, WorkspaceOption
from flows.commands.run import run_context

if TYPE_CHECKING:
    from deployments.sites import Site
    from flows.context import RunContext

SEED = 7


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(demo)


def demo(
    slides: Annotated[
        Path | None, typer.Argument(help="folder with slides and annotations; default: a cohort is made")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Run everything on this machine: two sites, a private SSH server between them, two Horovod ranks.

    With CAMNET_TEST_DATA set to a folder that has ``patches/`` (labelled real patches), the cohort is made of
    those patches.
    """
    console = Console(stderr=True, highlight=False)
    workspace = workspace.resolve()
    given = os.environ.get("CAMNET_TEST_DATA")
    if slides is not None:
        name, cohort, settings = "demo-slides", slides.resolve(), {}
    elif given:
        name, cohort, settings = "demo-real", workspace / "cohort-real", REAL
        console.print(f"making a cohort of the real patches in {given}")
        _make(cohort, pixels=Path(given) / "patches", **REAL_COHORT)
    else:
        name, cohort, settings = "demo", workspace / "cohort", {}
        console.print("making a cohort (CAMNET_TEST_DATA or a path gives it real slides)")
        _make(cohort, pixels=None, **COHORT)
    with ExitStack() as stack:
        context = _context(stack, name, cohort, settings, workspace)
        run_context(context)


COHORT: dict[str, Any] = {"slides": 16, "centres": 3, "nodes_per_patient": 1, "seed": SEED}
REAL_COHORT: dict[str, Any] = {"slides": 12, "centres": 3, "nodes_per_patient": 1, "mpp": 0.97, "seed": SEED}
PREPROCESS: dict[str, Any] = {
    "patch_px": 96,
    "tumour_patches": 150,
    "normal_patches": 150,
    "grid_stride_px": 96,
}
TRAIN: dict[str, Any] = {
    "architecture": "CamNetSmall",
    "epochs": 6,
    "batch_size": 32,
    "learning_rate": 0.001,
    "optimizer": "adam",
}
REAL: dict[str, Any] = {}


def _make(folder: Path, **values: Any) -> None:  # noqa: ANN401  # the fields of SynthConfig
    from tasks.slides.synthetic import make_cohort
    from tasks.slides.synthetic.config import SynthConfig

    make_cohort(folder, SynthConfig(**values))


def _context(stack: ExitStack, name: str, cohort: Path, settings: dict[str, Any], workspace: Path) -> RunContext:
    """Make the context of the demonstration: its second site is reached over SSH, as a real one would be."""
    from deployments.loopback_sshd import loopback_sshd
    from flows.context import make_context
    from tasks.config import parse_config

    config = parse_config(
        {"name": name, "seed": SEED, "cohort": {"slides": str(cohort)}, "preprocess": PREPROCESS, "train": TRAIN}
        | settings,
        folder=workspace,
        source="the demonstration",
    )
    context = make_context(config, workspace, "embedded")
    server = stack.enter_context(loopback_sshd(workspace / "sshd"))
    return context.model_copy(update={"sites": context.sites | {"site-b": _over_ssh(context.trainer, server)}})


def _over_ssh(site: Site, server: Any) -> Site:  # noqa: ANN401  # a LoopbackSshd, imported with paramiko
    from deployments.sites import SshEndpoint

    account = SshEndpoint(
        host=server.host, port=server.port, user=server.user, key=server.key, known_hosts=server.known_hosts
    )
    return site.model_copy(update={"ssh": account})
