r"""Seconds per training step of ResNet-50 on both TensorFlow lines, side by side.

    python3.12 benchmarks/two_lines.py --other_python=…/python3.11   # about ten minutes

At 224 x 224 and batch 8, in float32 and under mixed_bfloat16: a process of either
interpreter holds the network and waits; in each round one takes a step and then the
other, first or second in turn, so that whatever else the machine does meets both alike.
The median over the rounds of the ratios is reported, on the clock and of CPU time.

Goal: the two lines are within 5 % of each other.

Writes two_lines.csv into benchmarks/results.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from rich.console import Console
from rich.progress import track

import zoo
from benchmarks import recording
from benchmarks.paired_timing import CLOCKS
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

GOAL = 1.05
POLICIES = ("float32", "mixed_bfloat16")

FLAGS = flags.FLAGS


def serve(policy, network, batch_size):
    """Takes a training step for each line on stdin, and prints what it took."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(policy)
    name, changes = network
    model = zoo.build(name, **changes)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        "sparse_categorical_crossentropy",
        jit_compile=False,
    )
    random = np.random.default_rng(0)
    images = random.normal(size=(batch_size, *model.input_shape[1:]))
    labels = tf.constant(random.integers(0, 10, batch_size))
    batch = tf.constant(images, tf.float32), labels
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    # Makes the train function, and traces it.
    model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    iterator = iter(batches)
    print(json.dumps(provenance.describe()), flush=True)
    for _ in sys.stdin:
        begin = {clock: read() for clock, read in CLOCKS.items()}
        logs = model.train_function(iterator)
        tf.nest.map_structure(float, logs)
        took = {clock: read() - begin[clock] for clock, read in CLOCKS.items()}
        print(json.dumps(took), flush=True)


@contextlib.contextmanager
def waiting(python, *arguments):
    """(what it was made with, function that takes a step) of a process of its own."""
    command = [python, __file__, f"--alone={json.dumps(arguments)}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:

        def answer():
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{python} ended: exit code {process.wait()}")
            return json.loads(line)

        def step():
            process.stdin.write("\n")
            process.stdin.flush()
            return answer()

        try:
            yield answer(), step
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def measure(steps, rounds, warm_up):
    """{one of `CLOCKS`: list of pairs of seconds, in the order of `steps`}.

    Args:
        steps: two functions that return {one of `CLOCKS`: seconds}.
        rounds, warm_up: int, rounds that count and rounds before them.
    """
    pairs = {clock: [] for clock in CLOCKS}
    for number in track(range(-warm_up, rounds), "rounds", transient=True):
        took = [None, None]
        for index in (0, 1) if number % 2 else (1, 0):
            took[index] = steps[index]()
        for clock in CLOCKS if number >= 0 else ():
            pairs[clock].append((took[0][clock], took[1][clock]))
    return pairs


def summarise(policy, made_with, pairs):
    """Dict, a line of the CSV file.

    Args:
        policy: str.
        made_with: two dicts of `provenance.describe`.
        pairs: what `measure` returns.
    """
    line = {"policy": policy}
    for side, made in zip(("this", "other"), made_with):
        line[side] = made["tensorflow"]
    for clock, taken in pairs.items():
        for index, side in enumerate(("this", "other")):
            line[f"{side}_{clock}"] = statistics.median(pair[index] for pair in taken)
        line[f"{clock}_ratio"] = statistics.median(a / b for a, b in taken)
    return line


def verdict(line):
    """A sentence: whether the goal is met."""
    reached = line["seconds_ratio"]
    met = 1 / GOAL <= reached <= GOAL
    return (
        f"{line['policy']}: {line['this']} takes {reached:.3f} x {line['other']} "
        f"(CPU {line['cpu_seconds_ratio']:.3f}), goal within {GOAL - 1:.0%}: "
        f"{'met' if met else 'missed'}"
    )


def define_flags():
    flags.DEFINE_string("other_python", None, "Interpreter of the other line.")
    flags.DEFINE_string("model", "resnet50", "The network, by its zoo name.")
    flags.DEFINE_integer("batch_size", 8, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("rounds", 30, "Rounds that count.", lower_bound=1)
    flags.DEFINE_integer("warm_up", 2, "Rounds before those.", lower_bound=0)
    flags.DEFINE_bool("smoke", False, "A tiny network and few rounds.")
    flags.DEFINE_string("alone", None, "Used by the processes that this one starts.")
    flags.DEFINE_string(
        "output",
        None,
        "CSV file to write. Default: two_lines.csv beside the others",
    )


def main(_):
    logging.set_verbosity(logging.ERROR)
    if FLAGS.alone:
        serve(*json.loads(FLAGS.alone))
        return
    if not FLAGS.other_python:
        raise app.UsageError("--other_python must name the other line's interpreter.")
    network, rounds = (FLAGS.model, {}), FLAGS.rounds
    if FLAGS.smoke:
        network, rounds = ("cifar_resnet20", {"blocks": (1, 1, 1)}), 2
    console = Console(highlight=False)
    load, lines = recording.busy_before(), []
    for policy in POLICIES:
        arguments = policy, network, FLAGS.batch_size
        with contextlib.ExitStack() as stack:
            made_with, steps = zip(
                *(
                    stack.enter_context(waiting(python, *arguments))
                    for python in (sys.executable, FLAGS.other_python)
                )
            )
            pairs = measure(steps, rounds, FLAGS.warm_up)
        lines.append(summarise(policy, made_with, pairs))
        console.print(verdict(lines[-1]), soft_wrap=True)
    path = Path(
        FLAGS.output or Path(__file__).resolve().parent / "results" / "two_lines.csv"
    )
    settings = {
        "model": network[0],
        "batch_size": FLAGS.batch_size,
        "rounds": rounds,
        "load_before": load,
        "commit": provenance.describe()["commit"],
        "machine": provenance.describe()["machine"],
    }
    recording.write(path, [{**line, **settings} for line in lines])
    console.print(f"Written to {path}", soft_wrap=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
