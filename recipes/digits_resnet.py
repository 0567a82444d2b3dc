r"""EnsembleNet against the single network it is made from, on handwritten digits.

    python recipes/digits_resnet.py                  # 12 runs, about three minutes
    python recipes/digits_resnet.py --preset=smoke   # synthetic, under a minute
    python recipes/digits_resnet.py --preset=figure2 # many weights, 75 runs
    python recipes/digits_resnet.py --preset=methods # every loss, 42 runs
    python recipes/digits_resnet.py --ensemble_loss=on_the_fly,modular --seeds=5

Trains a small residual network of the CIFAR kind on some of the digits that ship with
scikit-learn, then the network of two heads that `eh.multi_head` makes from it at no
more parameters and FLOPs, under the ensembling loss (lambda) and the co-distillation
loss (mu) of EnsembleNet, sections 3 and 4, or under any other loss of `eh.losses`, by
the names in `ensemble_methods.py`. A seed draws the weights and which digits
are for training; all others are the test part, on which accuracy is measured. Schedule
and sizes were chosen for the single network alone, on other seeds.

Writes to the workdir: the table (table.csv, table.md), every run (results.jsonl, one
line each, and models), learning curves, accuracy against lambda and mu as in Figure 2
of the paper, and the best model as a SavedModel, which is loaded back and tried.
Finished runs found in the workdir are not done again.

Result: accuracy in % with the standard error of the mean, the gain over the single
network of the same seed in brackets; preset demo, 3 seeds, 2-core CPU, three minutes.

                   TensorFlow 2.15                  TensorFlow 2.21
    single network 98.00 ± 0.19                     98.07 ± 0.04
    lambda = 0     98.07 ± 0.15 (+0.08 ± 0.29)      98.36 ± 0.26 (+0.28 ± 0.30)
    lambda = -1.5  98.05 ± 0.11 (+0.05 ± 0.11)      98.10 ± 0.30 (+0.03 ± 0.34)
    mu = 3         98.23 ± 0.20 (+0.23 ± 0.04)      98.30 ± 0.04 (+0.23 ± 0.09)

Preset methods: the table in README.md.
"""

import dataclasses
import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ensemble_heads as eh
import zoo
from datasets import digits
from ensemble_heads.keras_api import keras
from recipes import common, comparison, ensemble_methods
from recipes.common import setting


@dataclasses.dataclass(frozen=True)
class Config(ensemble_methods.MethodSettings):
    """Settings of the comparison; each is a flag."""

    seeds: int = setting(3, "Runs per method, with the seeds 0, 1, …")
    synthetic: bool = setting(False, "Take noisy bars in place of the digits.")
    train_examples: int = setting(500, "Digits for training, of 1797.")
    max_shift: int = setting(1, "Augmentation: shift by up to so many pixels.")
    blocks: tuple[int, ...] = setting((1, 1, 1), "Residual units in each stage.")
    width: int = setting(16, "Channels of the first stage; each next one doubles.")
    fork_at: str = setting("stage1", "Last layer of the trunk.")
    width_multiplier: str = setting(
        "auto", 'Width of the heads: a number, or "auto", the largest that fits.'
    )
    divisor: int = setting(1, "Widths of the heads are multiples of it.")
    epochs: int = setting(40, "Passes over the training part.")
    batch_size: int = setting(50, "Digits per training step.")
    learning_rate: float = setting(
        3e-3, "Of Adam at the start; falls to 0 by half a cosine."
    )
    evaluate_every: int = setting(4, "Epochs between the points of a learning curve.")
    evaluation_batch_size: int = setting(256, "Digits per step of evaluation.")

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(
            1,
            *("seeds", "width", "divisor", "epochs", "batch_size"),
            *("evaluate_every", "evaluation_batch_size"),
        )
        some = self.blocks and min(self.blocks) >= 1
        self.require("blocks", some, "hold at least one unit for each stage")
        last = digits.EXAMPLES - 1
        in_range = 1 <= self.train_examples <= last
        self.require("train_examples", in_range, f"be from 1 to {last}")
        self.require("max_shift", 0 <= self.max_shift <= 7, "be from 0 to 7")
        self.require("learning_rate", self.learning_rate > 0, "be above 0")
        try:
            multiplier = self.multiplier
        except ValueError:
            multiplier = 0.0
        fits = multiplier == "auto" or 0 < multiplier <= 4
        self.require("width_multiplier", fits, 'be "auto" or a number in (0, 4]')

    @property
    def multiplier(self):
        """`width_multiplier` as `eh.multi_head` takes it."""
        given = self.width_multiplier
        return given if given == "auto" else float(given)

    @property
    def training_steps(self):
        return self.epochs * -(-self.train_examples // self.batch_size)


PRESETS = {
    "demo": Config(),
    "smoke": Config(
        ensemble_weights=(-1.5,),
        seeds=2,
        synthetic=True,
        train_examples=200,
        blocks=(1, 1),
        width=8,
        epochs=6,
        batch_size=20,
        learning_rate=1e-2,
        evaluate_every=3,
    ),
    "methods": Config(
        ensemble_loss=ensemble_methods.NAMES, ensemble_weights=(0.0, -1.5)
    ),
    "figure2": Config(
        ensemble_weights=(1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0, -3.0),
        distillation_weights=(0.0, 1.0, 2.0, 3.0, 4.0, 6.0),
        seeds=5,
    ),
}


class DigitsStudy(comparison.Study):
    """The single network and its multi-headed versions on the digits."""

    name = "digits_resnet"
    title = "Handwritten digits"

    def __init__(self, config):
        super().__init__(config)
        self._trained = {}  # {seed: weights of the single network}

    def methods(self):
        several = ensemble_methods.methods(self.config, lambda: self._teacher)
        return [comparison.SINGLE, *several]

    def train(self, method, seed, callbacks=()):
        if isinstance(method.ensemble_loss, eh.losses.Distillation):
            if seed not in self._trained:
                self.train(comparison.SINGLE, seed)
            self._teacher.set_weights(self._trained[seed])
        record, model = super().train(method, seed, callbacks)
        if method == comparison.SINGLE:
            self._trained[seed] = model.get_weights()
        return record, model

    def draw(self, method, seed):
        keras.utils.set_random_seed(seed)
        single = self._single_network()
        if method.ensemble_loss is None:
            return single
        return self._multi_head(single, self._multiplier, seed, method.ensembler())

    def compile(self, model, method):
        config = self.config
        schedule = keras.optimizers.schedules.CosineDecay(
            config.learning_rate, config.training_steps
        )
        own = {"ensemble_loss": method.ensemble_loss} if method.ensemble_loss else {}
        model.compile(
            optimizer=keras.optimizers.Adam(schedule),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            **own,
        )

    def load_for(self, method, seed):
        numbered = isinstance(method.ensemble_loss, eh.losses.Bagging)
        return self.load("train", seed, numbered)

    def load(self, split, seed, numbered=False):
        config = self.config
        is_train = split == "train"
        return digits.load(
            split,
            batch_size=config.batch_size if is_train else config.evaluation_batch_size,
            seed=seed,
            train_examples=config.train_examples,
            max_shift=config.max_shift,
            synthetic=config.synthetic,
            numbered=numbered,
        )

    def test_examples(self):
        return digits.EXAMPLES - self.config.train_examples

    def decides_a_run(self):
        only_which = {"seeds", *self.config.CHOICES}
        return {k: v for k, v in self.config.as_dict().items() if k not in only_which}

    @functools.cached_property
    def _teacher(self):
        """The network to learn from; before a run it gets what its seed has trained."""
        return self._single_network()

    def _single_network(self):
        config = self.config
        widths = [config.width << stage for stage in range(len(config.blocks))]
        spec = zoo.SPECS["cifar_resnet20"].with_changes(
            blocks=config.blocks,
            widths=widths,
            stem_width=config.width,
            input_shape=digits.IMAGE_SHAPE,
            classes=digits.CLASSES,
        )
        return spec.build(f"cifar_resnet{2 * sum(config.blocks) + 2}")

    @functools.cached_property
    def _multiplier(self):
        """What "auto" finds; sought once, since it depends on no weights."""
        try:
            model = self._multi_head(self._single_network(), self.config.multiplier, 0)
        except ValueError as error:
            sys.exit(str(error))  # what is wrong with fork_at, say, in one paragraph
        return model.width_multiplier

    def _multi_head(self, single, width_multiplier, seed, ensembler="mean"):
        return eh.multi_head(
            single,
            self.config.fork_at,
            num_heads=self.config.num_heads,
            width_multiplier=width_multiplier,
            divisor=self.config.divisor,
            ensembler=ensembler,
            seed=seed,
        )


def main(config, options):
    comparison.compare(DigitsStudy(config), options)


if __name__ == "__main__":
    common.run(main, PRESETS)
