r"""Trees of detectors on synthetic scenes, after Why M heads, appendix A.

    python recipes/detection_treenet.py                  # 15 runs, ten minutes
    python recipes/detection_treenet.py --preset=smoke   # under a minute

Trains a small Fast R-CNN on coloured shapes, then what `eh.multi_head` makes of it at
full width: several detectors that share nothing, the paper's standard ensemble, and
trees that split behind each of its convolutions. Class scores and boxes are averaged
over the heads. A seed draws the weights and the scenes of both parts.

Measures mean average precision as PASCAL VOC 2007 defines it, on scenes that are not
trained on: of the ensemble with regressed boxes (Table 7) and with the proposals as
they are (Table 8), and of single heads. Writes table.csv and table.md to the workdir,
and every run (results.jsonl, a line each, and models). Finished runs found there are
not done again.

Result: mAP in % with the standard error of the mean, the gain over the single detector
of the same seed in brackets; preset demo, 3 seeds, 300 scenes to train on, a shared
2-core CPU, 10 to 25 minutes. Two detectors that share nothing gain 2 points; what trees
gain is smaller than its error. (In the paper, pretrained and on VOC 2007, trees split
at conv1 and conv2 gain 0.5 and 0.7 points over the standard ensemble.)

                     TensorFlow 2.15               TensorFlow 2.21
    single detector  72.30 ± 1.25                  72.17 ± 1.75
    nothing shared   74.62 ± 0.74 (+2.32 ± 0.61)   74.25 ± 1.41 (+2.08 ± 0.73)
    split at conv1   72.42 ± 0.54 (+0.13 ± 0.77)   73.96 ± 0.56 (+1.78 ± 1.77)
    split at conv2   71.81 ± 0.75 (-0.48 ± 1.55)   71.58 ± 0.90 (-0.59 ± 1.94)
    split at conv3   72.51 ± 1.69 (+0.21 ± 1.82)   72.16 ± 1.71 (-0.01 ± 2.10)
"""

import dataclasses
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from rich.console import Console

import ensemble_heads as eh
import zoo
from datasets import scenes
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras
from recipes import common, results
from recipes.common import setting
from recipes.workdir import Workdir

NAME = "detection_treenet"
TABLE_CSV, TABLE_MARKDOWN = "table.csv", "table.md"
SINGLE = "single"
EVERYTHING = "image"  # forked there, heads share nothing


@dataclasses.dataclass(frozen=True)
class Config(common.Settings):
    """Settings of the comparison; each is a flag."""

    forks: tuple[str, ...] = setting(
        (EVERYTHING, "conv1", "conv2", "conv3"),
        "Layers to split behind, each a method; image: nothing is shared.",
    )
    seeds: int = setting(3, "Runs per method, with the seeds 0, 1, …")
    num_heads: int = setting(2, "Heads N.")
    width_multiplier: float = setting(1.0, "Width of the heads.")
    ensemble_weight: float = setting(0.0, "lambda of the ensembling loss.")
    train_examples: int = setting(300, "Scenes for training.")
    test_examples: int = setting(300, "Scenes to measure on.")
    image_size: int = setting(64, "Pixels along either side of a scene.")
    proposals: int = setting(32, "Places for proposals in a scene.")
    filters: tuple[int, ...] = setting((16, 32, 48), "Channels of the convolutions.")
    hidden: int = setting(64, "Units over each region.")
    epochs: int = setting(20, "Passes over the training part.")
    batch_size: int = setting(16, "Scenes per training step.")
    learning_rate: float = setting(
        3e-3, "Of Adam at the start; falls to 0 by half a cosine."
    )
    evaluation_batch_size: int = setting(50, "Scenes per step of evaluation.")

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(
            1,
            *("seeds", "num_heads", "train_examples", "test_examples", "hidden"),
            *("epochs", "batch_size", "evaluation_batch_size"),
        )
        self.require_at_least(16, "image_size")
        self.require_at_least(scenes.MAX_OBJECTS * scenes.PER_OBJECT, "proposals")
        some = self.filters and min(self.filters) >= 1
        self.require("filters", some, "hold at least one positive number")
        known = (EVERYTHING, *(f"conv{i + 1}" for i in range(len(self.filters))))
        self.require_among(known, "forks")
        once = len(set(self.forks)) == len(self.forks)
        self.require("forks", once, "name each fork once")
        fits = 0 < self.width_multiplier <= 4
        self.require("width_multiplier", fits, "be in (0, 4]")
        self.require("learning_rate", self.learning_rate > 0, "be above 0")


PRESETS = {
    "demo": Config(),
    "smoke": Config(
        forks=("conv1",),
        seeds=1,
        train_examples=120,
        test_examples=50,
        image_size=32,
        proposals=24,
        filters=(16, 32),
        epochs=16,
        batch_size=8,
        learning_rate=5e-3,
    ),
}


def label(method):
    """What people call a method, `SINGLE` or the name of a layer."""
    if method == SINGLE:
        return "single detector"
    return "nothing shared" if method == EVERYTHING else f"split at {method}"


def build(config, method, seed):
    """The detector of a method, not compiled; its weights depend on the seed alone."""
    keras.utils.set_random_seed(seed)
    single = zoo.build(
        "fast_rcnn_small",
        filters=config.filters,
        hidden=(config.hidden,),
        input_shape=(config.image_size, config.image_size, 3),
        classes=len(scenes.CLASSES),
        proposals=config.proposals,
    )
    if method == SINGLE:
        return single
    return eh.multi_head(
        single, method, config.num_heads, config.width_multiplier, seed=seed
    )


def compile_model(model, config):
    """Compiles a detector with Fast R-CNN's two losses."""
    steps = config.epochs * -(-config.train_examples // config.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
    heads = isinstance(model, eh.MultiHeadModel)
    loss = eh.losses.Ensembling(config.ensemble_weight)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss={
            "classes": eh.losses.SparseCategoricalCrossentropy(ignore_class=-1),
            "boxes": eh.detection.BoxRegression(),
        },
        **({"ensemble_loss": loss} if heads else {}),
    )


def load(config, split, seed, **options):
    """Scenes of one part, see `datasets/scenes.py`."""
    count = {"train": config.train_examples, "test": config.test_examples}[split]
    sizes = {"image_size": config.image_size, "proposals": config.proposals}
    return scenes.load(split, seed=seed, examples=count, **sizes, **options)


def evaluate(model, dataset, examples):
    """Mean average precisions of a detector; sees every scene exactly once.

    Args:
        model: `keras.Model`, as `compile_model` takes it.
        dataset: `tf.data.Dataset` of `(inputs, objects)`.
        examples: int, how many scenes it must hold.

    Returns:
        Dict of `map`, `map_of_proposals`, `class_aps` and `head_maps`.

    Raises:
        RuntimeError: the dataset held another number of scenes.
    """
    heads = getattr(model, "num_heads", 0)

    @tf.function(reduce_retracing=True)
    def detections(inputs):
        """Those of the ensemble, of it without its boxes, and of every head."""
        proposals, outputs = inputs["proposals"], [model(inputs, training=False)]
        if heads:
            said = model.head_predictions(inputs)
            outputs += [
                {name: values[:, i] for name, values in said.items()}
                for i in range(heads)
            ]
        found = [eh.detection.detect(one, proposals) for one in outputs]
        plain = eh.detection.detect(outputs[0], proposals, regress_boxes=False)
        return [found[0], plain, *found[1:]]

    classes = len(scenes.CLASSES)
    metrics = [eh.metrics.VOCMeanAveragePrecision(classes) for _ in range(2 + heads)]
    seen = 0
    for inputs, objects in dataset:
        seen += len(objects["classes"])
        for metric, found in zip(metrics, detections(inputs), strict=True):
            metric.update_state(objects, found)
    if seen != examples:
        raise RuntimeError(
            f"The evaluation must see {examples} scenes exactly once, but saw {seen}"
        )
    maps = [float(metric.result()) for metric in metrics]
    return {
        "examples": seen,
        "map": maps[0],
        "map_of_proposals": maps[1],
        "head_maps": maps[2:],
        "class_aps": metrics[0].class_results().numpy().tolist(),
    }


def train(config, method, seed):
    """Returns (record of a run, dict for JSON; the trained model)."""
    made_with = provenance.describe()  # the checkout may be another one at the end
    started = time.monotonic()
    model = build(config, method, seed)
    compile_model(model, config)
    history = model.fit(
        load(config, "train", seed, batch_size=config.batch_size),
        epochs=config.epochs,
        shuffle=False,  # the data set does it; Keras 3 warns otherwise
        verbose=0,
    ).history
    test = load(
        *(config, "test", seed),
        batch_size=config.evaluation_batch_size,
        targets="objects",
    )
    profile = eh.profile(model)
    record = {
        **{"method": method, "seed": seed},
        **evaluate(model, test, config.test_examples),
        "parameters": profile.parameters,
        "flops": profile.flops,
        "train_loss": list(map(float, history["loss"])),
        "seconds": time.monotonic() - started,
        **made_with,
    }
    return record, model


def summarise(records):
    """One dict per method, in order, of means and standard errors over the seeds."""
    single = {r["seed"]: r["map"] for r in records if r["method"] == SINGLE}
    rows = []
    for method in dict.fromkeys(record["method"] for record in records):
        own = [record for record in records if record["method"] == method]
        row = {"method": label(method), "parameters": own[0]["parameters"]}
        for key in ("map", "map_of_proposals"):
            row[key] = results.mean_and_error([record[key] for record in own])
        gains = [record["map"] - single[record["seed"]] for record in own]
        is_single = method == SINGLE
        row["gain"] = (None, None) if is_single else results.mean_and_error(gains)
        heads = [np.mean(record["head_maps"]) for record in own if record["head_maps"]]
        row["head_map"] = results.mean_and_error(heads) if heads else (None, None)
        rows.append(row)
    return rows


def _measure(title, key, signed=False):
    return results.Column(
        title,
        lambda row: results.percent(*row[key], signed=signed),
        {
            key: lambda row: row[key][0],
            f"{key}_standard_error": lambda row: row[key][1],
        },
    )


COLUMNS = (
    results.Column(
        "method", lambda row: row["method"], {"method": lambda r: r["method"]}
    ),
    _measure("mAP %", "map"),
    _measure("gain", "gain", signed=True),
    _measure("of proposals %", "map_of_proposals"),
    _measure("one head %", "head_map"),
    results.Column(
        "parameters",
        lambda row: f"{row['parameters'] / 1e3:.1f}K",
        {"parameters": lambda row: row["parameters"]},
    ),
)


def main(config, options):
    started, console = time.monotonic(), Console(highlight=False)
    line = provenance.tensorflow_line()
    settings = config.as_dict()
    decides = {k: v for k, v in settings.items() if k not in ("seeds", "forks")}
    workdir = Workdir(
        options.workdir
        or Path(common.DEFAULT_FOLDER, NAME, f"{options.preset}_tf{line}"),
        {"recipe": NAME, "tensorflow": line, **decides},
        options.overwrite,
        (TABLE_CSV, TABLE_MARKDOWN),
    )
    records = []
    for seed in range(config.seeds):
        for method in (SINGLE, *config.forks):
            key = f"{method}-seed{seed}"
            if not workdir.is_finished(key):
                keras.backend.clear_session()
                workdir.add(key, *train(config, method, seed))
            record = workdir.records[key]
            records.append(record)
            console.print(
                f"{label(method):16} seed {seed}  mAP {100 * record['map']:.2f} %, of "
                f"proposals {100 * record['map_of_proposals']:.2f} %  "
                f"({record['seconds']:.0f} s)"
            )
    rows = summarise(records)
    results.write_csv(workdir.path / TABLE_CSV, COLUMNS, rows)
    table = results.markdown_table(COLUMNS, rows)
    (workdir.path / TABLE_MARKDOWN).write_text(table, encoding="utf-8")
    title = f"Synthetic scenes, {config.seeds} seeds, TensorFlow {line}"
    console.print(results.rich_table(COLUMNS, rows, title=title))
    console.print(
        "mean ± standard error of the mean over the seeds; mAP: VOC 2007, of the "
        "ensemble; gain: over the single detector of the same seed; of proposals: "
        "without regressed boxes; one head: mean over the heads, each alone.",
        soft_wrap=True,
    )
    console.print(f"All files are in {workdir.path}/", soft_wrap=True)
    console.print(f"Took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    common.run(main, PRESETS)
