r"""Four CIFAR10-Quick networks as one ensemble, Why M Heads, Tables 1, 3, 4 and 5.

    python recipes/cifar10_treenet_mcl.py --preset=smoke    # synthetic, under a minute
    python recipes/cifar10_treenet_mcl.py --data_dir=…      # Tables 1 and 3
    python recipes/cifar10_treenet_mcl.py --data_dir=… --models=multiple_choice \
        --sweep=num_choices=1,2,3,4                         # Table 4
    python recipes/cifar10_treenet_mcl.py --data_dir=… --models=multiple_choice \
        --sweep=num_choices=1,2,3 \
        --sweep=pretraining_steps=100,500,1000,2000,4000    # Table 5
    python recipes/cifar10_treenet_mcl.py --data_dir=… --models=independent \
        --sweep=fork_at=images,conv1,conv2,conv3,ip1        # TreeNets

Caffe's small network and its procedure: the mean image subtracted, nothing cropped or
mirrored, batches of 350 for 5,000 steps, learning rate 0.001 and a tenth of it after
4,000, momentum 0.9, weight decay 0.004, biases twice as fast as kernels. What is named
`models` here are the methods; docs/papers.md says what the paper leaves open.

Paper (Lee et al. 2015; 3 trials; ensemble mean / oracle accuracy in %): single 77.06;
independent 80.72 / 89.89; bagging 78.40 / 89.94; bagging from different weights 78.95 /
89.28; score-averaged 79.32; probability-averaged 77.10; multiple choice of k = 1: 28.38
/ 93.10, k = 2: 75.16 / 92.78, k = 3: 79.76 / 92.55, k = 4: 80.72 / 89.78; k = 1 after
4,000 steps of cross entropy: oracle 96.00.
Result: not measured.
"""

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

import ensemble_heads as eh
import zoo
from datasets import cifar
from ensemble_heads.keras_api import keras
from recipes import long_runs
from recipes.caffe_sgd import CaffeSGD
from recipes.common import setting
from recipes.image_experiment import ImageExperiment, SteppedSettings

SINGLE = "single"
CHOICE = "multiple_choice"
AVERAGED = {"score_averaged": "logits", "probability_averaged": "probabilities"}
TABLES_1_AND_3 = (SINGLE, "independent", "bagging", "bagging_and_weights", *AVERAGED)
METHODS = (*TABLES_1_AND_3, CHOICE)
NETWORK = "cifar10_quick_4heads"
FORKS = ("images", "conv1", "pool1", "relu1", "conv2", "pool2", "conv3", "pool3", "ip1")
EXECUTIONS = ("separate", "stacked", "auto")


@dataclasses.dataclass(frozen=True)
class Config(SteppedSettings):
    """Settings of a training run; each is a flag."""

    models: tuple[str, ...] = setting(
        TABLES_1_AND_3, f"Methods, each a run per seed: {', '.join(METHODS)}."
    )
    num_heads: int = setting(4, "Networks in the ensemble.")
    fork_at: str = setting(
        "images", f"The last layer that all share: {', '.join(FORKS)}; images: none."
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
    learning_rate: float = setting(0.001, "At the start, of kernels.")
    bias_factor: float = setting(2.0, "What it is multiplied by for biases.")
    rate_drops: tuple[float, ...] = setting(
        (0.8,), "Shares of the steps after each of which the learning rate is a tenth."
    )
    weight_decay: float = setting(0.004, "c of the penalty c / 2 |w|^2, biases too.")

    def __post_init__(self):
        super().__post_init__()
        for method in self.models:
            known = f"name methods among {', '.join(METHODS)}"
            self.require("models", method in METHODS, known)
        self.require_at_least(1, "num_heads", "num_choices")
        self.require_at_least(0, "independent_weight", "pretraining_steps")
        self.require_at_least(0, "weight_decay", "bias_factor")
        fits = self.num_choices <= self.num_heads
        self.require("num_choices", fits, f"be at most num_heads={self.num_heads}")
        known = self.execution in EXECUTIONS
        self.require("execution", known, f"be one of {', '.join(EXECUTIONS)}")
        known = self.fork_at in FORKS
        self.require("fork_at", known, f"be one of {', '.join(FORKS)}")


PRESETS = {
    "paper": Config(
        seeds=3,
        steps=5000,
        batch_size=350,
        evaluation_batch_size=1000,
        log_every=100,
        evaluate_every=1000,
        checkpoint_every=1000,
    ),
    "smoke": Config(
        models=(SINGLE, "independent", CHOICE),
        synthetic=500,
        learning_rate=0.002,
        steps=60,
        pretraining_steps=20,
        batch_size=50,
        evaluation_batch_size=50,
        log_every=20,
        evaluate_every=40,
        checkpoint_every=40,
    ),
}


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


class CIFAR10TreeNet(ImageExperiment):
    """One network, or an ensemble of several trained in one way or another."""

    name = "cifar10_treenet_mcl"
    title = "CIFAR-10, CIFAR10-Quick"
    symbols = {"num_choices": "k", "pretraining_steps": "steps of cross entropy before"}
    image_set = cifar.images(10)
    pixels = "centred"

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
        settings, spec = run.settings, zoo.SPECS[NETWORK]
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
        if method.startswith("bagging"):
            return eh.losses.Bagging(run.seed)
        return eh.losses.Ensembling(0.0)


if __name__ == "__main__":
    long_runs.run(CIFAR10TreeNet, PRESETS)
