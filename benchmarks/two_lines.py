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
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging
from rich.console import Console

import zoo
from benchmarks import other_processes, paired_timing, recording, training_steps
from benchmarks.paired_timing import CLOCKS
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

GOAL = 1.05
POLICIES = ("float32", "mixed_bfloat16")
THIS, OTHER = "this", "other"
SIDES = {THIS: sys.executable, OTHER: None}  # by --other_python

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
    batches = training_steps.random_batches(model.input_shape[1:], batch_size)
    other_processes.serve(training_steps.stepper(model, batches))


def summarise(policy, made_with, pairs):
    """Dict, a line of the CSV file.

    Args:
        policy: str.
        made_with: {key of `SIDES`: dict of `provenance.describe`}.
        pairs: what `paired_timing.measure` returns.
    """
    line = {"policy": policy}
    for side in SIDES:
        line[side] = made_with[side]["tensorflow"]
    for clock in CLOCKS:
        for side in SIDES:
            line[f"{side}_{clock}"], _ = paired_timing.medians(pairs, side, clock)
        line[f"{clock}_ratio"] = paired_timing.medians(pairs, THIS, clock)[1]
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
        alone = f"--alone={json.dumps([policy, network, FLAGS.batch_size])}"
        made_with, steps = {}, {}
        with contextlib.ExitStack() as stack:
            for side, python in SIDES.items():
                command = [python or FLAGS.other_python, __file__, alone]
                (made_with[side],), steps[side] = stack.enter_context(
                    other_processes.waiting([command])
                )
            pairs = paired_timing.measure(
                steps,
                OTHER,
                policy,
                rounds,
                FLAGS.warm_up,
                timed=lambda step: step(),
            )
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
    recording.keep(path, [{**line, **settings} for line in lines], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
