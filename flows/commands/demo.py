"""``camnet demo``: the whole pipeline on a cohort that it makes itself, or on real slides."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows.commands.options import DEFAULT_WORKSPACE, WorkspaceOption
from flows.commands.run import run_context

if TYPE_CHECKING:
    from flows.context import RunContext
    from tasks.config import RunConfig

SEED = 7
PREPROCESS: dict[str, Any] = {"patch_px": 96, "tumour_patches": 250, "normal_patches": 250, "grid_stride_px": 96}
COHORT: dict[str, Any] = {"slides": 24, "centres": 3, "nodes_per_patient": 1, "seed": SEED}
TRAIN: dict[str, Any] = {
    "architecture": "CamNetSmall",
    "epochs": 8,
    "batch_size": 32,
    "learning_rate": 0.001,
    "optimizer": "adam",
}
# PCam's patches have 0.97 µm per pixel.
REAL_COHORT: dict[str, Any] = {**COHORT, "slides": 12, "width_px": 3072, "height_px": 3072, "mpp": 0.97}
REAL_TRAIN: dict[str, Any] = {**TRAIN, "architecture": "MobileNetV2", "epochs": 3, "learning_rate": 0.0003}
REAL_WEIGHTS = Path("weights") / "mobilenetv2_imagenet_notop.weights.h5"


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

    With CAMNET_TEST_DATA set to a folder that has ``patches/`` (labelled real patches in PCam's layout), the
    cohort is made of those patches.
    """
    from deployments.loopback_sshd import loopback_sshd

    config = demo_config(slides, workspace.resolve())
    with loopback_sshd(workspace / "sshd") as server:
        run_context(demo_context(config, workspace, server))


def demo_config(slides: Path | None, workspace: Path) -> RunConfig:
    """Give the configuration of the demonstration; makes its cohort when no slides are given."""
    from tasks.config import parse_config

    given = os.environ.get("CAMNET_TEST_DATA")
    name, cohort, train = "demo", workspace / "cohort", TRAIN
    if slides is not None:
        name, cohort = "demo-slides", slides.resolve()
    elif given:
        name, cohort, train = "demo-real", workspace / "cohort-real", _real_training(Path(given).resolve())
        _make(cohort, {**REAL_COHORT, "pixels": Path(given).resolve() / "patches"})
    else:
        _make(cohort, COHORT)
    values = {"name": name, "seed": SEED, "cohort": {"slides": cohort}, "preprocess": PREPROCESS, "train": train}
    return parse_config(values, folder=workspace, source="the demonstration")


def demo_context(config: RunConfig, workspace: Path, server: Any) -> RunContext:  # noqa: ANN401  # a LoopbackSshd
    """Give the two embedded sites; the second is reached over SSH, as a real one would be."""
    from deployments.endpoints import SshEndpoint
    from flows.context import make_context

    context = make_context(config, workspace, "embedded")
    account = SshEndpoint(
        host=server.host, port=server.port, user=server.user, key=server.key, known_hosts=server.known_hosts
    )
    trainer = context.trainer.model_copy(update={"ssh": account})
    return context.model_copy(update={"sites": {**context.sites, trainer.name: trainer}})


def _real_training(data: Path) -> dict[str, Any]:
    weights = data / REAL_WEIGHTS
    return {**REAL_TRAIN, "weights": weights} if weights.is_file() else TRAIN


def _make(folder: Path, values: dict[str, Any]) -> None:
    """Make the cohort unless the same one is there."""
    from tasks import atomic
    from tasks.caching import content_key
    from tasks.slides.synthetic import make_cohort
    from tasks.slides.synthetic.config import SynthConfig

    config = SynthConfig(**values)
    key, record = content_key("cohort", inputs=[], config=config, code=["tasks.slides.synthetic"]), folder / ".key"
    if record.is_file() and record.read_text() == key:
        return
    pixels = (
        f"of the real patches in {config.pixels}" if config.pixels else "(a path or CAMNET_TEST_DATA gives real ones)"
    )
    Console(stderr=True, highlight=False).print(f"making {config.slides} slides {pixels}", soft_wrap=True)
    make_cohort(folder, config, workers=len(os.sched_getaffinity(0)))
    atomic.write_text(record, key)
