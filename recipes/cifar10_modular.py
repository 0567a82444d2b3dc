r"""Modular ensembles of small convolutional networks on CIFAR-10, joint training.

    python recipes/cifar10_modular.py --preset=smoke            # synthetic, a minute
    python recipes/cifar10_modular.py --data_dir=… \
        --sweep=coupling=0,0.5,0.8,0.9,0.95,0.97,0.99,1         # Figure 6
    python recipes/cifar10_modular.py report                    # table and plots again
    python recipes/cifar10_modular.py analyse --data_dir=…      # Figures 6 and 7

Ten modules of five convolutions (Webb et al., Joint Training of Neural Network
Ensembles, section 4.2 and Table 3), 2.8 M parameters in all, crops and mirrored images,
400 epochs. A seed draws the weights, the order and the 10,000 training images that are
held out; the evaluation reported is that of the epoch with the best accuracy on these.

Paper (5 seeds), in Figures 6 and 7 and without numbers: the error falls as lambda
grows, and rises sharply towards lambda = 1, where a single module dominates, which
alone has an error of about 43 %.
Result: not measured.
"""

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from datasets import cifar
from recipes import long_runs
from recipes.common import setting
from recipes.modular_experiment import ModularExperiment, ModularSettings

MODELS = ("small_cnn_10heads", "small_cnn")


@dataclasses.dataclass(frozen=True)
class Config(ModularSettings):
    """Settings of a training run; each is a flag."""

    models: tuple[str, ...] = setting(
        MODELS[:1], f"Models, each a run per seed: {', '.join(MODELS)}."
    )
    num_heads: int = setting(10, "Modules.")
    learning_rate: float = setting(0.06, "Of SGD, for all modules together.")
    joint_rate_factor: float = setting(
        1 / 3, "What the learning rate is multiplied by where coupling is 1."
    )

    MODELS = MODELS

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(2, "num_heads")


PRESETS = {
    "paper": Config(
        seeds=5,
        steps=160_000,  # 400 epochs of 40,000 images
        batch_size=100,
        evaluation_batch_size=500,
        validation_examples=10_000,
        log_every=400,
        evaluate_every=400,
        checkpoint_every=4000,
    ),
    "smoke": Config(
        coupling=0.5,
        num_heads=2,
        execution="separate",
        learning_rate=0.1,
        synthetic=600,
        steps=180,
        batch_size=20,
        evaluation_batch_size=60,
        validation_examples=120,
        log_every=60,
        evaluate_every=60,
        checkpoint_every=60,
    ),
}


class CIFAR10Modular(ModularExperiment):
    """Small convolutional networks, trained between independently and jointly."""

    name = "cifar10_modular"
    title = "CIFAR-10, small CNNs"
    image_set = cifar.images(10)
    class_names = cifar.CLASS_NAMES
    augment = True

    def model_changes(self, run):
        return {} if run.model == "small_cnn" else {"num_heads": run.settings.num_heads}

    def is_affected(self, model, name):
        own = name == "num_heads" and model == "small_cnn"
        return super().is_affected(model, name) and not own

    def head_metrics(self):
        # Ten curves, as in Figure 7.
        return [*super().head_metrics(), "accuracy"]


if __name__ == "__main__":
    long_runs.run(CIFAR10Modular, PRESETS)
