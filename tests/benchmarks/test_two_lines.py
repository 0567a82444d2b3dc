"""What the benchmark makes of the times it measures; no times are asserted here."""

import csv

import pytest

from benchmarks import two_lines as benchmark

MADE_WITH = ({"tensorflow": "2.21.0"}, {"tensorflow": "2.15.1"})


def line(ratio):
    order, slow = [], iter([1, 1, 1, 1, 4, 4, 9, 9])  # both steps of a round alike

    def step(name, seconds):
        order.append(name)
        return dict.fromkeys(benchmark.CLOCKS, seconds * next(slow))

    steps = lambda: step("this", 2.0 * ratio), lambda: step("other", 2.0)
    pairs = benchmark.measure(steps, rounds=3, warm_up=1)
    rounds = [tuple(order[i : i + 2]) for i in range(0, 8, 2)]
    assert set(rounds) == {("this", "other"), ("other", "this")}
    return benchmark.summarise("float32", MADE_WITH, pairs)


def test_ratios_are_within_a_round_whose_order_turns():
    found = line(1.5)
    assert found["seconds_ratio"] == pytest.approx(1.5)
    assert (found["this"], found["other"]) == ("2.21.0", "2.15.1")
    assert found["other_cpu_seconds"] == pytest.approx(8.0)


@pytest.mark.parametrize(
    "ratio, end", [(1.04, "met"), (1.06, "missed"), (0.96, "met"), (0.94, "missed")]
)
def test_the_goal_is_judged_both_ways(ratio, end):
    assert benchmark.verdict(line(ratio)).endswith(f"goal within 5%: {end}")


@pytest.mark.line("2.15")
def test_a_small_run_writes_its_table(run_python, tmp_path):
    path = tmp_path / "two_lines.csv"
    source = """
        import sys
        from absl import app
        from benchmarks import two_lines
        two_lines.define_flags()
        app.run(two_lines.main, ["x", "--smoke", f"--other_python={sys.executable}",
                                 "--batch_size=2", f"--output={sys.argv[1]}"])
    """
    run_python(source, path)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["policy"] for row in rows] == list(benchmark.POLICIES)
    assert all(float(row["this_seconds"]) > 0 for row in rows)
