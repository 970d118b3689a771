"""What averaging gradients in a ring of nodes makes of a training: a model with few assumptions.

Each of N nodes sends and receives 2 (N - 1) messages of 1/N of the gradients (Patarasuk and Yuan 2009), so that a link
is busy for ``2 (N - 1) / N × bytes / bandwidth + 2 (N - 1) × latency``. Nothing of it is hidden behind the step, all
gradients travel at once, and each node has its link for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

_BITS_A_BYTE = 8
_GIGABIT = 1e9


@dataclass(frozen=True)
class Link:
    """What joins a node to the others.

    Attributes
    ----------
    gb_per_s
        10^9 bits a second, in each direction.
    latency_s
        Of a message.
    """

    gb_per_s: float
    latency_s: float


def ring_all_reduce_s(nodes: int, gradient_bytes: int, link: Link) -> float:
    """Seconds in which `nodes` average their gradients."""
    messages = 2 * (nodes - 1)
    return messages / nodes * gradient_bytes * _BITS_A_BYTE / (link.gb_per_s * _GIGABIT) + messages * link.latency_s


def ring_efficiency(step_s: float, nodes: int, gradient_bytes: int, link: Link) -> float:
    """Share of its time in which a node computes: `nodes` train so many times faster, divided by `nodes`.

    Parameters
    ----------
    step_s
        Of a node alone, with the batch that it has among the others too.
    """
    return step_s / (step_s + ring_all_reduce_s(nodes, gradient_bytes, link))


def bus_gb_per_s(nodes: int, gradient_bytes: int, seconds: float) -> float:
    """Bandwidth (10^9 bits a second) at which a ring without latency would take so long."""
    return 2 * (nodes - 1) / nodes * gradient_bytes * _BITS_A_BYTE / seconds / _GIGABIT
