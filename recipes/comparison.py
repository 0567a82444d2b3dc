"""Methods compared over several seeds: train, tabulate, plot, export, try.

A recipe subclasses `Study` with what varies (networks, data, optimizer) and calls
`compare(study, options)`.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
from rich.console import Console

import ensemble_heads as eh
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras
from recipes import common, results, serving, training
from recipes.method_table import COLUMNS, summarise, write_plots
from recipes.progress import RunsProgress
from recipes.workdir import Workdir

TABLE_CSV = "table.csv"
TABLE_MARKDOWN = "table.md"
LEARNING_CURVES = "learning_curves.png"
WEIGHT_PLOT = "accuracy_by_weight.png"
SAVED_MODEL = "saved_model"
ARTIFACTS = (TABLE_CSV, TABLE_MARKDOWN, LEARNING_CURVES, WEIGHT_PLOT, SAVED_MODEL)


@dataclasses.dataclass(frozen=True)
class Method:
    """One line of the table: a network and what it is trained with.

    Attributes:
        key: str, for file names.
        label: str, for people.
        ensemble_loss: object of `eh.losses`, or None for the single network.
        ensembler: callable that makes the ensembler, a layer.
        symbol: "lambda", "mu" or None, the weight's symbol in the paper.
        weight: float or None, its value.
    """

    key: str
    label: str
    ensemble_loss: object = None
    symbol: str | None = None
    weight: float | None = None
    ensembler: object = eh.ensemblers.Mean


SINGLE = Method("single", "single network")


class Study:
    """What a recipe must say for its methods to be compared.

    Subclasses set `name` and `title` and define the methods that raise here.

    Args:
        config: the recipe's settings, with `seeds` and `epochs`.
    """

    name = None
    title = None

    def __init__(self, config):
        self.config = config
        self._prepared = {}

    def methods(self):
        """List of `Method`, `SINGLE` first if it is among them."""
        raise NotImplementedError

    def draw(self, method, seed):
        """A model that is not compiled, with weights that depend on `seed` alone."""
        raise NotImplementedError

    def compile(self, model, method):
        """Compiles it with the metric "accuracy"."""
        raise NotImplementedError

    def load(self, split, seed):
        """`tf.data.Dataset` of `(inputs, labels)`; `split` is "train" or "test"."""
        raise NotImplementedError

    def load_for(self, method, seed):
        """What a method is trained on. Default: the training part as it is."""
        return self.load("train", seed)

    def test_examples(self):
        """How many examples the test part holds."""
        raise NotImplementedError

    def decides_a_run(self):
        """{setting: value} of all that a run depends on, besides method and seed."""
        raise NotImplementedError

    def train(self, method, seed, callbacks=()):
        """Returns (record of the run, dict for JSON; the trained model).

        The model is used again by the next run of the same method.
        """
        made_with = provenance.describe()  # the checkout may be another one at the end
        drawn = self.draw(method, seed)
        learner, evaluator, sizes = self._prepare(method, drawn)
        learner.restart(drawn)
        train, test = self.load_for(method, seed), self.load("test", seed)
        evaluation = training.EvaluateEvery(
            lambda: evaluator(test, self.test_examples()), self.config.evaluate_every
        )
        timer = training.StepTimer()
        history = learner.model.fit(
            train,
            epochs=self.config.epochs,
            shuffle=False,  # the data set does it; Keras 3 warns otherwise
            verbose=0,
            callbacks=[timer, evaluation, *callbacks],
        ).history
        curve = evaluation.results
        record = {
            **{"method": method.key, "label": method.label, "seed": seed},
            **dataclasses.asdict(curve[self.config.epochs]),
            **sizes,
            "seconds_per_step": timer.seconds_per_step,
            "train_loss": list(map(float, history["loss"])),
            "train_accuracy": list(map(float, history["accuracy"])),
            "test_epochs": list(curve),
            "test_accuracy": [one.accuracy for one in curve.values()],
            **made_with,
        }
        return record, learner.model

    def _prepare(self, method, model):
        """(compiled model that can restart, its evaluator, its sizes), made once."""
        if method.key not in self._prepared:
            self.compile(model, method)
            profile = eh.profile(model)
            sizes = {
                "parameters": profile.parameters,
                "flops": profile.flops,
                "width_multiplier": getattr(model, "width_multiplier", None),
            }
            spec = self.load("test", seed=0).element_spec
            self._prepared[method.key] = (
                training.Restartable(model),
                training.Evaluator(model, spec),
                sizes,
            )
        return self._prepared[method.key]


def compare(study, options):
    """Trains what the workdir does not hold yet, then reports on all of it.

    Args:
        study: `Study`.
        options: `common.Options`.
    """
    started = time.monotonic()
    console = Console(highlight=False)
    line = provenance.tensorflow_line()
    default = Path(common.DEFAULT_FOLDER, study.name, f"{options.preset}_tf{line}")
    workdir = Workdir(
        options.workdir or default,
        {"recipe": study.name, "tensorflow": line, **study.decides_a_run()},
        options.overwrite,
        ARTIFACTS,
    )
    methods, seeds = study.methods(), range(study.config.seeds)
    # Seeds outside: what a machine does meanwhile meets all methods alike.
    runs = [(method, seed) for seed in seeds for method in methods]
    train_missing(study, runs, workdir, console)
    records = [workdir.records[run_key(*run)] for run in runs]
    rows = summarise(methods, records)
    title = f"{study.title}, {len(seeds)} seeds, TensorFlow {line}"
    results.write_csv(workdir.path / TABLE_CSV, COLUMNS, rows)
    table = results.markdown_table(COLUMNS, rows)
    (workdir.path / TABLE_MARKDOWN).write_text(table, encoding="utf-8")
    write_plots(
        methods,
        records,
        title,
        curves=workdir.path / LEARNING_CURVES,
        weights=workdir.path / WEIGHT_PLOT,
    )
    console.print()
    console.print(results.rich_table(COLUMNS, rows, title=title))
    console.print(explain(records), soft_wrap=True)
    best = max(records, key=lambda record: record["accuracy"])
    export_and_try(study, best, workdir, console)
    console.print(f"All files are in {workdir.path}/", soft_wrap=True)
    console.print(f"Took {time.monotonic() - started:.0f} s.")


def explain(records):
    """What the columns of the table mean."""
    multipliers = [r["width_multiplier"] for r in records if r["width_multiplier"]]
    heads = f"; width multiplier of the heads {multipliers[0]:g}" if multipliers else ""
    return (
        "mean ± standard error of the mean over the seeds; gain: over the single "
        "network of the same seed; one head: mean over the heads, each alone; "
        f"parameters and FLOPs: batch norm folded{heads}.\n"
    )


def run_key(method, seed):
    return f"{method.key}-seed{seed}"


def train_missing(study, runs, workdir, console):
    """Trains the runs that the workdir does not hold, one after the other."""
    missing = [run for run in runs if not workdir.is_finished(run_key(*run))]
    if len(missing) < len(runs):
        console.print(
            f"{len(runs) - len(missing)} of {len(runs)} runs were found finished in "
            f"{workdir.path}/ and are kept; --overwrite does them again.",
            soft_wrap=True,
        )
    if not missing:
        return
    epochs = study.config.epochs
    with RunsProgress(len(runs), len(missing), epochs, console) as progress:
        for number, (method, seed) in enumerate(runs, start=1):
            if (method, seed) not in missing:
                continue
            name = f"{method.label}, seed {seed}"
            advance = progress.start_run(number, name)
            begin = time.monotonic()
            record, model = study.train(method, seed, [advance])
            workdir.add(run_key(method, seed), record, model)
            heads = record["head_accuracies"]
            progress.print(
                f"run {number:{len(str(len(runs)))}} of {len(runs)}  {name:24} "
                f"accuracy {100 * record['accuracy']:.2f} %"
                + (f", its heads {100 * np.mean(heads):.2f} %" if heads else "")
                + f"  ({time.monotonic() - begin:.1f} s)"
            )


def export_and_try(study, record, workdir, console):
    """Exports a run's model as a SavedModel, loads that and predicts with it."""
    model = keras.saving.load_model(workdir.model_path(record["run"]))
    workdir.remove(SAVED_MODEL)
    path = eh.export(model, workdir.path / SAVED_MODEL)
    test = study.load("test", record["seed"])
    served = serving.compare_with_live(path, model, test, study.test_examples())
    console.print(
        f"Best run: {record['label']}, seed {record['seed']}. Exported to {path}, "
        f"loaded back: {100 * served.accuracy:.2f} % of {served.examples} test "
        "examples right, probabilities within "
        f"{served.largest_difference:.0e} of the live model's. (Chosen by this very "
        "accuracy: for an unbiased one see the table.)",
        soft_wrap=True,
    )
