"""What the benchmark makes of the times it measures; no times are asserted here."""

import pytest

from benchmarks import paired_timing
from benchmarks import stacked_heads as benchmark
from tests.benchmarks import small_runs


def subject(name, seconds, world, part="many", against="one network"):
    def step():
        world["order"].append(name)
        world["now"] += seconds

    return benchmark.Subject(part, name, "graph", against, "", step)


@pytest.fixture
def lines(monkeypatch):
    world = {"now": 0.0, "order": []}
    monkeypatch.setattr(
        paired_timing, "CLOCKS", dict.fromkeys(benchmark.CLOCKS, lambda: world["now"])
    )
    found = []
    for part, base, others in (
        ("many", "one network", {"stacked, modular": 1.25, "stacked, ensembling": 1.4}),
        ("few", "separate", {"stacked": 3.0, "auto": 1.0}),
    ):
        subjects = [subject(base, 1.0, world, part, base)]
        subjects += [subject(n, s, world, part, base) for n, s in others.items()]
        pairs = benchmark.measure(subjects, rounds=4, warm_up=1)
        assert all(len(each) == 4 for p in pairs.values() for each in p.values())
        found += benchmark.summarise(subjects, pairs)
    order = world["order"]
    assert all(
        len({"one network", "separate"} & set(order[i : i + 2])) == 1
        for i in range(0, len(order), 2)
    )
    return found


def test_ratios_are_to_what_stands_beside(lines):
    ratios = {line["name"]: line["seconds_ratio"] for line in lines}
    assert ratios == pytest.approx(
        {
            "one network": 1.0,
            "stacked, modular": 1.25,
            "stacked, ensembling": 1.4,
            "separate": 1.0,
            "stacked": 3.0,
            "auto": 1.0,
        }
    )


def test_goals_are_judged(lines):
    said = list(benchmark.verdicts(lines))
    assert [one.rpartition(" ")[2] for one in said] == ["met", "missed", "met"]


@pytest.mark.line("2.15")
def test_a_small_run(tmp_path):
    printed, rows = small_runs.run("stacked_heads", tmp_path, "--runs=graph")
    assert "auto, graph" in printed
    assert [row["part"] for row in rows] == ["many"] * 3 + ["few"] * 3
    ways = [row["execution"] for row in rows]
    assert ways[:5] == ["", "stacked", "stacked", "separate", "stacked"]
    assert ways[5] in ("separate", "stacked")
    assert all(float(row["seconds"]) > 0 for row in rows)
