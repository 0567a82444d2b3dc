r"""Seconds per training step and per inference: one network, two heads, two networks.

    python benchmarks/training_step.py               # about six minutes on 2 cores
    python benchmarks/training_step.py --rounds=3    # a quick look

Compares, in one run,

* single: CIFAR ResNet-32 at 32 x 32 pixels (He et al. 2016a, section 4.2);
* two heads: what `eh.multi_head` makes of it with `width_multiplier="auto"`, at no more
  parameters and FLOPs, for several forks: after the first and the second of its three
  stages (EnsembleNet section 3 forks in the middle) and late in the third;
* plain Keras: the graph of two heads at the middle one of these forks, as a model of
  Keras' own, trained by Keras' own step;
* two classifiers: two heads forked before the last layer, at full width. Its FLOPs are
  those of the single network, so what it takes longer is what the library adds;
* twice: the same network two times, from the input on (an ensemble of two).

Goal: a training step of the two heads takes at most 1.05 times a step of the single
network, times the ratio of their FLOPs.

A round takes one step of each network with a step of the single one right beside it,
before or after it in turn, so that whatever else the machine does meets both alike. The
median over the rounds of the ratios of such pairs is reported: of seconds on the clock,
and of seconds of CPU time in all threads. The first rounds warm up and do not count.

Writes benchmarks/results/training_step_<TensorFlow line>.csv.
"""

import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from absl import app, flags, logging
from rich.console import Console

import ensemble_heads as eh
import zoo
from benchmarks import paired_timing, recording, training_steps
from benchmarks.paired_timing import CLOCKS
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

GOAL = 1.05
SINGLE = "single"
HEADS = "two heads, "
KINDS = ("training", "inference")

FLAGS = flags.FLAGS


class Subject:
    """One model to be measured: a function per kind of step.

    Args:
        model: `keras.Model`, not compiled.
        batches: endless `tf.data.Dataset` of one batch.
    """

    def __init__(self, model, batches):
        profile = eh.profile(model)
        self.parameters, self.flops = profile.parameters, profile.flops
        self.model = model
        model.compile(
            optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        self._take = training_steps.stepper(model, batches)
        self._images, _ = next(iter(batches))
        self._infer = tf.function(lambda inputs: model(inputs, training=False))

    def training(self):
        """One training step; returns when it is done."""
        logs = self._take()
        return {name: float(value) for name, value in logs.items()}

    def inference(self):
        """One prediction of the batch."""
        return self._infer(self._images).numpy()


def subjects(name, forks, batch_size):
    """{label: `Subject`} of what is compared."""
    single = zoo.build(name)
    shape, classes = single.input_shape[1:], single.output_shape[-1]
    batches = training_steps.random_batches(shape, batch_size, classes)
    models = {SINGLE: single}
    for fork in forks:
        model = eh.multi_head(single, fork, width_multiplier="auto")
        models[f"{HEADS}{fork}"] = model
        if fork == forks[len(forks) // 2]:
            models[f"plain Keras, {fork}"] = plain(model)
    models["two classifiers"] = eh.multi_head(single, "pool")
    models["twice"] = eh.multi_head(single, single.layers[0])
    return {key: Subject(model, batches) for key, model in models.items()}


def plain(model):
    """A multi-headed model's graph as a functional model; it shares the weights."""
    inputs = keras.Input(model.trunk.input_shape[1:])
    features = model.trunk(inputs)
    said = [keras.layers.Softmax()(head(features)) for head in model.heads]
    return keras.Model(inputs, keras.layers.Average()(said))


def measure(compared, kind, rounds, warm_up):
    """Times single steps, each beside one of the single network.

    Args:
        compared: {name: `Subject`}, the single network among them.
        kind: one of `KINDS`.
        rounds, warm_up: int, rounds that count and rounds before them.

    Returns:
        As `paired_timing.measure`.
    """
    steps = {name: getattr(subject, kind) for name, subject in compared.items()}
    return paired_timing.measure(steps, SINGLE, f"{kind:9}", rounds, warm_up)


def summarise(compared, pairs):
    """List of dict, a line of the CSV file per subject.

    Args:
        compared: {name: `Subject`}.
        pairs: {kind: what `measure` returns}.
    """
    lines = []
    for name, subject in compared.items():
        line = {
            "network": name,
            "width_multiplier": getattr(subject.model, "width_multiplier", 1.0),
            "parameters_folded": subject.parameters,
            "flops_folded": subject.flops,
            "flop_ratio": subject.flops / compared[SINGLE].flops,
        }
        for kind, clock in itertools.product(KINDS, CLOCKS):
            seconds, ratio = paired_timing.medians(pairs[kind], name, clock)
            line[f"{kind}_{clock}"], line[f"{kind}_{clock}_ratio"] = seconds, ratio
        for clock in CLOCKS:
            key = f"training_{clock}_ratio"
            line[f"{key}_per_flop_ratio"] = line[key] / line["flop_ratio"]
        lines.append(line)
    return lines


def render(lines, title):
    """`rich.table.Table` of the lines."""
    columns = (
        *("network", "FLOP\nratio", "training\nseconds", "\nratio"),
        *("/ FLOP\nratio", "CPU\nratio", "/ FLOP\nratio"),
        *("inference\nseconds", "\nratio"),
    )
    table = recording.table(title, columns)
    for line in lines:
        table.add_row(
            line["network"],
            f"{line['flop_ratio']:.3f}",
            f"{line['training_seconds']:.4f}",
            f"{line['training_seconds_ratio']:.3f}",
            f"{line['training_seconds_ratio_per_flop_ratio']:.3f}",
            f"{line['training_cpu_seconds_ratio']:.3f}",
            f"{line['training_cpu_seconds_ratio_per_flop_ratio']:.3f}",
            f"{line['inference_seconds']:.4f}",
            f"{line['inference_seconds_ratio']:.3f}",
        )
    return table


def verdicts(lines):
    """A sentence per fork: whether the goal is met."""
    for line in lines:
        if line["network"].startswith(HEADS):
            reached = line["training_seconds_ratio_per_flop_ratio"]
            yield (
                f"{line['network']}, width multiplier {line['width_multiplier']:g}: "
                f"{reached:.3f} x single x FLOP ratio, goal {GOAL}: "
                f"{'met' if reached <= GOAL else 'missed'}"
            )


def define_flags():
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("rounds", 30, "Rounds that count.", lower_bound=1)
    flags.DEFINE_integer("warm_up", 3, "Rounds before those.", lower_bound=1)
    flags.DEFINE_string(
        "model", "cifar_resnet32", "The single network, by its zoo name."
    )
    flags.DEFINE_list(
        "fork_at",
        ["stage1", "stage2", "stage3_unit3_relu"],
        "Layers to fork at, each a line of the table.",
    )
    recording.define_output("training_step")


def main(_):
    # TensorFlow warns of retracing where Keras makes a function for each model.
    logging.set_verbosity(logging.ERROR)
    keras.utils.set_random_seed(0)
    console = Console(highlight=False)
    compared = subjects(FLAGS.model, FLAGS.fork_at, FLAGS.batch_size)
    load = recording.busy_before()
    pairs = {
        kind: measure(compared, kind, FLAGS.rounds, FLAGS.warm_up) for kind in KINDS
    }
    lines = summarise(compared, pairs)
    made_with = provenance.describe()
    title = (
        f"{FLAGS.model}, batch {FLAGS.batch_size}, {FLAGS.rounds} rounds, TensorFlow "
        f"{made_with['tensorflow']}, {made_with['machine']}"
    )
    console.print(render(lines, title))
    for verdict in verdicts(lines):
        console.print(verdict, soft_wrap=True)
    path = recording.path_of("training_step", FLAGS.output)
    settings = {
        "model": FLAGS.model,
        "batch_size": FLAGS.batch_size,
        "rounds": FLAGS.rounds,
        "load_before": load,
    }
    recording.keep(path, [{**line, **settings, **made_with} for line in lines], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
