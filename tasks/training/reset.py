"""A training that goes on with another number of ranks."""

from __future__ import annotations

from pydantic import Field

from tasks.artifacts import Record


class Reset(Record):
    """What changed, and where the training went on.

    Attributes
    ----------
    died
        Ranks that died, by their numbers before; empty: the training was started again by somebody.
    checkpoint
        From which it went on; None: from its beginning, because there was none.
    epoch, step
        That came next, from 1.
    """

    ranks_before: int = Field(ge=1)
    ranks: int = Field(ge=1)
    died: tuple[int, ...] = ()
    checkpoint: int | None = None
    epoch: int = Field(1, ge=1)
    step: int = Field(1, ge=1)

    def sentence(self) -> str:
        """Tell it in a line."""
        dead = ", ".join(map(str, self.died))
        why = f"rank{'s' * (len(self.died) > 1)} {dead} died" if self.died else "it was started again"
        where = "the beginning" if self.checkpoint is None else f"epoch {self.epoch}, step {self.step}"
        return f"{why}: {self.ranks} instead of {self.ranks_before} ranks from {where} on"
