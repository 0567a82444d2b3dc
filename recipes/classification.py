"""What experiments on classifiers share: rates, metrics, predictions.

A recipe subclasses `ClassificationExperiment` with its models, losses and data.
"""

import csv
import dataclasses

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from recipes import folders
from recipes.common import setting
from recipes.experiment import Examples, Experiment, Measure, TrainingSettings

OPTIMIZERS = ("sgd", "lamb")


@dataclasses.dataclass(frozen=True)
class MomentumSettings(TrainingSettings):
    """Settings of a run by SGD with momentum."""

    learning_rate: float = setting(0.1, "At the start.")
    momentum: float = setting(0.9, "Of SGD.")

    def __post_init__(self):
        super().__post_init__()
        self.require("learning_rate", self.learning_rate > 0, "be above 0")
        self.require("momentum", 0 <= self.momentum < 1, "be in [0, 1)")


@dataclasses.dataclass(frozen=True)
class ScaledSettings(MomentumSettings):
    """Settings of a run whose learning rate grows with the batch.

    A recipe gives its `learning_rate` for batches of `of_batch`, its class attribute.
    """

    of_batch = None

    optimizer: str = setting("sgd", f"One of {', '.join(OPTIMIZERS)}.")

    def __post_init__(self):
        super().__post_init__()
        self.require_among(OPTIMIZERS, "optimizer")

    @property
    def scaled_rate(self):
        """The learning rate at the start, in proportion to the batch."""
        return self.learning_rate * self.batch_size / self.of_batch

    def make_optimizer(self, rate):
        """The optimizer, at a learning rate or a schedule of them."""
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(rate, momentum=self.momentum)
        if KERAS_3:
            return keras.optimizers.Lamb(rate)
        import tensorflow_addons  # Keras 2 has no LAMB

        return tensorflow_addons.optimizers.LAMB(rate)


@dataclasses.dataclass(frozen=True)
class SteppedSettings(MomentumSettings):
    """Settings of a run whose learning rate falls in steps."""

    rate_drops: tuple[float, ...] = setting(
        (0.5, 0.75), "Shares of the steps after each of which the learning rate falls."
    )
    drop_factor: float = setting(0.1, "What it is multiplied by at each of them.")

    def __post_init__(self):
        super().__post_init__()
        drops = self.rate_drops
        rising = list(drops) == sorted(set(drops))
        inside = all(0 < share < 1 for share in drops)
        rule = "be shares between 0 and 1, in rising order"
        self.require("rate_drops", rising and inside, rule)
        self.require("drop_factor", 0 < self.drop_factor <= 1, "be in (0, 1]")

    def falling_rate(self, before=0):
        """The learning rate as an optimizer takes it.

        Args:
            before: int, steps to which `steps` and its shares are yet to come.
        """
        if not self.rate_drops:
            return self.learning_rate
        # Keras counts from 0, and takes the value before a boundary at it.
        last = [before + round(share * self.steps) - 1 for share in self.rate_drops]
        factors = [self.drop_factor**drop for drop in range(len(last) + 1)]
        rates = [self.learning_rate * factor for factor in factors]
        return keras.optimizers.schedules.PiecewiseConstantDecay(last, rates)


class ClassificationExperiment(Experiment):
    """Classification with one class per example, by accuracy.

    Of a multi-headed model, also by that of an oracle and by the heads' own.
    """

    measures = (
        Measure("accuracy", "accuracy"),
        Measure("cross_entropy", "cross entropy", percent=False),
        Measure("oracle_accuracy", "oracle"),
        Measure("mean_head_accuracy", "head"),
    )
    fills_batches = True
    notes = (
        "; oracle: of the head that is right where any is; head: mean over the heads "
        "alone."
    )
    scale_settings = (*Experiment.scale_settings, "data_dir")

    def metrics(self):
        """What `compile` takes as `weighted_metrics` to evaluate any model."""
        return [
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy"),
            Examples(),
        ]

    def head_metrics(self):
        """The same of `weighted_head_metrics`, for multi-headed models."""
        return [eh.metrics.OracleAccuracy(), eh.metrics.MeanHeadAccuracy()]

    def compile_evaluation(self, model, run):
        several = isinstance(model, eh.MultiHeadModel)
        heads = {"weighted_head_metrics": self.head_metrics()} if several else {}
        model.compile(
            loss="sparse_categorical_crossentropy",
            weighted_metrics=self.metrics(),  # to leave out what fills up batches
            jit_compile=run.settings.jit_compile,
            **heads,
        )

    def predict(self, model, run, path):
        with folders.new_file(path) as file:
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


class TopFiveExperiment(ClassificationExperiment):
    """Classification into many classes: by top-5 accuracy too."""

    measures = (
        ClassificationExperiment.measures[0],
        Measure("top_5_accuracy", "top-5"),
        *ClassificationExperiment.measures[1:],
    )

    def metrics(self):
        of_five = keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5_accuracy")
        return [*super().metrics(), of_five]
