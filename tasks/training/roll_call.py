"""Files by which it is known, and not guessed, which ranks of a training died."""

from __future__ import annotations

from pathlib import Path


class RollCall:
    """Each rank says when its steps begin, and when it knows that it will end.

    A rank that is told to stop, that fails, or that loses another one still says so; one that was killed, or whose
    node has gone, does not.

    Parameters
    ----------
    folder
        Seen by all ranks and by what started them; made when the first rank writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begins(self, rank: int) -> None:
        """Say that the steps of `rank` begin."""
        self._say(f"rank-{rank}.begun")

    def ends(self, rank: int) -> None:
        """Say that `rank` ends, whatever for."""
        self._say(f"rank-{rank}.ended")

    def dead(self, ranks: int) -> tuple[int, ...]:
        """List those of `ranks` ranks that are gone without a word.

        None while not all have begun: one that has said nothing at all might be one that could not yet.
        """
        if not all((self._folder / f"rank-{rank}.begun").exists() for rank in range(ranks)):
            return ()
        return tuple(rank for rank in range(ranks) if not (self._folder / f"rank-{rank}.ended").exists())

    def _say(self, name: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()
