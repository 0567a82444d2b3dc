"""What the benchmark makes of the times it measures; no times are asserted here."""

import time
from types import SimpleNamespace

import pytest

from benchmarks import training_step as benchmark


class Fake:
    """A subject whose steps take a known time on the clock."""

    parameters = 10

    def __init__(self, name, flops, seconds, world):
        self.name, self.flops, self._seconds, self._world = name, flops, seconds, world
        self.model = SimpleNamespace(width_multiplier=0.5)

    def training(self):
        self._world.order.append(self.name)
        # What else the machine does slows all steps of a round alike.
        rounds = (len(self._world.order) - 1) // 3
        self._world.now += self._seconds * (1 + rounds % 2)

    inference = training


@pytest.fixture
def measured(monkeypatch):
    world = SimpleNamespace(now=0.0, order=[])
    clocks = {"seconds": lambda: world.now, "cpu_seconds": time.process_time}
    monkeypatch.setattr(benchmark, "CLOCKS", clocks)
    compared = {
        name: Fake(name, flops, seconds, world)
        for name, flops, seconds in [
            ("single", 100, 1.0),
            ("two heads, a", 96, 1.0),
            ("two heads, b", 100, 1.2),
        ]
    }
    times = {
        kind: benchmark.measure(compared, kind, rounds=6, warm_up=3)
        for kind in benchmark.KINDS
    }
    return world, compared, times


def test_rounds_are_interleaved_and_change_their_order(measured):
    order = measured[0].order
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(len(set(one)) == 3 for one in rounds)
    assert len(set(rounds)) == 3  # each is the first one in its turn


def test_warm_up_is_not_counted(measured):
    times = measured[2]["training"]["single"]["seconds"]
    assert len(times) == 6


def test_ratios_are_taken_within_a_round(measured):
    _, compared, times = measured
    lines = {line["network"]: line for line in benchmark.summarise(compared, times)}
    a, b = lines["two heads, a"], lines["two heads, b"]
    assert a["training_seconds_ratio"] == pytest.approx(1.0)
    assert b["training_seconds_ratio"] == pytest.approx(1.2)
    assert b["inference_seconds_ratio"] == pytest.approx(1.2)
    assert a["training_seconds_ratio_per_flop_ratio"] == pytest.approx(1 / 0.96)
    assert b["training_seconds"] == pytest.approx(1.8)  # median of 1.2 and 2.4


def test_the_goal_is_judged_per_fork(measured):
    _, compared, times = measured
    a, b = benchmark.verdicts(benchmark.summarise(compared, times))
    assert a.startswith("two heads, a") and a.endswith("goal 1.05: met")
    assert b.startswith("two heads, b") and b.endswith("goal 1.05: missed")
