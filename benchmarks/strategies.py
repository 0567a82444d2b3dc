r"""Seconds per training step under TensorFlow's strategies, at one global batch.

    python benchmarks/strategies.py            # about five minutes on 2 cores
    python benchmarks/strategies.py --smoke    # tiny, only to see that it runs

CIFAR ResNet-20 made into two heads, trained by

* one device: no strategy;
* two devices: `eh.strategy("mirrored")` on two logical CPU devices of one process;
* two workers: `eh.strategy("multi_worker")`, two processes on this host.

All of them have the same cores, so that nothing can become faster here: what a step
takes longer is what sharing it costs. Two workers send a sum of gradients over
loopback in each step, as many bytes as there are weights (`gradient_bytes`), each way.

A process or two of each kind wait; a round takes a step of each kind with a step on
one device right beside it, first or second in turn, so that whatever else the machine
does meets both alike. Medians over the rounds of the ratios within pairs: on the clock
of the slowest process, of CPU time the sum over the processes.

Writes benchmarks/results/strategies_<TensorFlow line>.csv.
"""

import contextlib
import json
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from rich.console import Console

import ensemble_heads as eh
from benchmarks import other_processes, paired_timing, recording, training_steps
from benchmarks.paired_timing import CLOCKS
from benchmarks.two_headed import two_headed
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

ONE, DEVICES, WORKERS = "one device", "two devices", "two workers"
STRATEGIES = {ONE: "default", DEVICES: "mirrored", WORKERS: "multi_worker"}
TIMEOUT = 120  # seconds in which both workers must have been started

FLAGS = flags.FLAGS


def serve(kind, network, batch_size):
    """Trains one kind's model, a step whenever it is told to."""
    if kind == DEVICES:
        part = tf.config.LogicalDeviceConfiguration()
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [part] * 2)
    strategy = eh.strategy(STRATEGIES[kind], TIMEOUT)
    keras.utils.set_random_seed(0)
    name, changes = network
    with strategy.scope():
        model = two_headed(name, **changes)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            "sparse_categorical_crossentropy",
            ensemble_loss=eh.losses.CoDistillation(1.0),
            jit_compile=False,
        )
    batches = training_steps.random_batches(model.trunk.input_shape[1:], batch_size)
    other_processes.serve(training_steps.stepper(model, batches))


def waiting(kind, *arguments):
    """The processes of one kind; as `other_processes.waiting`."""
    command = [sys.executable, __file__, f"--alone={json.dumps([kind, *arguments])}"]
    if kind != WORKERS:
        return other_processes.waiting([command])
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    environments = [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            )
        }
        for index in range(2)
    ]
    return other_processes.waiting([command] * 2, environments)


def summarise(pairs, gradient_bytes):
    """List of dict, a line of the CSV file per kind.

    Args:
        pairs: what `paired_timing.measure` returns.
        gradient_bytes: int, of the trained weights.
    """
    lines = []
    for kind, name in STRATEGIES.items():
        line = {"kind": kind, "strategy": name, "gradient_bytes": gradient_bytes}
        for clock in CLOCKS:
            line[clock], line[f"{clock}_ratio"] = paired_timing.medians(
                pairs, kind, clock
            )
        lines.append(line)
    return lines


def render(lines, title):
    """`rich.table.Table` of the lines."""
    made = recording.table(title, ("", "strategy", "ms", "ratio", "CPU ratio"))
    for line in lines:
        made.add_row(
            line["kind"],
            line["strategy"],
            f"{1e3 * line['seconds']:.1f}",
            f"{line['seconds_ratio']:.3f}",
            f"{line['cpu_seconds_ratio']:.3f}",
        )
    return made


def define_flags():
    flags.DEFINE_string("model", "cifar_resnet20", "The single network, by zoo name.")
    flags.DEFINE_integer("batch_size", 128, "Images of all replicas.", lower_bound=2)
    flags.DEFINE_integer("rounds", 30, "Rounds that count.", lower_bound=1)
    flags.DEFINE_integer("warm_up", 3, "Rounds before those.", lower_bound=0)
    flags.DEFINE_bool("smoke", False, "A tiny network and few rounds.")
    flags.DEFINE_string("alone", None, "Used by the processes that this one starts.")
    recording.define_output("strategies")


def main(_):
    logging.set_verbosity(logging.ERROR)
    if FLAGS.alone:
        serve(*json.loads(FLAGS.alone))
        return
    network, rounds, warm_up = (FLAGS.model, {}), FLAGS.rounds, FLAGS.warm_up
    if FLAGS.smoke:
        network, rounds, warm_up = ("cifar_resnet20", {"blocks": (1, 1, 1)}), 2, 1
    console = Console(highlight=False)
    load = recording.busy_before()
    weights = two_headed(network[0], **network[1]).trainable_variables
    gradient_bytes = sum(4 * int(np.prod(weight.shape)) for weight in weights)
    with contextlib.ExitStack() as stack:
        steps = {}
        for kind in STRATEGIES:
            arguments = kind, network, FLAGS.batch_size
            _, steps[kind] = stack.enter_context(waiting(*arguments))
        pairs = paired_timing.measure(
            steps, ONE, "strategies", rounds, warm_up, timed=lambda step: step()
        )
    lines = summarise(pairs, gradient_bytes)
    made_with = provenance.describe()
    title = (
        f"{network[0]} with two heads, batch {FLAGS.batch_size}, {rounds} rounds, "
        f"TensorFlow {made_with['tensorflow']}, {made_with['machine']}"
    )
    console.print(render(lines, title))
    path = recording.path_of("strategies", FLAGS.output)
    settings = {
        "model": network[0],
        "batch_size": FLAGS.batch_size,
        "rounds": rounds,
        "load_before": load,
    }
    recording.keep(path, [{**line, **settings, **made_with} for line in lines], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
