r"""EnsembleNet on ImageNet: ResNet-152 and SE-ResNet-152, Table 1.

    python recipes/imagenet_resnet.py --preset=smoke          # made-up data, a minute
    python recipes/imagenet_resnet.py --data_dir=gs://… --strategy=tpu --workdir=…
    python recipes/imagenet_resnet.py --data_dir=… \
        --sweep=distillation_weight=0,1,2,3,4 --seeds=3       # Figure 2, bottom
    python recipes/imagenet_resnet.py --data_dir=… --models=se_resnet152_2heads \
        --ensemble_weight=-1.5                                # a row of Table 1 (b)
    python recipes/imagenet_resnet.py --preset=gpus --data_dir=… --optimizer=lamb
    python recipes/imagenet_resnet.py evaluate --data_dir=…   # the newest checkpoints
    python recipes/imagenet_resnet.py export --data_dir=…     # SavedModels
    python recipes/imagenet_resnet.py report                  # table and plots again

Momentum 0.9; the learning rate begins at 0.01 for batches of 4096 and is a fifth after
every 60 epochs; label smoothing 0.1; crops of random scale and aspect ratio, mirrored,
with changed colours; evaluation on the crop in the middle. Other batches take a
learning rate in proportion. The rows of Table 1 by name: `resnet152`,
`resnet152_2heads` with `--ensemble_weight=1`, `0`, `-1.5` or `--distillation_weight=3`,
and the same of `se_resnet152`. What the paper leaves open is in docs/papers.md.

Paper (EnsembleNet, Table 1; 128 TPU v3 cores; top-1 / top-5 in %): ResNet-152 78.54 /
94.05; two heads with lambda = 1 77.74 / 93.43, 0 79.85 / 94.98, -1.5 80.28 / 95.27,
mu = 3 80.58 / 95.38. SE-ResNet-152 78.85 / 94.25; 78.83 / 93.75, 80.76 / 95.33, 81.36 /
95.67, 81.75 / 95.82.
Result: not measured.
"""

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ensemble_heads as eh
import zoo
from recipes import ensemble_weights, long_runs
from recipes.classification import ScaledSettings, SteppedSettings
from recipes.common import setting
from recipes.ensemble_weights import EnsembleSettings
from recipes.imagenet_experiment import IMAGES, ImageNetExperiment, ImageNetSettings

DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SINGLES = (*DEPTHS, *(f"se_{name}" for name in DEPTHS))
MODELS = (*SINGLES, "resnet152_2heads", "se_resnet152_2heads")
_BATCH = 4096  # to which the learning rate belongs
_EPOCH = -(-IMAGES // _BATCH)


@dataclasses.dataclass(frozen=True)
class Config(EnsembleSettings, SteppedSettings, ScaledSettings, ImageNetSettings):
    """Settings of a training run; each is a flag."""

    of_batch = _BATCH

    models: tuple[str, ...] = setting(
        ("resnet152", "resnet152_2heads"),
        f"Models, each a run per seed: {', '.join(MODELS)}.",
    )
    learning_rate: float = setting(
        0.01, f"At the start, for batches of {_BATCH}; others take it in proportion."
    )
    rate_drops: tuple[float, ...] = setting(
        (0.25, 0.5, 0.75),
        "Shares of the steps after each of which the learning rate falls.",
    )
    drop_factor: float = setting(0.2, "What it is multiplied by at each of them.")
    label_smoothing: float = setting(0.1, "Share of the truth that is even.")
    weight_decay: float = setting(
        1e-4, "c of the penalty c / 2 |w|^2, of weights and batch norms' gammas."
    )
    batch_norm_synchronized: bool = setting(
        False, "Batch norms see the batch of all replicas."
    )
    units: int = setting(0, "Units in each stage; 0: as published.")

    def __post_init__(self):
        super().__post_init__()
        self.require_among(MODELS, "models")
        self.require("label_smoothing", 0 <= self.label_smoothing < 1, "be in [0, 1)")
        self.require_at_least(0, "weight_decay", "units")


PAPER = Config(
    steps=240 * _EPOCH,  # the paper does not say how many
    batch_size=_BATCH,
    evaluation_batch_size=1000,
    log_every=_EPOCH // 3,
    evaluate_every=_EPOCH // 3 * 15,
    checkpoint_every=_EPOCH // 3 * 3,
)
PRESETS = {
    "paper": PAPER,
    # Eight GPUs of one host, 32 images each.
    "gpus": dataclasses.replace(
        PAPER,
        steps=240 * (IMAGES // 256),
        batch_size=256,
        evaluation_batch_size=256,
        strategy="mirrored",
        log_every=500,
        evaluate_every=25_000,
        checkpoint_every=2500,
    ),
    "smoke": Config(
        models=("resnet152", "resnet152_2heads"),
        units=1,
        num_classes=4,
        image_size=32,
        synthetic=160,
        learning_rate=0.64,  # 0.0025 for batches of 16
        rate_drops=(),
        steps=60,
        batch_size=16,
        evaluation_batch_size=16,
        log_every=20,
        evaluate_every=60,
        checkpoint_every=20,
    ),
}


class ImageNetResNet(ImageNetExperiment):
    """Residual networks, alone and with two heads at their size."""

    name = "imagenet_resnet"

    def is_affected(self, model, name):
        return ensemble_weights.is_affected(model, name)

    def build(self, run):
        settings, spec = run.settings, zoo.SPECS[run.model]
        changes = {
            "classes": settings.num_classes,
            "input_shape": (settings.image_size,) * 2 + (3,),
            "weight_decay": settings.weight_decay,
            "batch_norm_synchronized": settings.batch_norm_synchronized,
        }
        if settings.units:
            changes["blocks"] = (settings.units,) * 4
        if isinstance(spec, zoo.MultiHeadSpec):
            changes["seed"] = run.seed
        return spec.with_changes(**changes).build(run.model)

    def compile(self, model, run):
        settings = run.settings
        scaled = settings.with_changes(learning_rate=settings.scaled_rate)
        model.compile(
            settings.make_optimizer(scaled.falling_rate()),
            eh.losses.SparseCategoricalCrossentropy(
                label_smoothing=settings.label_smoothing
            ),
            metrics=["accuracy"],
            jit_compile=settings.jit_compile,
            **settings.compile_options(model),
        )


if __name__ == "__main__":
    long_runs.run(ImageNetResNet, PRESETS)
