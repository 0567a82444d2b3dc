"""What the benchmark makes of the times it measures; no times are asserted here."""

import pytest

from benchmarks import paired_timing
from benchmarks import strategies as benchmark
from tests.benchmarks import small_runs


def test_times_that_other_processes_tell_are_taken_as_they_are():
    told = {benchmark.ONE: 2.0, benchmark.DEVICES: 3.0, benchmark.WORKERS: 5.0}
    order = []

    def step(kind):
        order.append(kind)
        return dict.fromkeys(benchmark.CLOCKS, told[kind])

    steps = {kind: lambda kind=kind: step(kind) for kind in told}
    pairs = paired_timing.measure(
        steps, benchmark.ONE, "", rounds=2, warm_up=0, timed=lambda step: step()
    )
    one, devices, workers = benchmark.summarise(pairs, gradient_bytes=40)
    assert (one["seconds"], one["seconds_ratio"]) == (2.0, 1.0)
    assert (devices["seconds"], devices["seconds_ratio"]) == (3.0, 1.5)
    assert (workers["cpu_seconds"], workers["cpu_seconds_ratio"]) == (5.0, 2.5)
    assert {line["gradient_bytes"] for line in (one, devices, workers)} == {40}
    assert order[:2] == [benchmark.ONE, benchmark.DEVICES]
    assert order[4:6] == [benchmark.DEVICES, benchmark.ONE]  # the order turns


@pytest.mark.line("2.15")
def test_a_small_run_writes_its_table(tmp_path):
    _, rows = small_runs.run("strategies", tmp_path, "--batch_size=4")
    assert [row["kind"] for row in rows] == list(benchmark.STRATEGIES)
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert int(rows[0]["gradient_bytes"]) > 4000
