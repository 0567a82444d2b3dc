r"""ONE, distillation by an on-the-fly native ensemble, Tables 1, 3, 4, 5 and 6.

    python recipes/cifar_one.py --preset=smoke               # synthetic, half a minute
    python recipes/cifar_one.py --data_dir=…                 # Table 1, CIFAR-100
    python recipes/cifar_one.py --data_dir=… --data_set=cifar10 \
        --sweep=network=cifar_resnet32,cifar_resnet110,resnext29,densenet190
    python recipes/cifar_one.py --preset=svhn --data_dir=…
    python recipes/cifar_one.py --data_dir=… --models=mutual_learning --num_heads=2
    python recipes/cifar_one.py --data_dir=… --models=distillation \
        --teacher=runs/…/single-seed0                        # Table 3
    python recipes/cifar_one.py --data_dir=… --models=independent \
        --sweep=num_heads=2,3                                # Table 4
    python recipes/cifar_one.py --data_dir=… --network=cifar_resnet110 \
        --models=one,no_distillation,no_sharing,no_gating    # Table 5
    python recipes/cifar_one.py --data_dir=… --models=one --sweep=num_heads=2,3,4,5
    python recipes/cifar_one.py analyse --data_dir=… --perturbed_examples=10000 # Fig. 3
    python recipes/cifar_one.py --preset=reduced --data_dir=…    # Table 5 in kind

Branches share all but the last stage; a gate on what they share weights them into the
teacher that they learn from. SGD with Nesterov momentum 0.9, batches of 128, learning
rate 0.1 and a tenth of it after half and after three quarters of 300 epochs (40 of
SVHN). What is named `models` here are the methods. In the table "accuracy" is that of
all branches (ONE-E), "head" that of one branch, the mean over all (ONE).

Paper (Lan et al. 2018), error in %, ResNet-32: CIFAR-10 6.93 single, 5.99 ONE;
CIFAR-100 31.18 single, 26.61 ONE, 24.63 ONE-E, 28.83 distillation, 29.03 mutual
learning, 26.75 and 25.14 two and three networks; SVHN 2.11 single, 1.83 ONE. ResNet-110
on CIFAR-100, ONE / ONE-E: 21.62 / 21.03, without distillation 24.73 / 21.84, without
sharing 22.45 / 20.57, without gate 22.26 / 21.79.
Result (docs/results.md): preset `reduced`, CIFAR-10, 5 epochs of a ResNet-20, one seed,
accuracy in % of all branches / of one: single 78.20; ONE 76.57 / 76.24, without
distillation 80.13 / 79.37, without sharing 78.00 / 77.06, without gate 75.24 / 74.97.
Branches help, and distillation hurts in so short a training; the gate and, at three
times the FLOPs, separate trunks help. The paper's schedule is not measured.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ensemble_heads as eh
import zoo
from datasets import cifar, svhn
from ensemble_heads.keras_api import keras
from recipes import folders, long_runs, long_training, optimum_widths
from recipes.classification import SteppedSettings
from recipes.common import SettingError, setting
from recipes.found_runs import as_configured
from recipes.image_experiment import ImageExperiment, ImageSettings
from recipes.run_folder import RunFolder
from recipes.sweeps import Run

SINGLE, TEACHER = "single", "distillation"
ABLATIONS = ("no_distillation", "no_sharing", "no_gating")
GATED = ("one", "no_distillation", "no_sharing")
UNSHARED = ("no_sharing", "independent", "mutual_learning")
METHODS = (SINGLE, "one", *ABLATIONS, "independent", "mutual_learning", TEACHER)
# The rows of the zoo with branches; their base is the single network.
NETWORKS = {
    "cifar_resnet32": "cifar_resnet32_3heads",
    "cifar_resnet110": "cifar_resnet110_bottleneck_3heads",
    "resnext29": "resnext29_8x64d_3heads",
    "densenet190": "densenet_bc_190_40_3heads",
}
CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10}


@dataclasses.dataclass(frozen=True)
class Config(SteppedSettings, ImageSettings):
    """Settings of a training run; each is a flag."""

    models: tuple[str, ...] = setting(
        (SINGLE, "one"), f"Methods, each a run per seed: {', '.join(METHODS)}."
    )
    data_set: str = setting("cifar100", f"One of {', '.join(CLASSES)}.")
    extra: bool = setting(True, "SVHN: train on its 531,131 extra images as well.")
    network: str = setting("cifar_resnet32", f"One of {', '.join(NETWORKS)}.")
    units: int = setting(0, "Units in each stage of a ResNet; 0: as published.")
    num_heads: int = setting(3, "Branches, m + 1.")
    temperature: float = setting(3.0, "T of the distillation.")
    ramp_up_steps: int = setting(
        0, "Steps over which the distillation grows, as in the authors' code; 0: not."
    )
    teacher: str = setting(
        "", f"For {TEACHER}: folder of a finished run of this recipe."
    )
    nesterov: bool = setting(True, "Of SGD's momentum.")
    perturbed_examples: int = setting(
        0,
        "Analyse: training and test images, of each so many, for the width of the "
        "optimum that a network, or the first branch, has found. 30 passes over them.",
    )

    def __post_init__(self):
        super().__post_init__()
        self.require_among(METHODS, "models")
        self.require_among(CLASSES, "data_set")
        self.require_among(NETWORKS, "network")
        self.require_at_least(0, "units", "ramp_up_steps", "perturbed_examples")
        self.require_at_least(1, "num_heads")
        resnet = not self.units or self.network.startswith("cifar_resnet")
        self.require("units", resnet, "be 0 where the network is no ResNet")
        self.require("temperature", self.temperature > 0, "be above 0")


PAPER = Config(
    steps=117_300,  # 300 epochs of 391
    batch_size=128,
    evaluation_batch_size=500,
    log_every=100,
    evaluate_every=2000,
    checkpoint_every=1000,
)
PRESETS = {
    "paper": PAPER,
    # 40 epochs of 4,722
    "svhn": dataclasses.replace(PAPER, data_set="svhn", steps=188_880),
    # Table 5 in kind on a small machine: ResNet-20, 5 epochs of CIFAR-10.
    "reduced": dataclasses.replace(
        PAPER,
        models=(SINGLE, "one", *ABLATIONS),
        data_set="cifar10",
        units=3,
        steps=1955,
        evaluate_every=500,
        checkpoint_every=500,
    ),
    "smoke": Config(
        data_set="cifar10",
        models=(SINGLE, "one", "no_sharing"),
        synthetic=320,
        units=1,
        num_heads=2,
        learning_rate=0.1,
        steps=100,
        batch_size=32,
        evaluation_batch_size=32,
        log_every=20,
        evaluate_every=100,
        checkpoint_every=60,
    ),
}


class CIFAROne(ImageExperiment):
    """A network by itself, and branches of it that learn from their ensemble."""

    name = "cifar_one"
    title = "ONE"
    symbols = {"num_heads": "branches"}
    notes = (
        "; accuracy: of all branches; head: of one, the mean over all; oracle: of the "
        "branch that is right where any is; branch: what one branch has with the trunk."
    )
    scale_settings = (*ImageExperiment.scale_settings, "perturbed_examples")

    def check_data(self, settings):
        known = TEACHER not in settings.models or settings.teacher
        settings.require("teacher", known, "name the folder of the teacher's run")

    def images(self, settings):
        if settings.data_set == "svhn":
            return svhn.images(settings.extra), "unit", False
        return cifar.images(CLASSES[settings.data_set]), "standardised", True

    def is_affected(self, model, name):
        if name in ("data_set", "data_dir", "extra"):
            rule = f"not hold {name}: a data set has a folder and a table of its own"
            raise SettingError("sweep", rule, name)
        if name == "num_heads":
            return model not in (SINGLE, TEACHER)
        if name == "temperature":
            return model in ("one", "no_sharing", "no_gating", TEACHER)
        if name == "ramp_up_steps":
            return model in ("one", "no_sharing", "no_gating")
        return name != "teacher" or model == TEACHER

    def build(self, run):
        settings, spec = run.settings, zoo.SPECS[NETWORKS[run.settings.network]]
        spec = spec.with_changes(classes=CLASSES[settings.data_set])
        if settings.units:
            spec = spec.with_changes(blocks=(settings.units,) * 3)
        if run.model == SINGLE:
            return spec.base.build(run.model)
        mean = "logits" if run.model == "no_gating" else "probabilities"
        gated = run.model in GATED
        return spec.with_changes(
            fork_at="images" if run.model in UNSHARED else spec.fork_at,
            num_heads=1 if run.model == TEACHER else settings.num_heads,
            ensembler=eh.ensemblers.Gated() if gated else eh.ensemblers.Mean(mean),
            seed=run.seed,
        ).build(run.model)

    def compile(self, model, run):
        settings, options = run.settings, {}
        if isinstance(model, eh.MultiHeadModel):
            options["ensemble_loss"] = self._ensemble_loss(run)
        model.compile(
            keras.optimizers.SGD(
                settings.falling_rate(),
                momentum=settings.momentum,
                nesterov=settings.nesterov,
            ),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=settings.jit_compile,
            **options,
        )

    def sizes(self, model):
        sizes = super().sizes(model)
        if isinstance(model, eh.MultiHeadModel):
            branch = super().sizes(model.head(0))
            sizes |= {f"branch_{name}": value for name, value in branch.items()}
        return sizes

    def export(self, model, run, path):
        """One branch, which is what is deployed (ONE), and all of them (ONE-E)."""
        if not isinstance(model, eh.MultiHeadModel):
            return super().export(model, run, path)
        parts = {"one": model.head(0), "one_e": model}
        return [eh.export(part, path / name) for name, part in parts.items()]

    def analyse_weights(self, model, run, path):
        size = run.settings.evaluation_batch_size
        count = run.settings.perturbed_examples
        if not count:
            return
        # The network that is deployed, as in the paper.
        several = isinstance(model, eh.MultiHeadModel)
        parts = {
            "training": self._load(run, "train", size, shuffle=False),
            "test": self.evaluation_data(run),
        }
        for part, data in parts.items():
            there = sum(len(labels) for _, labels in data)
            rule = f"be at most the {there} images of the {part} part"
            run.settings.require("perturbed_examples", count <= there, rule)
        parts = {
            part: data.unbatch().take(count).batch(size) for part, data in parts.items()
        }
        model = model.head(0) if several else model
        optimum_widths.measure(model, parts, count, path)

    def draw_analyses(self, path, analysed):
        optimum_widths.draw(path, analysed, self.title)

    def _ensemble_loss(self, run):
        settings = run.settings
        if run.model == "independent":
            return eh.losses.Ensembling(0.0)
        if run.model == "mutual_learning":
            return eh.losses.MutualLearning()  # at its own paper's temperature, 1
        if run.model == TEACHER:
            return eh.losses.Distillation(self._teacher(run), settings.temperature)
        distilled = run.model != "no_distillation"
        return eh.losses.OnTheFly(
            settings.temperature, float(distilled), settings.ramp_up_steps or None
        )

    def _teacher(self, run):
        """The trained network that `--teacher` names, as it was configured there."""
        path = Path(run.settings.teacher).expanduser()
        try:
            text = (path / folders.CONFIG).read_text(encoding="utf-8")
        except OSError as error:
            rule = "name the folder of a run, which holds its config.json"
            raise SettingError("teacher", rule, path) from error
        config = json.loads(text)
        mine = {"recipe": self.name, "data_set": run.settings.data_set}
        if any(config.get(name) != value for name, value in mine.items()):
            rule = f"be a run of this recipe on {run.settings.data_set}"
            raise SettingError("teacher", rule, path)
        settings = as_configured(run.settings, config)
        teacher = Run(config["model"], settings, config["seed"])
        model, *_ = long_training.restored(self, teacher, RunFolder(path))
        keras.mixed_precision.set_global_policy(run.settings.precision)
        return model


if __name__ == "__main__":
    long_runs.run(CIFAROne, PRESETS)
