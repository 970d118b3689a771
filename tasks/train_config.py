"""Section ``[train]`` of the run configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.arrival_config import ArrivalConfig
from tasks.importance_config import ImportanceConfig
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
    head_epochs: int = Field(0, ge=0, le=10_000, description="first epochs, in which the head alone trains")
    loss: Literal["class-weighted", "binary-cross-entropy", "focal"] = Field(
        "class-weighted",
        description="class-weighted: cross-entropy in which both classes weigh the same; focal: looks at hard patches",
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="focal: exponent, how little easy patches count")
    epochs: int = Field(10, ge=1, le=10_000, description="times that each training patch is used")
    patience_epochs: int | None = Field(
        None, ge=1, le=10_000, description="ends when the validation got no better for so many epochs; default: never"
    )
    batch_size: int = Field(32, ge=1, le=4096, description="patches a rank and step")
    accumulate_steps: int = Field(
        1,
        ge=1,
        le=1024,
        description="number of batches of a rank whose gradients are added up for one update; the learning rate stays",
    )
    learning_rate: float = Field(
        1e-3, gt=0, le=1e30, description="step a unit of gradient, for one rank; multiplied by the number of ranks"
    )
    decay: Literal["cosine", "step", "none"] = Field("cosine", description="of the learning rate after the warm-up")
    decay_epochs: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        (), description="step: epochs after which the rate is multiplied"
    )
    decay_factor: float = Field(0.1, gt=0, lt=1, description="step: factor that it is multiplied by")
    warmup_epochs: int = Field(0, ge=0, le=10_000, description="epochs over which the rate rises from that of one rank")
    optimizer: Literal["sgd", "adam", "adamw", "lamb", "lars"] = Field(
        "sgd", description="sgd: as in the paper; lamb, lars: for large batches"
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="sgd, with Nesterov's look ahead; lars: share of the last step"
    )
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="adamw, lamb, lars: share of the weights taken off, times rate"
    )
    skip_steps: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="number of steps with a loss or gradient that is not finite that are left out; one more ends it",
    )
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="of the computation; weights stay float32"
    )
    xla: bool = Field(False, description="compiles forward and backward; for GPUs: on CPUs it is three times slower")
    compression: Literal["none", "float16"] = Field("none", description="of gradients on their way between ranks")
    fusion_mb: float | None = Field(
        None,
        ge=0,
        le=4096,
        description="2^20 bytes of gradients averaged in one message; default: Horovod's 128",
    )
    cycle_ms: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="1/1000 seconds between looks for gradients; default: Horovod's 1",
    )
    augment: bool = Field(True, description="random changes of the training patches, as the next keys say")
    augment_flips: bool = Field(True, description="mirror images")
    augment_turns: bool = Field(True, description="turns by right angles")
    augment_stain: float = Field(0.15, ge=0, le=0.9, description="haematoxylin and eosin: largest share added or taken")
    augment_density: float = Field(
        0.05, ge=0, le=1, description="optical density (natural): largest number added or taken"
    )
    augment_hue: float = Field(0.0, ge=0, le=0.5, description="hue: largest share of the circle of colours it moves")
    augment_saturation: float = Field(0.0, ge=0, le=1, description="saturation: largest share added or taken")
    augment_brightness: float = Field(0.0, ge=0, le=0.9, description="brightness: largest share added or taken")
    class_balance: Literal["none", "oversample", "undersample"] = Field(
        "none", description="as many tumour as normal patches an epoch: the smaller class repeated, or the larger cut"
    )
    importance: ImportanceConfig = ImportanceConfig()
    arrival: ArrivalConfig = ArrivalConfig()
    stain: Literal["none", "reinhard", "macenko"] = Field(
        "none", description="normalisation of each slide's stain, before training, inference and explanations"
    )
    stain_reference: Path | None = Field(
        None, description="picture whose stain all slides get; none: that of the training patches"
    )
    stain_reference_digest: str | None = Field(None, description="sha256:… that the picture must have")
    window_mb: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="10^6 bytes of patches that a rank mixes; tiles mix better with more",
    )
    run_rows: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="patches side by side that are read together; default: 2 (raw, jpeg), 16 (tiles)",
    )
    reader_threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="number that read while the step runs; default: threads of a rank, 8 at most",
    )
    ranks: int | None = Field(None, ge=1, le=4096, description="Horovod ranks; default: the site's slots")
    min_ranks: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="ranks with which a training goes on when others have died; default: it ends when one dies",
    )
    controller: Literal["gloo", "mpi"] = Field("gloo", description="what the ranks talk through")
    threshold: Literal["youden"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        "youden",
        description="probability from which a patch is called tumour, 0 to 1; youden: that with the highest "
        "sensitivity + specificity on the validation split",
    )
    checkpoint_epochs: int = Field(
        1, ge=1, le=10_000, description="epochs from one checkpoint to the next; an interrupted training goes on there"
    )
    checkpoint_minutes: float = Field(
        15.0,
        ge=0,
        le=10_080,
        description="minutes after which a checkpoint is written within an epoch; 0: only at its end",
    )
    measure_test: bool = Field(True, description="score the test split once, at the end, for the model card")
    silence_s: float = Field(
        900.0, gt=0, le=604_800, description="seconds after which a training that says nothing is ended"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.head_epochs >= self.epochs and self.head_epochs:
            raise ValueError("head_epochs must be fewer than epochs (trainable = 'head' trains the head alone)")
        if self.start_from is not None and self.weights is not None:
            raise ValueError("start_from and weights exclude each other")
        if self.skip_steps and self.precision == "float16":
            raise ValueError("skip_steps is for float32 and bfloat16: infinite gradients are usual with float16")
        if self.decay == "step" and list(self.decay_epochs) != sorted(set(self.decay_epochs)):
            raise ValueError("decay_epochs must rise")
        if (self.decay == "step") != bool(self.decay_epochs):
            raise ValueError("decay = 'step' and decay_epochs belong together")
        if self.ranks is not None and self.min_ranks is not None and self.min_ranks > self.ranks:
            raise ValueError("min_ranks must not be more than ranks")
        if self.weight_decay and self.optimizer not in ("adamw", "lamb", "lars"):
            raise ValueError(f"weight_decay is for adamw, lamb and lars, not for {self.optimizer}")
        if self.stain_reference and self.stain == "none":
            raise ValueError("stain_reference needs stain = 'reinhard' or 'macenko'")
        if self.stain_reference_digest and not self.stain_reference:
            raise ValueError("stain_reference_digest needs stain_reference")
        return self

    @model_validator(mode="after")
    def _importance_is_measured_and_used(self) -> TrainConfig:
        if self.importance.by == "gradient" and self.loss == "focal":
            raise ValueError("importance.by = 'gradient' is of the cross-entropy; with loss = 'focal' take 'loss'")
        if self.importance.by != "none" and self.importance.uniform_epochs >= self.epochs:
            raise ValueError("importance.uniform_epochs must be fewer than epochs")
        return self

    @model_validator(mode="after")
    def _arrivals_change_no_reference(self) -> TrainConfig:
        if self.arrival.follow and self.stain != "none" and not self.stain_reference:
            raise ValueError("arrival.follow with stain needs stain_reference: patches that come later would change it")
        if self.arrival.follow and self.arrival.complete_epochs > self.epochs:
            raise ValueError("arrival.complete_epochs must not be more than epochs")
        return self
