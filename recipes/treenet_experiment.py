"""The methods of Why M Heads Are Better than One, on any data set and network.

A recipe subclasses `TreeNetExperiment`, a kind of `ClassificationExperiment` with
data, and `TreeNetSettings`.
"""

import dataclasses

import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from recipes.caffe_sgd import CaffeSGD
from recipes.classification import ClassificationExperiment, SteppedSettings
from recipes.common import setting

SINGLE = "single"
CHOICE = "multiple_choice"
AVERAGED = {"score_averaged": "logits", "probability_averaged": "probabilities"}
TABLES_1_AND_3 = (SINGLE, "independent", "bagging", "bagging_and_weights", *AVERAGED)
METHODS = (*TABLES_1_AND_3, CHOICE)
EXECUTIONS = ("separate", "stacked", "auto")


@dataclasses.dataclass(frozen=True)
class TreeNetSettings(SteppedSettings):
    """Settings of a training run by one of the methods; a recipe adds its own."""

    models: tuple[str, ...] = setting(
        TABLES_1_AND_3, f"Methods, each a run per seed: {', '.join(METHODS)}."
    )
    num_heads: int = setting(4, "Networks in the ensemble.")
    fork_at: str = setting(
        "images", "The last layer that all share, such as conv1; images: none."
    )
    execution: str = setting(
        "separate", "How heads are run: separate, stacked, or auto, the faster one."
    )
    num_choices: int = setting(1, f"k of {CHOICE}.")
    independent_weight: float = setting(
        0.0, f"In {CHOICE}, weight of the losses of all heads beside it."
    )
    pretraining_steps: int = setting(
        0, f"Steps of cross entropy that come before those of {CHOICE}."
    )
    bias_factor: float = setting(2.0, "What the rate is multiplied by for biases.")
    weight_decay: float = setting(0.0005, "c of the penalty c / 2 |w|^2.")

    def __post_init__(self):
        super().__post_init__()
        self.require_among(METHODS, "models")
        self.require_at_least(1, "num_heads", "num_choices")
        self.require_at_least(0, "independent_weight", "pretraining_steps")
        self.require_at_least(0, "weight_decay", "bias_factor")
        fits = self.num_choices <= self.num_heads
        self.require("num_choices", fits, f"be at most num_heads={self.num_heads}")
        self.require_among(EXECUTIONS, "execution")
        self.require_among(self.forks(), "fork_at")

    def forks(self):
        """Layers of the network that a tree may fork at."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="recipes")
class LateChoice(eh.losses.MultipleChoice):
    """Every head learns for itself for some steps, then those of lowest loss.

    Args:
        pretraining_steps: int >= 0, steps of the optimizer.
        **kwargs: arguments of `eh.losses.MultipleChoice`.
    """

    def __init__(self, pretraining_steps, **kwargs):
        super().__init__(**kwargs)
        self.pretraining_steps = pretraining_steps

    def of_heads(self, base_loss, target, prediction):
        chosen = super().of_heads(base_loss, target, prediction)
        if not self.pretraining_steps:
            return chosen
        alone = tf.reduce_sum(self.head_losses(base_loss, target, prediction), axis=1)
        step = tf.cast(prediction.step, tf.int64)
        return tf.where(step < self.pretraining_steps, alone, chosen)

    def get_config(self):
        return {**super().get_config(), "pretraining_steps": self.pretraining_steps}


def is_bagged(method):
    """Whether every head of a method learns from a sample of its own."""
    return method in ("bagging", "bagging_and_weights")


class TreeNetExperiment(ClassificationExperiment):
    """One network, or an ensemble of several trained in one way or another.

    Attributes:
        id_key: str, the key of the inputs that tells bagging an example's number; None
            where an example's inputs are the same in every epoch.
    """

    id_key = None
    symbols = {"num_choices": "k", "pretraining_steps": "steps of cross entropy before"}

    def ensemble_spec(self, settings):
        """The `zoo.MultiHeadSpec` whose base is the single network."""
        raise NotImplementedError

    def is_affected(self, model, name):
        if name in ("num_choices", "independent_weight", "pretraining_steps"):
            return model == CHOICE
        if name in ("num_heads", "fork_at", "execution"):
            return model != SINGLE
        return True

    def total_steps(self, run):
        return self._pretraining_steps(run) + run.settings.steps

    def head_metrics(self):
        return ["accuracy", *super().head_metrics()]  # Table 4 has every member's

    def build(self, run):
        settings, spec = run.settings, self.ensemble_spec(run.settings)
        decay = settings.weight_decay
        if run.model == SINGLE:
            return spec.base.with_changes(weight_decay=decay).build(run.model)
        if run.model in AVERAGED:
            # The loss has the factor N that the paper gives the learning rate, which
            # makes the weight decay stronger as well.
            decay *= settings.num_heads
        return spec.with_changes(
            weight_decay=decay,
            num_heads=settings.num_heads,
            fork_at=settings.fork_at,
            ensembler=eh.ensemblers.Mean(AVERAGED.get(run.model, "probabilities")),
            copy_weights=run.model == "bagging",  # all begin with the same weights
            execution=settings.execution,
            seed=run.seed,
        ).build(run.model)

    def compile(self, model, run):
        settings = run.settings
        rate = settings.falling_rate(self._pretraining_steps(run))
        options = {}
        if isinstance(model, eh.MultiHeadModel):
            options["ensemble_loss"] = self._ensemble_loss(run)
        model.compile(
            CaffeSGD(rate, settings.momentum, settings.bias_factor),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=settings.jit_compile,
            **options,
        )

    def _pretraining_steps(self, run):
        return run.settings.pretraining_steps if run.model == CHOICE else 0

    def _ensemble_loss(self, run):
        settings, method = run.settings, run.model
        if method == CHOICE:
            return LateChoice(
                settings.pretraining_steps,
                num_choices=settings.num_choices,
                independent_weight=settings.independent_weight,
                seed=run.seed,
            )
        if method in AVERAGED:
            return eh.losses.EnsembleMean(AVERAGED[method])
        if is_bagged(method):
            return eh.losses.Bagging(run.seed, self.id_key)
        return eh.losses.Ensembling(0.0)
