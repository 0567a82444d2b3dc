r"""Heads as one operation: seconds per training step, separate, stacked and "auto".

    python benchmarks/stacked_heads.py            # about five minutes on 2 cores
    python benchmarks/stacked_heads.py --smoke    # tiny, only to see that it runs

Two parts, in one run:

* many: 256 heads of 4 hidden units on 784 inputs and 10 classes (Webb et al. 2019,
  Fashion-MNIST) against one network of 1024 hidden units, which has as many hidden
  weights. Losses: the modular one with the mean of logits that it trains, and plain
  ensembling. Goal: a stacked step takes at most 1.3 times a step of the one network.
* few: 8 heads of a small CNN, each way of running them against separate heads. Goal:
  `"auto"` is never slower than separate heads, but for what two runs of the same
  differ by (5 %).

Each as a graph and compiled by XLA. A round takes a step of each subject with a step of
what it is compared with right beside it, first or second in turn, so that whatever
else the machine does meets both alike. Ratios are medians over the rounds of the
ratios within pairs, on the clock and of CPU time in all threads.

Writes benchmarks/results/stacked_heads_<TensorFlow line>.csv.
"""

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from rich.console import Console

import ensemble_heads as eh
from benchmarks import paired_timing, recording, training_steps
from benchmarks.paired_timing import CLOCKS
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

GOAL = 1.3
SAME = 1.05
COMPILED = {"graph": False, "xla": True}

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Size:
    """How large what is compared is."""

    heads: int = 256
    hidden: int = 4
    inputs: int = 784
    classes: int = 10
    cnn_heads: int = 8
    pixels: int = 16
    filters: int = 8


SMOKE = Size(heads=6, inputs=20, cnn_heads=2, pixels=8, filters=2)


@dataclasses.dataclass
class Subject:
    """One model to be measured.

    Attributes:
        part: `"many"` or `"few"`.
        name: str, its row.
        compiled: a key of `COMPILED`.
        against: str, the row that it is compared with; its own for that one.
        execution: how its heads are run; "" without heads.
        step: callable, one training step.
    """

    part: str
    name: str
    compiled: str
    against: str
    execution: str
    step: object


def single_mlp(inputs, hidden, classes):
    """A network with one hidden layer, which begins after the layer `pixels`."""
    pixels = keras.Input((inputs,))
    x = keras.layers.Activation("linear", name="pixels")(pixels)
    x = keras.layers.Dense(hidden, activation="relu")(x)
    return keras.Model(pixels, keras.layers.Dense(classes, activation="softmax")(x))


def single_cnn(size):
    """A small CNN, which begins after the layer `pixels`."""
    layers = keras.layers
    images = keras.Input((size.pixels, size.pixels, 3))
    x = layers.Activation("linear", name="pixels")(images)
    for factor in (1, 2):
        x = layers.Conv2D(factor * size.filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(4 * size.filters, activation="relu")(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(size.classes, activation="softmax")(x))


def many(size, batch, compiled):
    """The subjects of the first part, what they are compared with first."""
    wide = single_mlp(size.inputs, size.heads * size.hidden, size.classes)
    yield _subject("many", "one network", wide, None, batch, compiled, "one network")
    narrow = single_mlp(size.inputs, size.hidden, size.classes)
    for name, ensembler, loss in (
        ("modular", eh.ensemblers.Mean("logits"), eh.losses.Modular(0.5)),
        ("ensembling", "mean", eh.losses.Ensembling()),
    ):
        model = eh.multi_head(
            narrow, "pixels", size.heads, ensembler=ensembler, execution="stacked"
        )
        row = f"stacked, {name}"
        yield _subject("many", row, model, loss, batch, compiled, "one network")


def few(size, batch, compiled):
    """The subjects of the second part, separate heads first."""
    single = single_cnn(size)
    for execution in ("separate", "stacked", "auto"):
        model = eh.multi_head(single, "pixels", size.cnn_heads, execution=execution)
        yield _subject("few", execution, model, None, batch, compiled, "separate")


def _subject(part, name, model, loss, batch, compiled, against):
    optimizer = keras.optimizers.get(FLAGS.optimizer)
    arguments = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    if isinstance(model, eh.MultiHeadModel):
        arguments["ensemble_loss"] = loss
    model.compile(optimizer, jit_compile=COMPILED[compiled], **arguments)
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    take = training_steps.stepper(model, batches)

    def step():
        return {key: float(value) for key, value in take().items()}

    wrapper = getattr(model, "wrapper", None)
    execution = "" if wrapper is None else wrapper.execution
    return Subject(part, name, compiled, against, execution, step)


def batch_of(size, part, examples):
    """(inputs, labels) of random numbers."""
    random = np.random.default_rng(0)
    one = (size.inputs,) if part == "many" else (size.pixels, size.pixels, 3)
    inputs = random.normal(size=(examples, *one)).astype("float32")
    return tf.constant(inputs), tf.constant(random.integers(0, size.classes, examples))


def measure(subjects, rounds, warm_up):
    """Times single steps, each beside one of what it is compared with.

    Args:
        subjects: list of `Subject` that are compared with the first of them.
        rounds, warm_up: int, rounds that count and rounds before them.

    Returns:
        As `paired_timing.measure`, by the subjects' names.
    """
    first = subjects[0]
    steps = {subject.name: subject.step for subject in subjects}
    label = f"{first.part}, {first.compiled}"
    return paired_timing.measure(steps, first.name, label, rounds, warm_up)


def summarise(subjects, pairs):
    """List of dict, a line of the CSV file per subject.

    Args:
        subjects: as for `measure`.
        pairs: what `measure` returns.
    """
    lines = []
    for one in subjects:
        fields = ("part", "name", "compiled", "execution", "against")
        line = {field: getattr(one, field) for field in fields}
        for clock in CLOCKS:
            seconds, ratio = paired_timing.medians(pairs, one.name, clock)
            line[clock], line[f"{clock}_ratio"] = seconds, ratio
        lines.append(line)
    return lines


def render(lines, title):
    """`rich.table.Table` of the lines."""
    columns = ("part", "network", "run", "heads", "ms", "ratio", "CPU ratio")
    table = recording.table(title, columns)
    for line in lines:
        table.add_row(
            *(line[key] for key in ("part", "name", "compiled", "execution")),
            f"{1e3 * line['seconds']:.2f}",
            f"{line['seconds_ratio']:.3f}",
            f"{line['cpu_seconds_ratio']:.3f}",
        )
    return table


def verdicts(lines):
    """A sentence per goal and way of compiling: whether it is met."""
    for line in lines:
        if line["part"] == "many" and line["name"] != line["against"]:
            goal = GOAL
        elif line["name"] == "auto":
            goal = SAME
        else:
            continue
        reached = line["seconds_ratio"]
        yield (
            f"{line['name']}, {line['compiled']}: {reached:.3f} x {line['against']}, "
            f"goal {goal}: {'met' if reached <= goal else 'missed'}"
        )


def define_flags():
    flags.DEFINE_integer("batch_size", 128, "Examples per step.", lower_bound=1)
    flags.DEFINE_integer("rounds", 60, "Rounds that count.", lower_bound=1)
    flags.DEFINE_integer("warm_up", 5, "Rounds before those.", lower_bound=1)
    flags.DEFINE_string("optimizer", "adam", "The optimizer of all, by Keras' name.")
    flags.DEFINE_multi_enum("runs", list(COMPILED), list(COMPILED), "How steps run.")
    flags.DEFINE_bool("smoke", False, "Tiny networks and few rounds.")
    recording.define_output("stacked_heads")


def main(_):
    # TensorFlow warns of retracing where Keras makes a function for each model.
    logging.set_verbosity(logging.ERROR)
    keras.utils.set_random_seed(0)
    console = Console(highlight=False)
    size = SMOKE if FLAGS.smoke else Size()
    rounds, warm_up = (2, 1) if FLAGS.smoke else (FLAGS.rounds, FLAGS.warm_up)
    load, lines = recording.busy_before(), []
    for compiled in FLAGS.runs:
        for part in (many, few):
            batch = batch_of(size, part.__name__, FLAGS.batch_size)
            subjects = list(part(size, batch, compiled))
            lines += summarise(subjects, measure(subjects, rounds, warm_up))
    made_with = provenance.describe()
    title = (
        f"{size.heads} and {size.cnn_heads} heads, batch {FLAGS.batch_size}, "
        f"{FLAGS.optimizer}, {rounds} rounds, TensorFlow {made_with['tensorflow']}, "
        f"{made_with['machine']}"
    )
    console.print(render(lines, title))
    for verdict in verdicts(lines):
        console.print(verdict, soft_wrap=True)
    path = recording.path_of("stacked_heads", FLAGS.output)
    settings = {
        "batch_size": FLAGS.batch_size,
        "optimizer": FLAGS.optimizer,
        "rounds": rounds,
        "load_before": load,
    }
    recording.keep(path, [{**line, **settings, **made_with} for line in lines], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
