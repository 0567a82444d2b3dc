"""What the benchmark makes of what it measures; no times are asserted here."""

import pytest

from benchmarks import acceleration as benchmark
from tests.benchmarks import small_runs


def measured(memory, seconds, slow):
    return {
        "peak_mb": 500.0 + memory,
        "step_mb": memory,
        "seconds": seconds * slow,
        "cpu_seconds": 2 * seconds * slow,
        "loss": 1.0,
    }


def test_ratios_are_within_a_round():
    found = {
        benchmark.NONE: [measured(100, 1.0, slow) for slow in (1, 5, 2)],
        "recomputation": [measured(40, 1.3, slow) for slow in (1, 5, 2)],
    }
    none, again = benchmark.summarise(found)
    assert none["seconds_ratio"] == none["step_mb_ratio"] == 1.0
    assert again["seconds_ratio"] == pytest.approx(1.3)
    assert again["cpu_seconds"] == pytest.approx(5.2)
    assert again["step_mb_ratio"] == pytest.approx(0.4)
    assert again["recompute"] is True and again["batches"] == 1


@pytest.mark.line("2.21")
def test_a_small_run_writes_its_table(tmp_path):
    _, (none, again) = small_runs.run(
        "acceleration", tmp_path, "--options=recomputation"
    )
    assert (none["option"], again["option"]) == ("none", "recomputation")
    assert float(none["loss"]) == pytest.approx(float(again["loss"]), rel=1e-4)
    assert float(again["peak_mb"]) > float(again["step_mb"]) > 0
