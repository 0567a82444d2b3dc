r"""Modular ensembles of DenseNets on CIFAR-100, joint training, Tables 5 and 6.

    python recipes/cifar100_densenet.py --preset=smoke          # synthetic, a minute
    python recipes/cifar100_densenet.py --data_dir=… \
        --sweep=coupling=0,0.5,0.9,1                            # Table 5
    python recipes/cifar100_densenet.py report                  # table and plots again
    python recipes/cifar100_densenet.py analyse --data_dir=…    # Table 6, Figure 10

4 modules of DenseNet-BC-100-12, 8 of 82-8 or 16 of 64-6 (Webb et al., Joint Training of
Neural Network Ensembles, section 4.3), 300 epochs of all 50,000 training images, crops
and mirrored images. The evaluation reported is that after the last step. Made for
accelerators: on CPUs an epoch takes hours.

Paper (3 seeds), test error at lambda = 0, 0.5, 0.9, 1: DN-100-12-4 17.8, 18.8, 20.3,
22.1 %; DN-82-8-8 19.9, 20.0, 22.4, 25.7 %; DN-64-6-16 25.0, 23.5, 25.9, 29.6 %.
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
from recipes.classification import SteppedSettings
from recipes.common import setting
from recipes.modular_experiment import ModularExperiment, ModularSettings

# Webb et al., Table 4.
MODELS = tuple(f"densenet_bc_{kind}heads" for kind in ("100_12_4", "82_8_8", "64_6_16"))
_EPOCH = 782  # steps: the last batch has 16 images


@dataclasses.dataclass(frozen=True)
class Config(ModularSettings, SteppedSettings):
    """Settings of a training run; each is a flag."""

    models: tuple[str, ...] = setting(
        MODELS, f"Models, each a run per seed: {', '.join(MODELS)}."
    )
    coupling: float = setting(0.5, "lambda of the modular loss, at most 1.")
    learning_rate: float = setting(0.1, "Of SGD at the start, for all modules.")
    execution: str = setting(
        "separate", "How modules are run: separate, stacked, or auto, the faster one."
    )
    num_heads: int | None = setting(None, "Modules; none: as the model's name says.")
    depth: int | None = setting(None, "Layers of a module, 6 n + 4; none: likewise.")
    growth: int | None = setting(None, "Channels that a unit adds; none: likewise.")

    MODELS = MODELS

    def __post_init__(self):
        super().__post_init__()
        if self.num_heads is not None:
            self.require_at_least(2, "num_heads")
        if self.growth is not None:
            self.require_at_least(1, "growth")
        depth = self.depth
        fits = depth is None or depth >= 10 and (depth - 4) % 6 == 0
        self.require("depth", fits, "be 6 n + 4, n >= 1")


PRESETS = {
    "paper": Config(
        seeds=3,
        steps=300 * _EPOCH,  # the rate falls after epochs 150 and 225
        batch_size=64,
        evaluation_batch_size=250,
        log_every=_EPOCH,
        evaluate_every=_EPOCH,
        checkpoint_every=_EPOCH,
    ),
    "smoke": Config(
        models=MODELS[2:],
        num_heads=2,
        depth=10,
        growth=4,
        learning_rate=0.5,
        rate_drops=(0.8,),
        synthetic=200,
        steps=160,
        batch_size=20,
        evaluation_batch_size=50,
        log_every=40,
        evaluate_every=80,
        checkpoint_every=80,
    ),
}


class CIFAR100DenseNet(ModularExperiment):
    """DenseNets, trained between independently and jointly."""

    name = "cifar100_densenet"
    title = "CIFAR-100, DenseNets"
    # The learning rate falls at shares of the steps, so a run cannot be made longer.
    scale_settings = tuple(
        name for name in ModularExperiment.scale_settings if name != "steps"
    )
    image_set = cifar.images(100)
    augment = True

    def model_changes(self, run):
        fields = ("num_heads", "depth", "growth")
        values = {name: getattr(run.settings, name) for name in fields}
        return {name: value for name, value in values.items() if value is not None}

    def learning_rate(self, settings, modules):
        return settings.falling_rate()


if __name__ == "__main__":
    long_runs.run(CIFAR100DenseNet, PRESETS)
