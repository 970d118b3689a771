"""Small files over SFTP, dozens of them under way over each connection: no file waits for the answers of another."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from transfer.brake import Brake
from transfer.cargo import Item
from transfer.lane import Lane, taken
from transfer.over_lanes import drain_over_lanes, fail
from transfer.sftp_steps import SmallFileSteps, Under

_AHEAD_FILES, _AHEAD_BYTES = 64, 8 << 20  # each has its journal open
_WORTH_A_CONNECTION = 32  # files


class SftpSmallFiles:
    """Makes one attempt at many small files, over all lanes.

    What does not go smoothly is left open, without a fault: what has begun before, a file that is missing, of another
    size or no file, one that arrives damaged or cannot be written. Moved alone it shows what is wrong with it.

    Parameters
    ----------
    source_path
        Gives an item's path below the source's root.
    journals
        Folder of the journals.
    """

    def __init__(self, lanes: Sequence[Lane], source_path: Callable[[Item], str], journals: Path, brake: Brake) -> None:
        self._lanes = lanes
        self._source_path = source_path
        self._journals = journals
        self._brake = brake

    def attempt(self, items: Sequence[Item]) -> None:
        """Bring every item as far as it goes; a connection that breaks is the fault of what was on it.

        Raises
        ------
        InputError
            An account, key or host key is wrong.
        """
        queue = deque(items)
        problem = drain_over_lanes(self._lanes, math.ceil(len(queue) / _WORTH_A_CONNECTION), queue, self._drain)
        if problem:
            fail(queue, problem)

    def _drain(self, lane: Lane, queue: deque[Item]) -> Exception | None:
        """Move files until there are none; return what ended it before."""
        under: deque[Under] = deque()
        try:
            lane.connect()
            steps = SmallFileSteps(lane, self._source_path, self._journals, self._brake)
            if not steps.is_able:
                return None
            while True:
                _take_up(queue, under, steps)
                if not under:
                    return None
                ahead = deque(one for one in under if one.advance())
                if len(ahead) == len(under):
                    steps.flush()
                    # Not for the first one: then half of them can go on, and what they ask goes out together.
                    under[len(under) // 2].wait()
                under = ahead
        except Exception as problem:
            lane.close()
            for one in under:
                one.close()
            fail([one.item for one in under], problem)
            return problem


def _take_up(queue: deque[Item], under: deque[Under], steps: SmallFileSteps) -> None:
    """Begin with files as long as there is room for them."""
    under_bytes = sum(one.item.entry.bytes for one in under)
    while len(under) < _AHEAD_FILES and (item := taken(queue)):
        under_bytes += item.entry.bytes
        if under and under_bytes > _AHEAD_BYTES:
            queue.appendleft(item)
            return
        under.append(Under(item, steps.of(item)))
