"""What the experiments on the modular loss share: modules, rates, Figures 2 to 7.

A recipe subclasses `ModularExperiment` and `ModularSettings` with its models and its
learning rates.
"""

import dataclasses

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from recipes import modular_figures
from recipes.common import setting
from recipes.image_experiment import ImageExperiment, ImageSettings

EXECUTIONS = ("separate", "stacked", "auto")
_OF_MODULES = ("coupling", "joint_rate_factor", "execution")


@dataclasses.dataclass(frozen=True)
class ModularSettings(ImageSettings):
    """Settings of a training run under the modular loss; a recipe adds its own."""

    coupling: float = setting(0.95, "lambda of the modular loss, at most 1.")
    joint_rate_factor: float = setting(
        1.0,
        "Of the learning rate, where modules are trained jointly.",
    )
    execution: str = setting(
        "stacked",
        "How modules are run: separate, stacked, or auto, the faster one. What is "
        "measured for convolutions of the latter two may round otherwise on resuming.",
    )

    # Names of the models that a recipe takes, all of the zoo.
    MODELS = ()

    def __post_init__(self):
        super().__post_init__()
        self.require_among(self.MODELS, "models")
        self.require("coupling", self.coupling <= 1, "be at most 1")
        self.require("joint_rate_factor", self.joint_rate_factor > 0, "be above 0")
        self.require_among(EXECUTIONS, "execution")


class ModularExperiment(ImageExperiment):
    """Networks of the zoo, in one module or many that share nothing.

    Attributes:
        joint_from: float, the lambda from which on modules count as trained jointly.
        rate_per_module: bool, whether the learning rate is multiplied by their number:
            the loss is a mean over modules.
    """

    symbols = {"coupling": r"$\lambda$"}
    # Where the learning rate is constant, a run may be made longer.
    scale_settings = (*ImageExperiment.scale_settings, "steps")
    joint_from = 1.0
    rate_per_module = False

    def is_affected(self, model, name):
        return name not in _OF_MODULES or _is_modular(model)

    def model_changes(self, run):
        """{field of the zoo's row: value to take in its place}."""
        return {}

    def learning_rate(self, settings, modules):
        """What the optimizer takes: a number or a schedule.

        Args:
            settings: `ModularSettings`.
            modules: int, how many are trained together; None for a single network.
        """
        rate = settings.learning_rate
        if modules is None:
            return rate
        if settings.coupling >= self.joint_from:
            rate *= settings.joint_rate_factor
        return rate * modules if self.rate_per_module else rate

    def build(self, run):
        options = self.model_changes(run)
        if _is_modular(run.model):
            options |= {
                "ensembler": eh.ensemblers.Mean("logits"),
                "seed": run.seed,
                "execution": run.settings.execution,
            }
        return zoo.build(run.model, **options)

    def compile(self, model, run):
        settings, modules, options = run.settings, None, {}
        if isinstance(model, eh.MultiHeadModel):
            modules = model.num_heads
            options = {"ensemble_loss": eh.losses.Modular(settings.coupling)}
        rate = self.learning_rate(settings, modules)
        model.compile(
            keras.optimizers.SGD(rate, momentum=settings.momentum),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=settings.jit_compile,
            **options,
        )

    def draw_analyses(self, path, analysed):
        modular_figures.write(path, analysed, self.title, _is_modular)


def _is_modular(model):
    return isinstance(zoo.SPECS[model], zoo.MultiHeadSpec)
