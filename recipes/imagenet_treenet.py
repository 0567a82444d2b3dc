r"""Ensembles and TreeNets of Network in Network and CaffeNet, Why M Heads, on ImageNet.

    python recipes/imagenet_treenet.py --preset=smoke           # made-up data, a minute
    python recipes/imagenet_treenet.py --data_dir=…             # Tables 1 and 3, NiN
    python recipes/imagenet_treenet.py --data_dir=… --models=independent --num_heads=4 \
        --sweep=fork_at=images,conv1,cccp1,cccp2,conv2,cccp3,cccp4          # Table 2
    python recipes/imagenet_treenet.py --preset=caffenet --data_dir=… \
        --models=independent --sweep=fork_at=images,conv1,conv2,conv3,conv4,conv5

450,000 steps with momentum 0.9 and weight decay 0.0005: of Network in Network by 128
images, with a tenth of the learning rate every 200,000 steps; of CaffeNet by 256, every
100,000. Images are cut as Caffe cuts them: 224 or 227 of 256 pixels of either side,
mirrored or not, less the mean. What is named `models` here are the methods;
docs/papers.md says what the paper leaves open, the learning rate among it.

Paper (Lee et al. 2015; 3 trials; ensemble-mean accuracy in %): NiN 58.90 single, 64.08
five networks (Table 1) or four (Table 2), four split at cccp1 65.69; CaffeNet 56.79,
five networks 59.47 (Table 2) or 59.94 (Tables 1 and 3), split at conv1 59.62.
Result: not measured.
"""

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import zoo
from recipes import long_runs
from recipes.common import setting
from recipes.imagenet_experiment import ImageNetExperiment, ImageNetSettings
from recipes.treenet_experiment import (
    SINGLE,
    TreeNetExperiment,
    TreeNetSettings,
    is_bagged,
)

NETWORKS = {"nin": "nin_imagenet_4heads", "caffenet": "caffenet_5heads"}
FORKS = {
    "nin": ("images", "conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4"),
    "caffenet": ("images", "conv1", "conv2", "conv3", "conv4", "conv5"),
}
_WARPED = 256  # pixels of either side, of which Caffe cuts its windows


@dataclasses.dataclass(frozen=True)
class Config(TreeNetSettings, ImageNetSettings):
    """Settings of a training run; each is a flag."""

    network: str = setting("nin", f"One of {', '.join(NETWORKS)}.")

    def __post_init__(self):
        self.require_among(NETWORKS, "network")
        super().__post_init__()
        fits = self.image_size <= _WARPED
        self.require("image_size", fits, f"be at most {_WARPED}")

    def forks(self):
        return FORKS[self.network]


PAPER = Config(
    seeds=3,
    num_heads=5,
    steps=450_000,
    batch_size=128,
    evaluation_batch_size=128,
    rate_drops=(200 / 450, 400 / 450),
    log_every=100,
    evaluate_every=10_000,
    checkpoint_every=2000,
)
PRESETS = {
    "paper": PAPER,
    "caffenet": dataclasses.replace(
        PAPER,
        network="caffenet",
        image_size=227,
        batch_size=256,
        rate_drops=(100 / 450, 200 / 450, 300 / 450, 400 / 450),
    ),
    "smoke": Config(
        models=(SINGLE, "independent"),
        num_heads=2,
        fork_at="cccp1",
        num_classes=4,
        image_size=96,
        synthetic=160,
        learning_rate=0.01,
        rate_drops=(),
        steps=40,
        batch_size=16,
        evaluation_batch_size=16,
        log_every=20,
        evaluate_every=40,
        checkpoint_every=20,
    ),
}


class ImageNetTreeNet(TreeNetExperiment, ImageNetExperiment):
    """One network, or several that share their first layers or nothing."""

    name = "imagenet_treenet"
    id_key = "number"

    def load_options(self, run, split):
        share = run.settings.image_size / _WARPED
        options = {"windows": "shifted", "share": share, "pixels": "centred"}
        return options | ({"colours": None} if split == "train" else {})

    def needs_numbers(self, run):
        return is_bagged(run.model)

    def ensemble_spec(self, settings):
        size = (settings.image_size,) * 2
        return zoo.SPECS[NETWORKS[settings.network]].with_changes(
            input_shape=(*size, 3), classes=settings.num_classes
        )


if __name__ == "__main__":
    long_runs.run(ImageNetTreeNet, PRESETS)
