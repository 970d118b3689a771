"""How many connections a link is worth."""

from __future__ import annotations

import math

from transfer.lane import Lane

_SSH_WINDOW_BYTES = 2e6
_LINK_BYTES_PER_S = 125e6
_MOST = 8


def connections_for(lane: Lane, *, fewest: int, most: int) -> int:
    """Give the connections that a link is worth, by the round trip of a lane that has had an answer before.

    One SSH connection has 2 MB on its way at most. The link is taken for one of 1 Gb/s; 1.2 times what would
    just fill it, and 8 at most: more cost both ends processor time and gain nothing.
    """
    # Stores of this machine have no round trip.
    round_trip_s = max(float(getattr(end, "round_trip_s", 0.0)) for end in (lane.source, lane.destination))
    needed = math.ceil(1.2 * round_trip_s * _LINK_BYTES_PER_S / _SSH_WINDOW_BYTES)
    return min(most, max(fewest, min(_MOST, needed)))
