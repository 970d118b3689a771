from __future__ import annotations

import pytest

from tasks.training.ring import Link, bus_gb_per_s, ring_all_reduce_s, ring_efficiency

RESNET50_BYTES = 94_000_000


def test_one_node_has_nothing_to_average() -> None:
    assert ring_all_reduce_s(1, RESNET50_BYTES, Link(1, 1)) == 0
    assert ring_efficiency(0.5, 1, RESNET50_BYTES, Link(1, 1)) == 1


def test_two_nodes_send_the_gradients_once_and_many_nearly_twice() -> None:
    link = Link(gb_per_s=8, latency_s=0)  # 10^9 bytes a second
    assert ring_all_reduce_s(2, 10**9, link) == pytest.approx(1)
    assert ring_all_reduce_s(64, 10**9, link) == pytest.approx(2 * 63 / 64)


def test_each_of_the_messages_waits_for_the_one_before() -> None:
    assert ring_all_reduce_s(64, 0, Link(gb_per_s=100, latency_s=1e-3)) == pytest.approx(0.126)


def test_the_efficiency_is_the_steps_share_of_the_time() -> None:
    assert ring_efficiency(1.0, 2, 10**9, Link(gb_per_s=8, latency_s=0)) == pytest.approx(0.5)
    slow, fast = (ring_efficiency(1.0, 64, RESNET50_BYTES, Link(rate, 50e-6)) for rate in (1, 100))
    assert slow < 0.5 < 0.97 < fast


def test_the_bandwidth_of_a_measured_average_gives_its_seconds_again() -> None:
    rate = bus_gb_per_s(4, RESNET50_BYTES, 0.3)
    assert ring_all_reduce_s(4, RESNET50_BYTES, Link(rate, 0)) == pytest.approx(0.3)
