"""What the benchmark makes of the times it measures; no times are asserted here."""

import time
from types import SimpleNamespace

import pytest

from benchmarks import paired_timing
from benchmarks import training_step as benchmark


class Fake:
    """A subject whose steps take a known time on the clock."""

    parameters = 10

    def __init__(self, name, flops, seconds, world):
        self.name, self.flops, self._seconds, self._world = name, flops, seconds, world
        self.model = SimpleNamespace(width_multiplier=0.5)

    def training(self):
        self._world.order.append(self.name)
        # What else the machine does slows both steps of a pair alike.
        pair = (len(self._world.order) - 1) // 2
        self._world.now += self._seconds * (1 + pair % 3)

    inference = training


@pytest.fixture
def measured(monkeypatch):
    world = SimpleNamespace(now=0.0, order=[])
    clocks = {"seconds": lambda: world.now, "cpu_seconds": time.process_time}
    monkeypatch.setattr(paired_timing, "CLOCKS", clocks)
    compared = {
        name: Fake(name, flops, seconds, world)
        for name, flops, seconds in [
            ("single", 100, 1.0),
            ("two heads, a", 96, 1.0),
            ("two heads, b", 100, 1.2),
        ]
    }
    pairs = {
        kind: benchmark.measure(compared, kind, rounds=6, warm_up=3)
        for kind in benchmark.KINDS
    }
    return world, compared, pairs


def test_each_step_has_one_of_the_single_network_beside_it(measured):
    order = measured[0].order
    pairs = [tuple(order[i : i + 2]) for i in range(0, len(order), 2)]
    for name in ("two heads, a", "two heads, b"):
        # Nine rounds of training and nine of inference, first in about every other.
        assert pairs.count((name, "single")) + pairs.count(("single", name)) == 18
        assert 8 <= pairs.count((name, "single")) <= 10


def test_warm_up_is_not_counted(measured):
    assert len(measured[2]["training"]["two heads, a"]["seconds"]) == 6


def test_ratios_are_taken_within_a_pair(measured):
    _, compared, pairs = measured
    lines = {line["network"]: line for line in benchmark.summarise(compared, pairs)}
    a, b = lines["two heads, a"], lines["two heads, b"]
    assert a["training_seconds_ratio"] == pytest.approx(1.0)
    assert b["training_seconds_ratio"] == pytest.approx(1.2)
    assert b["inference_seconds_ratio"] == pytest.approx(1.2)
    assert a["training_seconds_ratio_per_flop_ratio"] == pytest.approx(1 / 0.96)
    assert lines["single"]["training_seconds_ratio"] == 1.0
    assert lines["single"]["training_seconds"] == pytest.approx(2.0)  # 1, 2 or 3


def test_the_goal_is_judged_per_fork(measured):
    _, compared, pairs = measured
    a, b = benchmark.verdicts(benchmark.summarise(compared, pairs))
    assert a.startswith("two heads, a") and a.endswith("goal 1.05: met")
    assert b.startswith("two heads, b") and b.endswith("goal 1.05: missed")
