"""What a recipe of long training runs tells the plumbing that all of them share."""

import contextlib
import dataclasses

import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import strategies
from ensemble_heads.keras_api import keras
from recipes import common
from recipes.common import setting


@dataclasses.dataclass(frozen=True)
class TrainingSettings(common.Settings):
    """Settings of every long training run; a recipe adds its own."""

    models: tuple[str, ...] = setting((), "Rows of the zoo, each a run per seed.")
    seeds: int = setting(1, "Runs per model, with the seeds 0, 1, …")
    steps: int = setting(1000, "Training steps.")
    batch_size: int = setting(32, "Examples per step, over all replicas.")
    evaluation_batch_size: int = setting(32, "Examples per step of evaluation.")
    log_every: int = setting(100, "Steps between the points of a learning curve.")
    checkpoint_every: int = setting(
        1000, "Steps between checkpoints, a multiple of log_every."
    )
    evaluate_every: int = setting(
        1000, "Steps between evaluations, a multiple of log_every."
    )
    strategy: str = setting("auto", f"Where to train: {', '.join(strategies.NAMES)}.")
    worker_timeout: float = setting(
        300.0, "Seconds that multi_worker waits for the other workers to be started."
    )
    precision: str = setting(
        "float32", "Keras' dtype policy: float32, mixed_bfloat16 or mixed_float16."
    )
    jit_compile: bool = setting(False, "Compile training steps by XLA.")

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(
            1,
            *("seeds", "steps", "batch_size", "evaluation_batch_size", "log_every"),
            *("checkpoint_every", "evaluate_every"),
        )
        once = len(set(self.models)) == len(self.models) >= 1
        self.require("models", once, "name at least one model, and each once")
        for name in ("checkpoint_every", "evaluate_every"):
            fits = getattr(self, name) % self.log_every == 0
            self.require(name, fits, f"be a multiple of log_every={self.log_every}")
        self.require_among(strategies.NAMES, "strategy")
        self.require("worker_timeout", self.worker_timeout > 0, "be above 0")
        policies = ("float32", "mixed_bfloat16", "mixed_float16")
        self.require_among(policies, "precision")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric of the evaluation as the table shows it.

    Attributes:
        name: str, in the logs.
        title: str, for people.
        percent: bool, whether it is a fraction.
    """

    name: str
    title: str
    percent: bool = True


class Experiment:
    """What a recipe must say; subclasses define what raises here.

    One object serves runs of any settings: what depends on them is asked by run.

    Args:
        path: `Path` of the workdir, where made-up data are kept.

    Attributes:
        name: str, the recipe's.
        title: str, for tables and plots.
        measures: tuple of `Measure`, the first decides which run is best.
        analyses: bool, whether there is a command `analyse`: for classifiers with one
            label per example, on data that fit into memory.
        symbols: {setting: what plots call it}.
        predictions: str, the usual name of the file of predictions.
        class_names: list of str for plots, one per class, or None.
        notes: str, what the table's columns need to be understood.
        scale_settings: names of settings that do not decide what a run gives, so that
            a run may be gone on with under others.
        reads_shares: bool, whether `training_data` gives only the rows of each global
            batch that are this worker's, by `share`; else it gives whole batches.
        share: (number of this worker, of how many), set before data are asked for.
        fills_batches: bool, whether all metrics of the evaluation are by sample weight,
            so that batches can be filled up to one size.
    """

    name = None
    title = None
    measures = ()
    analyses = False
    symbols = {"distillation_weight": r"$\mu$", "ensemble_weight": r"$\lambda$"}
    predictions = "predictions.csv"
    class_names = None
    notes = "."
    reads_shares = False
    share = (0, 1)
    fills_batches = False
    scale_settings = (
        *("models", "seeds", "evaluation_batch_size", "strategy", "jit_compile"),
        *("log_every", "checkpoint_every", "evaluate_every", "worker_timeout"),
    )

    def __init__(self, path=None):
        self.path = path

    def check_data(self, settings):
        """Raises `SettingError` where the settings name no data."""

    def prepare_data(self, run):
        """Writes or fetches what the data are read from; one worker is called."""

    def is_affected(self, model, name):
        """Whether a model, by its name, depends on a setting; for sweeps."""
        raise NotImplementedError

    def total_steps(self, run):
        """Training steps of a run, from its start to its end."""
        return run.settings.steps

    def build(self, run):
        """A new model that is not compiled; its weights depend on the seed alone."""
        raise NotImplementedError

    def compile(self, model, run):
        """Compiles a model for training."""
        raise NotImplementedError

    def compile_evaluation(self, model, run):
        """Compiles a model with the metrics that `measures` names."""
        raise NotImplementedError

    def training_data(self, run, start_step):
        """Endless `tf.data.Dataset` of `(inputs, labels)`, from a step on."""
        raise NotImplementedError

    def evaluation_data(self, run):
        """`tf.data.Dataset` of `(inputs, labels)`, every example once."""
        raise NotImplementedError

    def evaluation_examples(self, run):
        """How many examples the evaluation must see; None where that is not known."""
        return None

    def validation_data(self, run):
        """Data held out of training, of which `measures[0]` chooses what is reported.

        None: the evaluation after the last step is.
        """
        return None

    def views(self, run):
        """How many views an example has of which `evaluate` averages predictions."""
        return 1

    def view_data(self, run, batch_size):
        """Where there are several, `tf.data.Dataset` of `([batch, views, …], labels)`.

        Args:
            run: `Run`.
            batch_size: int, examples.
        """
        raise NotImplementedError

    def sizes(self, model):
        """{name: number} of a model's sizes, for the table."""
        profile = eh.profile(model)
        return {"parameters": profile.parameters, "flops": profile.flops}

    def predict(self, model, run, path):
        """Writes predictions to a file; returns how many examples."""
        raise NotImplementedError

    def export(self, model, run, path):
        """Writes SavedModels to or into a new folder; returns their paths."""
        raise NotImplementedError

    def analyse_weights(self, model, run, path):
        """Analyses a trained model that need not have heads, and writes what it finds.

        Args:
            model: `keras.Model`, compiled for training.
            run: `Run`.
            path: `Path` of the folder of the run's analyses, to be made.
        """

    def draw_analyses(self, path, analysed):
        """Draws what compares runs into a folder, once each of them is analysed.

        Args:
            path: `Path` of the folder, which exists.
            analysed: list of `run_analyses.Analysed`.
        """

    def clear_errors(self):
        """Context in which bad data end the program with a paragraph, not a trace."""
        return contextlib.nullcontext()

    def config(self, run):
        """{setting: value} of all that decides what a run gives."""
        settings = run.settings.as_dict()
        kept = {k: v for k, v in settings.items() if k not in self.scale_settings}
        return {"recipe": self.name, "model": run.model, "seed": run.seed, **kept}


def evaluation_copy(model):
    """A model that shares all variables, to be compiled with other metrics."""
    if isinstance(model, eh.MultiHeadModel):
        return model.with_parts()
    return keras.Model(model.input, model.output, name=model.name)


@keras.saving.register_keras_serializable(package="recipes")
class Examples(keras.metrics.Metric):
    """Counts the examples that an evaluation sees, those of weight 0 left out."""

    def __init__(self, name="examples", **kwargs):
        super().__init__(name=name, **kwargs)
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        count = tf.shape(y_true)[0]
        if sample_weight is not None:
            count = tf.math.count_nonzero(sample_weight)
        self.count.assign_add(tf.cast(count, self.count.dtype))

    def result(self):
        return self.count
