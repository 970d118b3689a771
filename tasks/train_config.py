"""Section ``[train]`` of the run configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tasks.settings import Settings


class TrainConfig(Settings):
    """Layer 2: network and training."""

    architecture: str = Field("ResNet50", description="a name from `camnet train --list`")
    head: Literal["pooled", "dense"] = Field(
        "pooled", description="pooled: one logit from the mean of the maps; dense: layers of 2048, 512, 256 before it"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share dropped before each dense layer while training")
    weights: Path | Literal["imagenet"] | None = Field(
        None, description=".weights.h5 of the backbone; imagenet: those that Keras publishes; none: random"
    )
    weights_digest: str | None = Field(None, description="sha256:… that the weights file must have")
    start_from: Path | None = Field(
        None, description="model folder to go on from, head included; its architecture and head must be these"
    )
    trainable: str = Field("all", description="all, head, or the name of the first layer of the backbone that trains")
    head_epochs: int = Field(0, ge=0, description="first epochs, in which the head alone trains")
    loss: Literal["class-weighted", "binary-cross-entropy", "focal"] = "class-weighted"
    focal_gamma: float = Field(2.0, ge=0, le=10, description="how little the focal loss looks at easy patches")
    epochs: int = Field(10, ge=1, le=10_000)
    patience_epochs: int | None = Field(None, ge=1, description="ends when the validation got no better for so long")
    batch_size: int = Field(32, ge=1, le=4096, description="patches a rank and step")
    accumulate_steps: int = Field(
        1,
        ge=1,
        le=1024,
        description="batches of a rank whose gradients are added up for one update; the learning rate stays",
    )
    learning_rate: float = Field(1e-3, gt=0, description="for one rank; multiplied by the number of ranks")
    decay: Literal["cosine", "step", "none"] = Field("cosine", description="of the learning rate after the warm-up")
    decay_epochs: tuple[int, ...] = Field((), description="step: epochs after which the rate is multiplied")
    decay_factor: float = Field(0.1, gt=0, lt=1, description="step: by what")
    warmup_epochs: int = Field(0, ge=0, description="the rate rises over these from that of one rank")
    optimizer: Literal["sgd", "adam", "adamw", "lamb", "lars"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd, with Nesterov's look ahead; lars")
    weight_decay: float = Field(0.0, ge=0, le=1, description="adamw, lamb, lars")
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="of the computation; weights stay float32"
    )
    xla: bool = Field(False, description="compiles forward and backward; for GPUs: on CPUs it is three times slower")
    compression: Literal["none", "float16"] = Field("none", description="of gradients on their way between ranks")
    fusion_mb: float | None = Field(
        None, ge=0, le=4096, description="MiB of gradients that are averaged in one message; default: Horovod's 128"
    )
    cycle_ms: float | None = Field(
        None, gt=0, le=1000, description="ms between two looks for gradients that are ready; default: Horovod's 1"
    )
    augment: bool = Field(True, description="flips, right-angle turns, small changes of colour")
    ranks: int | None = Field(None, ge=1, description="Horovod ranks; default: the site's slots")
    controller: Literal["gloo", "mpi"] = "gloo"
    silence_s: float = Field(900.0, gt=0, description="a training that says nothing for this long is ended")

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.head_epochs >= self.epochs and self.head_epochs:
            raise ValueError("head_epochs must be fewer than epochs (trainable = 'head' trains the head alone)")
        if self.start_from is not None and self.weights is not None:
            raise ValueError("start_from and weights exclude each other")
        if self.decay == "step" and list(self.decay_epochs) != sorted(set(self.decay_epochs)):
            raise ValueError("decay_epochs must rise")
        if (self.decay == "step") != bool(self.decay_epochs):
            raise ValueError("decay = 'step' and decay_epochs belong together")
        if self.weight_decay and self.optimizer not in ("adamw", "lamb", "lars"):
            raise ValueError(f"weight_decay is for adamw, lamb and lars, not for {self.optimizer}")
        return self
