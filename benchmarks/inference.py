r"""Serving a two-headed network: latency of one image, throughput at batches of 32.

    python benchmarks/inference.py            # about 25 minutes on 2 cores
    python benchmarks/inference.py --smoke    # tiny, only to see that it runs

ResNet-50 and ResNet-152 at 224 x 224, forked in the middle into two heads of 0.6875 of
the width (EnsembleNet Table 1). Compares, in one run,

* unfolded: the SavedModel that `eh.export` writes with `fold_batch_norm=False`;
* folded: the one that it writes by default;
* folded and frozen: with `freeze=True`;
* predict: `model.predict` of the Keras model in memory;
* LiteRT: the folded SavedModel, converted by TensorFlow's own converter for this batch
  size and run on all cores.

Each takes a NumPy array and gives one, and must give what the model gives. Statistics
and offsets of the batch norms are drawn at random: TensorFlow drops zeros of new
networks from frozen graphs, which no trained network has.

Goal: folded and frozen is at least 1.4 times as fast as unfolded, at batch 1.

A round takes a call of each way with one of the unfolded SavedModel right beside it,
first or second in turn, so that whatever else the machine does meets both alike.
Medians over the rounds of the ratios within pairs, on the clock and of CPU time in all
threads. What loading costs is `first_seconds`, those of the first call.

Writes benchmarks/results/inference_<TensorFlow line>.csv.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from rich.console import Console

import ensemble_heads as eh
from benchmarks import paired_timing, recording
from benchmarks.paired_timing import CLOCKS
from benchmarks.two_headed import two_headed
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

GOAL = 1.4
UNFOLDED, FROZEN, LITERT = "unfolded", "folded and frozen", "LiteRT"
EXPORTS = {
    UNFOLDED: {"fold_batch_norm": False},
    "folded": {},
    FROZEN: {"freeze": True},
}
CLOSE = 1e-4  # between probabilities of one image

FLAGS = flags.FLAGS


def draw_batch_norms(model):
    """Gives all batch norms of a model random weights, near those of new ones."""
    random = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (w.shape for w in layer.get_weights())
            layer.set_weights(
                [
                    random.uniform(0.9, 1.1, gamma),
                    random.normal(0, 0.1, beta),
                    random.normal(0, 0.1, mean),
                    random.uniform(0.9, 1.1, variance),
                ]
            )


def ways(model, paths, batch):
    """{name: function of a batch of images as a NumPy array}; one where it is missing.

    Args:
        model: `eh.MultiHeadModel`.
        paths: {key of `EXPORTS`: folder}.
        batch: int, its size.
    """
    made = {name: _served(path) for name, path in paths.items()}
    made["predict"] = lambda images: model.predict(images, batch_size=batch, verbose=0)
    made[LITERT] = _converted(paths["folded"], (batch, *model.trunk.input_shape[1:]))
    return made


def _served(path):
    loaded = tf.saved_model.load(path)

    def call(images, keep=loaded):
        (output,) = keep.signatures["serving_default"](
            images=tf.constant(images)
        ).values()
        return output.numpy()

    return call


def _converted(path, shape):
    """The SavedModel in LiteRT; None where TensorFlow comes without it."""
    if not hasattr(getattr(tf, "lite", None), "TFLiteConverter"):
        return None
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    fixed = tf.function(lambda images: serve(images=images))
    concrete = fixed.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], loaded)
    interpreter = tf.lite.Interpreter(
        model_content=converter.convert(), num_threads=os.cpu_count()
    )
    interpreter.allocate_tensors()
    (given,), (result,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )

    def call(images):
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return call


def first_calls(made, images, expected):
    """{name: (seconds, farthest from what the model gives)} of the first calls.

    Raises:
        RuntimeError: a way gives something else.
    """
    found = {}
    for name, call in made.items():
        begin = time.perf_counter()
        result = call(images)
        seconds = time.perf_counter() - begin
        apart = float(np.abs(result - expected).max())
        if result.shape != expected.shape or not apart < CLOSE:
            raise RuntimeError(f"{name} is {apart} apart from the model")
        found[name] = seconds, apart
    return found


def measure(name, model, paths, batch, rounds, warm_up):
    """List of dict, a line of the CSV file per way; see `summarise`."""
    random = np.random.default_rng(1)
    shape = (batch, *model.trunk.input_shape[1:])
    images = random.normal(size=shape).astype(np.float32)
    made = ways(model, paths, batch)
    there = {way: call for way, call in made.items() if call is not None}
    first = first_calls(there, images, model(images).numpy())
    steps = {way: lambda call=call: call(images) for way, call in there.items()}
    label = f"{name}, batch {batch}"
    pairs = paired_timing.measure(steps, UNFOLDED, label, rounds, warm_up)
    return summarise(name, batch, made, first, pairs)


def summarise(name, batch, made, first, pairs):
    """List of dict, a line of the CSV file per way.

    Args:
        name: str, of the network.
        batch: int, images per call.
        made: {way: function, or None where it is missing}.
        first: what `first_calls` returns.
        pairs: what `paired_timing.measure` returns.
    """
    lines = []
    for way, call in made.items():
        line = {"network": name, "batch": batch, "way": way}
        line["note"] = "" if call else "not in this TensorFlow; needs ai-edge-litert"
        for clock in CLOCKS:
            seconds, ratio = (
                paired_timing.medians(pairs, way, clock) if call else ("", "")
            )
            line[clock] = seconds
            line[f"{clock}_speedup"] = 1 / ratio if call else ""
        line["images_per_second"] = batch / line["seconds"] if call else ""
        line["first_seconds"], line["farthest"] = first.get(way, ("", ""))
        lines.append(line)
    return lines


def render(lines, title):
    """`rich.table.Table` of the lines."""
    columns = ("network", "batch", "way", "ms", "images/s", "x unfolded", "(CPU)")
    table = recording.table(title, (*columns, "first s"))
    for line in lines:
        about = (line["network"], str(line["batch"]), line["way"])
        if line["note"]:
            table.add_row(*about, line["note"])
            continue
        table.add_row(
            *about,
            f"{1e3 * line['seconds']:.1f}",
            f"{line['images_per_second']:.1f}",
            f"{line['seconds_speedup']:.2f}",
            f"{line['cpu_seconds_speedup']:.2f}",
            f"{line['first_seconds']:.1f}",
        )
    return table


def verdicts(lines):
    """A sentence per network: whether the goal is met."""
    for line in lines:
        if line["way"] == FROZEN and line["batch"] == 1:
            reached = line["seconds_speedup"]
            yield (
                f"{line['network']}, batch 1, {FROZEN}: {reached:.2f} x as fast as "
                f"{UNFOLDED}, goal {GOAL}: {'met' if reached >= GOAL else 'missed'}"
            )


def define_flags():
    flags.DEFINE_list("models", ["resnet50", "resnet152"], "Single networks by name.")
    flags.DEFINE_integer("rounds", 60, "Rounds that count at batch 1.", lower_bound=1)
    flags.DEFINE_integer("large_rounds", 8, "Those at batch 32.", lower_bound=1)
    flags.DEFINE_integer("warm_up", 2, "Rounds before those.", lower_bound=0)
    flags.DEFINE_bool("smoke", False, "A tiny network and few rounds.")
    recording.define_output("inference")


def main(_):
    logging.set_verbosity(logging.ERROR)
    keras.utils.set_random_seed(0)
    console = Console(highlight=False)
    models, rounds = FLAGS.models, {1: FLAGS.rounds, 32: FLAGS.large_rounds}
    changes = {}
    if FLAGS.smoke:
        models, rounds = ["cifar_resnet20"], {1: 2, 3: 2}
        changes = {"blocks": (1, 1, 1)}
    load, lines = recording.busy_before(), []
    for name in models:
        model = two_headed(name, **changes)
        draw_batch_norms(model)
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                way: eh.export(model, os.path.join(folder, way), **options)
                for way, options in EXPORTS.items()
            }
            for batch, count in rounds.items():
                lines += measure(name, model, paths, batch, count, FLAGS.warm_up)
    made_with = provenance.describe()
    title = (
        f"Two heads, {rounds[1]} rounds at batch 1, load {load:.1f}, TensorFlow "
        f"{made_with['tensorflow']}, {made_with['machine']}"
    )
    console.print(render(lines, title))
    for verdict in verdicts(lines):
        console.print(verdict, soft_wrap=True)
    path = recording.path_of("inference", FLAGS.output)
    settings = {"load_before": load}
    lines = [
        {**line, "rounds": rounds[line["batch"]], **settings, **made_with}
        for line in lines
    ]
    recording.keep(path, lines, console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
