"""What the benchmark makes of the times it measures; no times are asserted here."""

import sys

import pytest

from benchmarks import two_lines as benchmark
from tests.benchmarks import small_runs

MADE_WITH = {"this": {"tensorflow": "2.21.0"}, "other": {"tensorflow": "2.15.1"}}


def line(ratio):
    slow = (1.0, 4.0, 9.0)  # both steps of a round alike
    pairs = [(2.0 * ratio * factor, 2.0 * factor) for factor in slow]
    by_clock = dict.fromkeys(benchmark.CLOCKS, pairs)
    return benchmark.summarise("float32", MADE_WITH, {"this": by_clock})


def test_ratios_are_within_a_round():
    found = line(1.5)
    assert found["seconds_ratio"] == pytest.approx(1.5)
    assert (found["this"], found["other"]) == ("2.21.0", "2.15.1")
    assert found["other_cpu_seconds"] == pytest.approx(8.0)
    assert found["this_seconds"] == pytest.approx(12.0)


@pytest.mark.parametrize(
    "ratio, end", [(1.04, "met"), (1.06, "missed"), (0.96, "met"), (0.94, "missed")]
)
def test_the_goal_is_judged_both_ways(ratio, end):
    assert benchmark.verdict(line(ratio)).endswith(f"goal within 5%: {end}")


@pytest.mark.line("2.15")
def test_a_small_run_writes_its_table(tmp_path):
    _, rows = small_runs.run(
        "two_lines", tmp_path, f"--other_python={sys.executable}", "--batch_size=2"
    )
    assert [row["policy"] for row in rows] == list(benchmark.POLICIES)
    assert all(float(row["this_seconds"]) > 0 for row in rows)
