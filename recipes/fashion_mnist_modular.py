r"""Modular ensembles of small perceptrons on Fashion-MNIST, joint training, Table 2.

    python recipes/fashion_mnist_modular.py --preset=smoke      # synthetic, a minute
    python recipes/fashion_mnist_modular.py --data_dir=… \
        --sweep=coupling=0,0.5,0.8,0.9,0.95,0.99,1              # Figure 2
    python recipes/fashion_mnist_modular.py --preset=reduced --data_dir=… \
        --sweep=coupling=0,0.5,0.9,0.95,0.99,1                  # 20 of 200 epochs
    python recipes/fashion_mnist_modular.py report              # table and plots again
    python recipes/fashion_mnist_modular.py analyse --data_dir=…    # Figures 2 to 5

About 815 K parameters as one network of 1024 hidden units, or as 16, 64 or 256 modules
of 64, 16 or 4, trained between independently (lambda = 0) and jointly (lambda = 1). A
seed draws the weights, the order and the 10,000 training images that are held out; the
evaluation reported is that of the epoch with the best accuracy on these.

Paper (Webb et al., Joint Training of Neural Network Ensembles, section 4.1; 200 epochs,
5 seeds), test error: 1-M-1024-H 10.2 %; 256-M-4-H 16.3 % at lambda = 0, 10.3 % at
lambda = 0.95, 10.5 % at lambda = 1.
Result (docs/results.md; one seed): after 200 epochs 10.2 %; 16.1 %, 10.5 %, 10.7 %.
After 20, at lambda = 0, 0.95 and 1: 16-M-64-H 11.1, 10.9, 11.2 %; 64-M-16-H 12.5, 11.1,
11.0 %; 256-M-4-H 16.7, 11.1, 11.1 %; and 1-M-1024-H 11.1 %.
"""

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import zoo
from datasets import fashion_mnist
from recipes import long_runs
from recipes.common import setting
from recipes.modular_experiment import ModularExperiment, ModularSettings

MODELS = tuple(name for name in zoo.names() if name.startswith("mlp_"))
# From here on the paper's code takes a smaller learning rate.
_NEARLY_JOINT = 0.99


@dataclasses.dataclass(frozen=True)
class Config(ModularSettings):
    """Settings of a training run; each is a flag."""

    models: tuple[str, ...] = setting(
        MODELS, f"Models, each a run per seed: {', '.join(MODELS)}."
    )
    learning_rate: float = setting(
        0.02, "Of SGD, for each module: the loss is a mean over modules."
    )
    joint_rate_factor: float = setting(
        0.3, f"What the rate is multiplied by where coupling >= {_NEARLY_JOINT}."
    )

    MODELS = MODELS


PAPER = Config(
    seeds=5,
    steps=100_000,  # 200 epochs of 50,000 images
    batch_size=100,
    evaluation_batch_size=1000,
    validation_examples=10_000,
    log_every=500,
    evaluate_every=500,
    checkpoint_every=5000,
)
PRESETS = {
    "paper": PAPER,
    "reduced": dataclasses.replace(PAPER, seeds=1, steps=10_000),
    "smoke": Config(
        models=("mlp_1m_1024h", "mlp_16m_64h"),
        synthetic=1000,
        steps=60,
        batch_size=50,
        evaluation_batch_size=100,
        validation_examples=200,
        log_every=20,
        evaluate_every=20,
        checkpoint_every=40,
    ),
}


class FashionMNISTModular(ModularExperiment):
    """Perceptrons of the same size, in one module or many."""

    name = "fashion_mnist_modular"
    title = "Fashion-MNIST"
    image_set = fashion_mnist.IMAGES
    class_names = fashion_mnist.CLASS_NAMES
    joint_from = _NEARLY_JOINT
    rate_per_module = True


if __name__ == "__main__":
    long_runs.run(FashionMNISTModular, PRESETS)
