"""The error of a training that lost ranks."""

from __future__ import annotations

from tasks.errors import RetryableFault


class RankDied(RetryableFault):
    """Ranks died without a word: killed, out of memory, or their node has gone.

    Attributes
    ----------
    dead
        Their numbers; empty: which ones is not known.
    left
        With how many ranks the training can be started again at once; 0: with none.
    """

    def __init__(
        self,
        cause: str,
        *,
        subject: object = None,
        remedy: str | None = None,
        dead: tuple[int, ...] = (),
        left: int = 0,
    ) -> None:
        super().__init__(cause, subject=subject, remedy=remedy)
        self.dead, self.left = dead, left
