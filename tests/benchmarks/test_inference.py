"""What the benchmark makes of the times it measures; no times are asserted here."""

import numpy as np
import pytest

from benchmarks import inference as benchmark
from tests.benchmarks import small_runs


def lines(milliseconds, batch=1):
    unfolded = 0.1
    made = dict.fromkeys([benchmark.UNFOLDED, *milliseconds], len)
    pairs = {
        way: {
            clock: [(took / 1e3 * slow, unfolded * slow) for slow in (1, 2, 3)]
            for clock in benchmark.CLOCKS
        }
        for way, took in milliseconds.items()
    }
    first = dict.fromkeys(made, (1.0, 0.0))
    made[benchmark.LITERT] = None
    return benchmark.summarise("resnet50", batch, made, first, pairs)


def test_speed_is_that_of_what_stands_beside():
    found = {line["way"]: line for line in lines({"folded": 80, "predict": 200}, 4)}
    assert found["folded"]["seconds_speedup"] == pytest.approx(1.25)
    assert found["predict"]["cpu_seconds_speedup"] == pytest.approx(0.5)
    assert found["folded"]["images_per_second"] == pytest.approx(4 / 0.16)
    assert found[benchmark.UNFOLDED]["seconds_speedup"] == 1.0


def test_what_is_missing_has_a_line_that_says_so():
    missing = lines({"folded": 80})[-1]
    assert missing["way"] == benchmark.LITERT and "needs" in missing["note"]
    assert missing["seconds"] == ""
    benchmark.render(lines({"folded": 80}), "with a gap")


@pytest.mark.parametrize("took, end", [(70, "goal 1.4: met"), (75, ": missed")])
def test_the_goal_is_judged_at_batch_1(took, end):
    (said,) = benchmark.verdicts(lines({benchmark.FROZEN: took, "folded": 1}))
    assert said.endswith(end)
    assert not list(benchmark.verdicts(lines({benchmark.FROZEN: took}, batch=32)))


def test_ways_that_differ_from_the_model_are_refused():
    made = {"right": lambda x: x, "wrong": lambda x: x + 0.01}
    with pytest.raises(RuntimeError, match="wrong is 0.01"):
        benchmark.first_calls(made, np.zeros(3), np.zeros(3))


@pytest.mark.line("2.21")
def test_a_small_run_writes_its_table(tmp_path):
    printed, rows = small_runs.run("inference", tmp_path)
    assert "batch 1, folded and frozen" in printed
    ways = [*benchmark.EXPORTS, "predict", benchmark.LITERT]
    assert [row["way"] for row in rows] == 2 * ways
    assert all(float(row["seconds"] or 1) > 0 for row in rows)
