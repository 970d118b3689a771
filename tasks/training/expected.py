"""The shards that a training will have, known before they have arrived: who is in which split is settled here.

The list is made where the shards were made, from what they say of themselves, and travels before them. The order in
which they arrive can change neither a split nor a patient's place in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator

from tasks import atomic
from tasks.artifacts import Record, RelativePath
from tasks.config import Split
from tasks.errors import InputError
from tasks.patches.store import open_shard

EXPECTED_NAME = "expected.json"


class ExpectedShard(Record):
    """One shard that is there or on its way.

    Attributes
    ----------
    path
        Relative to the folder of the list.
    tumour_rows, normal_rows
        Labelled rows.
    """

    path: RelativePath
    bytes: int = Field(ge=0)
    digest: str
    split: Split
    patient: str
    tumour_rows: int = Field(ge=0)
    normal_rows: int = Field(ge=0)

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return self.tumour_rows + self.normal_rows


class ExpectedShards(Record):
    """All shards of a training, in the order of the manifest.

    Attributes
    ----------
    manifest_digest
        Of the manifest that names them, as it says itself.
    manifest_file_digest
        Of that file.
    """

    made_by: Literal["camnet-expected/1"] = "camnet-expected/1"
    manifest_digest: str
    manifest_file_digest: str
    shards: tuple[ExpectedShard, ...]

    @field_validator("shards")
    @classmethod
    def _each_once(cls, shards: tuple[ExpectedShard, ...]) -> tuple[ExpectedShard, ...]:
        if len({shard.path for shard in shards}) != len(shards):
            raise ValueError("a path is there twice")
        return shards


def expected_shard(folder: Path, path: str, *, size_bytes: int, digest: str) -> ExpectedShard:
    """Describe a finished shard below `folder`.

    Raises
    ------
    IntegrityError
        It is damaged.
    """
    with open_shard(folder / path) as shard:
        stated, label = shard.attributes, shard.label
        return ExpectedShard(
            path=path,
            bytes=size_bytes,
            digest=digest,
            split=stated.split,
            patient=stated.patient,
            tumour_rows=int(np.sum(label == 1)),
            normal_rows=int(np.sum(label == 0)),
        )


def refuse_split_patients(shards: Iterable[ExpectedShard]) -> None:
    """Refuse a list in which a patient is in two splits.

    Raises
    ------
    InputError
        They are named.
    """
    splits: dict[str, set[str]] = {}
    for shard in shards:
        splits.setdefault(shard.patient, set()).add(shard.split)
    leaking = sorted(f"{patient} ({' and '.join(sorted(of))})" for patient, of in splits.items() if len(of) > 1)
    if leaking:
        raise InputError(
            f"patients are expected in more than one split: {', '.join(leaking)}",
            remedy="divide the cohort by patient and make the shards again; a model must be judged on other patients",
        )


def write_expected(path: Path, expected: ExpectedShards) -> None:
    """Write the list as JSON."""
    atomic.write_text(path, expected.model_dump_json(indent=1) + "\n")


def read_expected(path: Path) -> ExpectedShards | None:
    """Read the list; None when there is none.

    Raises
    ------
    InputError
        The file is no such list.
    """
    try:
        return ExpectedShards.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InputError(
            f"is no list of expected shards ({error})", subject=path, remedy="start `camnet transfer` again"
        ) from error
