"""The plain Python rival, and what the benchmark says; no times are asserted here."""

import csv

import numpy as np
import pytest

from benchmarks import metrics as benchmark
from benchmarks import recording
from tests import numpy_metrics


def test_the_heap_follows_the_definition():
    heap = benchmark.Heap(top_k=4)
    made = list(benchmark.batches(50, classes=12, batch_size=16))
    for batch in made:
        heap.update(*batch)
    labels, scores = (np.concatenate(parts) for parts in zip(*made, strict=True))
    assert labels.shape == scores.shape == (50, 12)
    expected = numpy_metrics.global_average_precision(labels, scores, 4)
    assert heap.result() == pytest.approx(expected, rel=1e-6)


def test_a_small_run(tmp_path):
    line = benchmark.measure(examples=70, classes=30, batch_size=8)
    assert 0 < line["gap"] < 1
    assert line["speedup"] == line["heap_seconds"] / line["metric_seconds"]
    recording.write(tmp_path / "new" / "metrics.csv", [line])
    with open(tmp_path / "new" / "metrics.csv", encoding="utf-8") as file:
        (read,) = csv.DictReader(file)
    assert set(read) == set(line)
    assert len(list(benchmark.sentences(line))) == 3


@pytest.mark.parametrize("speedup, verdict", [(20.0, "met"), (19.9, "missed")])
def test_the_goal_is_judged(speedup, verdict):
    line = benchmark.measure(examples=8, classes=5, batch_size=8)
    first = next(benchmark.sentences({**line, "speedup": speedup}))
    assert first.endswith(f"goal 20: {verdict}")
