"""What experiments on data sets of small images share: data, metrics, predictions.

A recipe subclasses `ImageExperiment` and `ImageSettings` with its models and losses.
"""

import contextlib
import csv
import dataclasses
import sys

import ensemble_heads as eh
from datasets import image_sets
from ensemble_heads.keras_api import keras
from recipes import folders
from recipes.common import setting
from recipes.experiment import Examples, Experiment, Measure, TrainingSettings


@dataclasses.dataclass(frozen=True)
class ImageSettings(TrainingSettings):
    """Settings of a training run on small images; a recipe adds its own."""

    data_dir: str = setting("", "Folder of the published files. Default: downloads.")
    synthetic: int = setting(0, "Make up so many training images; 0: real ones.")
    validation_examples: int = setting(
        0, "Training images held out, to choose the step that is reported."
    )
    learning_rate: float = setting(0.1, "At the start.")
    momentum: float = setting(0.9, "Of SGD.")

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(0, "synthetic", "validation_examples")
        self.require("learning_rate", self.learning_rate > 0, "be above 0")
        self.require("momentum", 0 <= self.momentum < 1, "be in [0, 1)")


@dataclasses.dataclass(frozen=True)
class SteppedSettings(ImageSettings):
    """Settings of a run whose learning rate falls in steps."""

    rate_drops: tuple[float, ...] = setting(
        (0.5, 0.75),
        "Shares of the steps after each of which the learning rate is a tenth.",
    )

    def __post_init__(self):
        super().__post_init__()
        drops = self.rate_drops
        rising = list(drops) == sorted(set(drops))
        inside = all(0 < share < 1 for share in drops)
        rule = "be shares between 0 and 1, in rising order"
        self.require("rate_drops", rising and inside, rule)

    def falling_rate(self, before=0):
        """The learning rate as an optimizer takes it.

        Args:
            before: int, steps to which `steps` and its shares are yet to come.
        """
        if not self.rate_drops:
            return self.learning_rate
        # Keras counts from 0, and takes the value before a boundary at it.
        last = [before + round(share * self.steps) - 1 for share in self.rate_drops]
        rates = [self.learning_rate * 0.1**drop for drop in range(len(last) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(last, rates)


class ImageExperiment(Experiment):
    """Classification of small images, by accuracy.

    Of a multi-headed model, also by that of an oracle and by the heads' own.

    Attributes:
        image_set: `image_sets.ImageSet`.
        pixels: str, as for `image_sets.load`.
        augment: bool.
    """

    measures = (
        Measure("accuracy", "accuracy"),
        Measure("cross_entropy", "cross entropy", percent=False),
        Measure("oracle_accuracy", "oracle"),
        Measure("mean_head_accuracy", "head"),
    )
    notes = (
        "; oracle: of the head that is right where any is; head: mean over the heads "
        "alone."
    )
    scale_settings = (*Experiment.scale_settings, "data_dir")
    analyses = True
    image_set = None
    pixels = "standardised"
    augment = False

    def __init__(self, settings, path):
        pass

    def head_metrics(self):
        """What `compile` takes as `head_metrics` to evaluate a multi-headed model."""
        return [eh.metrics.OracleAccuracy(), eh.metrics.MeanHeadAccuracy()]

    def compile_evaluation(self, model, run):
        several = isinstance(model, eh.MultiHeadModel)
        heads = {"head_metrics": self.head_metrics()} if several else {}
        model.compile(
            loss="sparse_categorical_crossentropy",
            metrics=[
                keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
                keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"),
                Examples(),
            ],
            jit_compile=run.settings.jit_compile,
            **heads,
        )

    def training_data(self, run, start_step):
        return self._load(
            run,
            "train",
            run.settings.batch_size,
            augment=self.augment,
            epochs=None,
            start_batch=start_step,
        )

    def evaluation_data(self, run):
        return self._load(run, "test", run.settings.evaluation_batch_size)

    def evaluation_examples(self, run):
        with _readable_errors():
            _, labels = image_sets.arrays(self.image_set, "test", *_source(run))
        return len(labels)

    def validation_data(self, run):
        if not run.settings.validation_examples:
            return None
        return self._load(run, "validation", run.settings.evaluation_batch_size)

    def predict(self, model, run, path):
        folders.make_writable(path.parent)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["number", "label", "predicted", "probability"])
            number = 0
            for images, labels in self.evaluation_data(run).as_numpy_iterator():
                for label, row in zip(labels, model.predict_on_batch(images)):
                    chosen = int(row.argmax())
                    writer.writerow([number, label, chosen, f"{row[chosen]:.6f}"])
                    number += 1
        return number

    def export(self, model, run, path):
        eh.export(model, str(path))
        return [path]

    def _load(self, run, split, batch_size, **options):
        folder, synthetic = _source(run)
        with _readable_errors():
            return image_sets.load(
                self.image_set,
                split,
                folder,
                batch_size,
                seed=run.seed,
                validation_examples=run.settings.validation_examples,
                pixels=self.pixels,
                synthetic=synthetic,
                **options,
            )


def _source(run):
    return run.settings.data_dir or None, run.settings.synthetic


@contextlib.contextmanager
def _readable_errors():
    """Context in which bad data end the program with a paragraph, not a trace."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.exit(str(error))
