r"""Global average precision of 100,000 videos x 3862 classes, against a Python heap.

    python benchmarks/metrics.py                     # about four minutes on 2 cores
    python benchmarks/metrics.py --examples=10000    # a quick look

Both see the same scores and labels, in turn, batch by batch, and end with the same
number, which is checked:

* metric: `eh.metrics.GlobalAveragePrecision`, `update_state` in a `tf.function` per
  batch and one `result`;
* heap: the definition in plain Python, `heapq` for the best 20 of each video and for
  the ranking of all of them, its entries taken off one by one.

Goal: the metric takes at most a twentieth of the heap's time.

Also shows what Keras' step would pay, which updates and asks in one graph: seconds per
batch of that beside an update alone and beside sorting in every step (the latter for
some of the batches, the last ones, where it is dearest), and the bytes of the state.

Scores are made batch by batch: 100,000 x 3862 of them would be 1.5 GB.

Writes benchmarks/results/metrics_<TensorFlow line>.csv.
"""

import heapq
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags
from rich.console import Console
from rich.progress import track

import ensemble_heads as eh
from benchmarks import recording
from ensemble_heads import provenance

GOAL = 20.0
TOP_K = 20
SORTED_STEPS = 5

FLAGS = flags.FLAGS


class Heap:
    """GAP by its definition in plain Python."""

    def __init__(self, top_k):
        self.top_k, self.positives, self.pool = top_k, 0.0, []

    def update(self, labels, scores):
        """Takes one batch of NumPy arrays `[batch, classes]`."""
        for row_labels, row in zip(labels.tolist(), scores.tolist(), strict=True):
            for place in heapq.nlargest(self.top_k, range(len(row)), row.__getitem__):
                heapq.heappush(self.pool, (-row[place], row_labels[place]))
            self.positives += sum(row_labels)

    def result(self):
        """The value; empties the heap."""
        total, hits, rank = 0.0, 0.0, 0
        while self.pool:
            _, hit = heapq.heappop(self.pool)
            rank += 1
            if hit:
                hits += 1.0
                total += hits / rank
        return total / self.positives


class Metric:
    """The metric of the library with what Keras builds around it."""

    def __init__(self, **options):
        self.metric = eh.metrics.GlobalAveragePrecision(TOP_K, **options)
        self.update = tf.function(self._update, reduce_retracing=True)
        self.step = tf.function(self._step, reduce_retracing=True)

    def result(self):
        return float(self.metric.result())

    def _update(self, labels, scores):
        self.metric.update_state(labels, scores)

    def _step(self, labels, scores):
        self.metric.update_state(labels, scores)
        return self.metric.result()


def batches(examples, classes, batch_size):
    """Float32 (labels, scores) `[batch, classes]`, about three labels per video.

    Scores are in (0, 1), higher where a label is, and no two of a batch are equal but
    by chance.
    """
    for start in range(0, examples, batch_size):
        random = np.random.default_rng(start)
        size = min(batch_size, examples - start)
        scores = random.random((size, classes), dtype=np.float32) ** 4
        labels = np.zeros((size, classes), np.float32)
        places = random.integers(0, classes, (size, 3))
        np.put_along_axis(labels, places, 1.0, axis=1)
        scores += labels * random.random((size, 1), dtype=np.float32)
        yield labels, scores / 2


def measure(examples, classes, batch_size):
    """Seconds of everything: dict for a line of the CSV file, and checks the values."""
    heap, metric, running = Heap(TOP_K), Metric(), Metric()
    sorting = Metric(refresh=0)
    _warm_up((metric, running, sorting), next(batches(examples, classes, batch_size)))
    seconds = dict.fromkeys(("heap", "metric", "step"), 0.0)
    sorted_steps, count = 0.0, -(-examples // batch_size)
    made = batches(examples, classes, batch_size)
    for number, batch in enumerate(track(made, "batches", count, transient=True)):
        tensors = tuple(map(tf.constant, batch))
        seconds["heap"] += _timed(heap.update, *batch)
        seconds["metric"] += _timed(metric.update, *tensors)
        seconds["step"] += _timed(running.step, *tensors)
        if count - number > SORTED_STEPS:
            sorting.update(*tensors)
        else:
            sorted_steps += _timed(sorting.step, *tensors)
    updates = seconds["metric"] / count
    values, results = [], {}
    for name, subject in (("heap", heap), ("metric", metric)):
        results[name] = _timed(lambda s=subject: values.append(s.result()))
        seconds[name] += results[name]
    values += [running.result(), sorting.result()]
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    return {
        "gap": values[1],
        "heap_seconds": seconds["heap"],
        "metric_seconds": seconds["metric"],
        "speedup": seconds["heap"] / seconds["metric"],
        "heap_result_seconds": results["heap"],
        "metric_result_seconds": results["metric"],
        "update_seconds_per_batch": updates,
        "keras_step_seconds_per_batch": seconds["step"] / count,
        "sorting_step_seconds_per_batch": sorted_steps / min(count, SORTED_STEPS),
        "state_bytes": metric.metric.state_bytes,
        "state_bytes_of_1112356": 1_112_356 * (5 * TOP_K + 4),
        # Of the whole process: the heap's 2 million tuples, TensorFlow, all states.
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _warm_up(metrics, batch):
    for one in metrics:
        one.update(*map(tf.constant, batch))
        one.step(*map(tf.constant, batch))
        one.result()
        one.metric.reset_state()


def _timed(function, *arguments):
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def sentences(line):
    """What the line says, a sentence each."""
    verdict = "met" if line["speedup"] >= GOAL else "missed"
    yield (
        f"GAP {line['gap']:.6f}: heap {line['heap_seconds']:.2f} s, metric "
        f"{line['metric_seconds']:.2f} s (of it {line['metric_result_seconds']:.2f} s "
        f"the result), {line['speedup']:.1f} times as fast, goal {GOAL:g}: {verdict}"
    )
    yield (
        f"per batch: update {line['update_seconds_per_batch'] * 1000:.1f} ms, with "
        f"the running value {line['keras_step_seconds_per_batch'] * 1000:.1f} ms, "
        "with a sort in the last steps "
        f"{line['sorting_step_seconds_per_batch'] * 1000:.1f} ms"
    )
    yield (
        f"state {line['state_bytes'] / 1e6:.1f} MB; of 1,112,356 videos, as "
        f"`max_examples`, {line['state_bytes_of_1112356'] / 1e6:.1f} MB; peak of the "
        f"process {line['peak_bytes'] / 1e9:.2f} GB"
    )


def define_flags():
    flags.DEFINE_integer("examples", 100_000, "Videos.", lower_bound=1)
    flags.DEFINE_integer("classes", 3862, "Classes.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 1000, "Videos per batch.", lower_bound=1)
    recording.define_output("metrics")


def main(_):
    console = Console(highlight=False)
    settings = {
        "examples": FLAGS.examples,
        "classes": FLAGS.classes,
        "batch_size": FLAGS.batch_size,
        "load_before": recording.busy_before(),
    }
    made_with = provenance.describe()  # before the tree gets a result
    line = measure(FLAGS.examples, FLAGS.classes, FLAGS.batch_size)
    console.print(
        f"{FLAGS.examples} x {FLAGS.classes}, TensorFlow {made_with['tensorflow']}, "
        f"{made_with['machine']}"
    )
    for sentence in sentences(line):
        console.print(sentence, soft_wrap=True)
    path = recording.path_of("metrics", FLAGS.output)
    recording.keep(path, [{**line, **settings, **made_with}], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
