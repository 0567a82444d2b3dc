"""Times input pipelines side by side: batches taken in the middle of training."""

import statistics
import time

import tensorflow as tf
from rich.progress import track

from benchmarks import recording
from benchmarks.paired_timing import CLOCKS


def measure(made, rounds, warm_up, batches):
    """Takes batches from every pipeline, in turn.

    Args:
        made: {name: function that makes an endless dataset}.
        rounds: int, how often.
        warm_up: int, batches of a round before those that count.
        batches: int, those that count.

    Returns:
        {name: {one of `CLOCKS`: list of seconds, one per round}}.
    """
    datasets = {name: make() for name, make in made.items()}
    times = {name: {clock: [] for clock in CLOCKS} for name in made}
    for _ in track(range(rounds), "input", transient=True):
        for name, dataset in datasets.items():
            iterator = iter(dataset)
            _take(iterator, tf.constant(warm_up))
            begin = {clock: read() for clock, read in CLOCKS.items()}
            _take(iterator, tf.constant(batches))
            for clock, read in CLOCKS.items():
                times[name][clock].append(read() - begin[clock])
            del iterator  # and with it the threads that read ahead
    return times


def summarise(times, reference, examples, what):
    """List of dict, a line of the CSV file per pipeline.

    Args:
        times: what `measure` returns.
        reference: {name: name of the pipeline that it is compared with}, or the name
            of one that all are compared with.
        examples: int, in a round.
        what: str, what they are called, such as "videos".
    """
    lines = []
    for name, of_clocks in times.items():
        line = {"pipeline": name}
        other = reference if isinstance(reference, str) else reference[name]
        for clock, taken in of_clocks.items():
            median = statistics.median(taken)
            line[f"{clock}_per_1000"] = 1000 * median / examples
            ratios = [a / b for a, b in zip(times[other][clock], taken)]
            line[f"{clock}_ratio"] = statistics.median(ratios)
        seconds = statistics.median(of_clocks["seconds"])
        line[f"{what}_per_second"] = examples / seconds
        lines.append(line)
    return lines


@tf.function
def _take(iterator, count):
    # In the graph: Python takes no part, as in a training step's function.
    for _ in tf.range(count):
        iterator.get_next()


def seconds_per_step(model, batch, steps):
    """Seconds of a training step of a compiled model on one batch, which is there."""
    repeated = tf.data.Dataset.from_tensors(batch).repeat()
    model.fit(repeated, steps_per_epoch=2, verbose=0)
    taken = []
    for _ in range(steps):
        begin = time.perf_counter()
        model.train_on_batch(*batch)
        taken.append(time.perf_counter() - begin)
    # The first call of `train_on_batch` may trace.
    return statistics.median(taken[1:] or taken)


def render(lines, title, what):
    """`rich.table.Table` of the lines of `summarise`."""
    names = (f"{what}/s", "x reference", "CPU s/1000", "x reference (CPU)")
    table = recording.table(title, ("pipeline", *names))
    for line in lines:
        table.add_row(
            line["pipeline"],
            f"{line[f'{what}_per_second']:.0f}",
            f"{line['seconds_ratio']:.2f}",
            f"{line['cpu_seconds_per_1000']:.3f}",
            f"{line['cpu_seconds_ratio']:.2f}",
        )
    return table
