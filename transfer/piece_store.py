"""What a byte store has besides, where pieces of a file may be on their way before the first of them is answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable

from transfer.ranges import Range


class PieceStore(ABC):
    """A `transfer.store.ByteStore` at the other end of a connection. Answers come in the order of the questions."""

    @abstractmethod
    def ask_piece(self, path: str, part: Range) -> None:
        """Ask for a range of a file; `piece` gives it."""

    @abstractmethod
    def piece(self, path: str, part: Range) -> Generator[bytes | memoryview, None, None]:
        """Yield exactly the bytes of the range that was asked for first; a block is overwritten by the next."""

    @abstractmethod
    def send_piece(self, path: str, part: Range, blocks: Iterable[bytes | memoryview]) -> None:
        """Send the blocks of a range to their place in a file that exists; `acknowledge_piece` waits for the answer."""

    @abstractmethod
    def acknowledge_piece(self, path: str) -> None:
        """Wait until the range that was sent first lies in its file."""

    @abstractmethod
    def end_pieces(self, path: str) -> None:
        """Say that no more ranges of a file are read or written; all that were asked for or sent are answered."""
