"""Recipes of long training runs: train, evaluate, predict, export, report, analyse.

A recipe subclasses `experiment.Experiment` with what varies and calls
`long_runs.run(ItsExperiment, PRESETS)` as its last line. Every run has a folder of its
own in the workdir. The same command goes on where it was stopped. What is done with a
trained run has the settings of its training, but for those that flags give anew.
"""

import dataclasses
import functools
import json
import os
import sys
import time
from pathlib import Path

from absl import flags
from rich.console import Console

import ensemble_heads as eh
from ensemble_heads import provenance
from recipes import common, folders, long_training, run_analyses, sweeps
from recipes.common import SettingError
from recipes.evaluation import Evaluator
from recipes.found_runs import as_configured, find_runs
from recipes.progress import StepsProgress
from recipes.run_folder import ANALYSES, EVALUATION, RunFolder
from recipes.run_table import write_report
from recipes.workers import workers_of

COMMANDS = ("train", "evaluate", "predict", "export", "report")
ANALYSE = "analyse"
BY_WORKERS = ("train", "evaluate")  # what several processes can do together
NEED_DATA = ("train", "evaluate", "predict", ANALYSE)


def run(make_experiment, presets):
    """Runs a recipe from the command line.

    Args:
        make_experiment: callable `(path of the workdir) -> Experiment`.
        presets: {name: `TrainingSettings`}; the first is the default.
    """
    script = sys.argv[0]  # the module that `--help` shows the flags of
    flags.DEFINE_multi_string(
        "sweep",
        [],
        "A setting and its values, such as distillation_weight=0,1,2,3: a run for "
        "each, times --seeds. Several are combined.",
        module_name=script,
    )
    flags.DEFINE_string(
        "run",
        None,
        "Evaluate, predict, export, analyse: the run to take, by the name of its "
        "folder. Default: those that --models, --seeds and --sweep name, without these "
        "all that the workdir holds; to predict and export the best of them.",
        module_name=script,
    )
    flags.DEFINE_string(
        "output",
        None,
        "Predict, export: the file or folder to write. Default: in the run's folder.",
        module_name=script,
    )
    analysed = getattr(make_experiment, "analyses", False)
    commands = (*COMMANDS, ANALYSE) if analysed else COMMANDS
    common.run(functools.partial(_main, make_experiment), presets, commands)


class Session:
    """One call of a recipe: its runs and the folder they are in.

    Args:
        experiment: `Experiment`.
        runs: list of `Run`.
        path: `Path`, the workdir.
        overwrite: bool, throw away what earlier runs left.
    """

    def __init__(self, experiment, runs, path, overwrite=False):
        self.experiment, self.runs = experiment, runs
        self.path, self._overwrite = path, overwrite
        self.workers = workers_of(runs[0].settings)
        self.console = Console(highlight=False, quiet=not self.workers.is_chief)

    def folder(self, run, write=False):
        """`RunFolder` of a run; to write, it is made and its configuration checked."""
        line = provenance.tensorflow_line()
        config = {**self.experiment.config(run), "tensorflow": line}
        return RunFolder(
            self.path / run.key,
            config if write else None,
            overwrite=write and self._overwrite,
            writes=self.workers.is_chief,
        )

    def train(self):
        """Trains every run that is not finished, then reports on all of them."""
        if self._overwrite:
            # All at once: a run of before must not be taken for one of these.
            for run in self.runs if self.workers.is_chief else ():
                self.folder(run, write=True)
            self._overwrite = False
            self.workers.meet()
        with StepsProgress(self.console) as progress:
            for number, run in enumerate(self.runs, start=1):
                folder = self._prepared(run)
                progress.name_run(f"run {number} of {len(self.runs)}: {run.key}")
                result = folder.result()
                if result and result["step"] >= self.experiment.total_steps(run):
                    progress.print(f"{run.key} is finished and kept.")
                    continue
                progress.print(f"Run {number} of {len(self.runs)}: {run.key}")
                begin = time.monotonic()
                long_training.train(self.experiment, run, folder, progress)
                seconds = time.monotonic() - begin
                progress.print(f"{run.key} took {seconds:.0f} s.")
        if self.workers.is_chief:
            self.report()
        self.workers.meet()  # none may leave while the chief writes

    def _prepared(self, run):
        """The run's folder, once the chief has made it and what data it needs."""
        if self.workers.is_chief:
            self.folder(run, write=True)
            self.experiment.prepare_data(run)
        self.workers.meet()
        folder = self.folder(run)  # nothing in it changes any more
        result = folder.result()
        self.workers.check_shared(folder.path, result["step"] if result else 0)
        return folder

    def report(self):
        """Writes and prints the table and plots of the runs that are finished."""
        found = [(run, self.folder(run)) for run in self.runs]
        finished = [(run, folder) for run, folder in found if folder.result()]
        if not finished:
            raise self._nothing("finished run")
        for run, folder in found:
            if folder.result() is None:
                self.console.print(f"{run.key} is not finished, and left out.")
        self._check_seeds(finished)
        write_report(self.experiment, finished, self.path, self.console)
        self.console.print(f"All files are in {self.path}/", soft_wrap=True)

    def evaluate(self):
        """Evaluates the newest checkpoints of the runs."""
        runs = [self._named(flags.FLAGS.run)] if flags.FLAGS.run else self.runs
        with StepsProgress(self.console) as progress:
            for run in runs:
                progress.name_run(run.key)
                folder = self.folder(run)
                _, copy, step = long_training.restored(self.experiment, run, folder)
                evaluate = Evaluator(self.experiment, run, copy, progress)
                values = {"step": step, **evaluate(), **evaluate.over_views()}
                if self.workers.is_chief:
                    text = json.dumps(values, indent=2) + "\n"
                    folders.write_whole(folder.path / EVALUATION, text)
                progress.print(f"{run.key}, step {step:,}:")
                for name, value in values.items():
                    progress.print(f"  {name} {value:.6g}")
        self.workers.meet()

    def predict(self):
        """Writes the predictions of one run."""
        run = self._chosen()
        folder = self.folder(run)
        model, _, step = self._restored(run)
        path = common.folder("output") or folder.path / self.experiment.predictions
        self.console.print(f"{run.key}, step {step:,}")
        examples = self.experiment.predict(model, run, path)
        self.console.print(f"{examples:,} predictions are in {path}", soft_wrap=True)

    def export(self):
        """Writes one run's model for serving."""
        run = self._chosen()
        folder = self.folder(run)
        model, _, step = self._restored(run)
        path = common.folder("output") or folder.path / f"serving/{step}"
        if os.path.lexists(path):
            rule = "not exist yet: nothing is overwritten"
            raise SettingError("output", rule, path)
        for name in self.experiment.export(model, run, path):
            self.console.print(f"{run.key}, step {step:,}: {name}", soft_wrap=True)

    def analyse(self):
        """Analyses the heads of runs that have a checkpoint, and compares the runs."""
        for run in [self._named(flags.FLAGS.run)] if flags.FLAGS.run else self.runs:
            folder = self.folder(run)
            if not folder.checkpoints.exists():
                self.console.print(f"{run.key} is not trained, and left out.")
                continue
            model, _, step = self._restored(run)
            self.console.print(f"{run.key}, step {step:,}: analysing …")
            self.experiment.analyse_weights(model, run, folder.analyses)
            if not isinstance(model, eh.MultiHeadModel):
                self.console.print("  no heads to analyse")
                continue
            run_analyses.analyse(self.experiment, model, run, step, folder)
            self.console.print(f"  {folder.analyses}/", soft_wrap=True)
        found = [run_analyses.Analysed(run, self.folder(run)) for run in self.runs]
        if not any(one.data or one.result for one in found):
            raise self._nothing("trained run")
        self._check_seeds((one.run, one.folder) for one in found if one.result)
        path = self.path / ANALYSES
        path.mkdir(exist_ok=True)
        self.experiment.draw_analyses(path, found)
        if any(path.iterdir()):
            self.console.print(f"Comparisons are in {path}/", soft_wrap=True)

    def _check_seeds(self, finished):
        """Raises `SettingError` where runs to be averaged differ by more than seeds."""
        first = {}
        for run, folder in finished:
            config = {**self.experiment.config(run), "seed": None}
            config["steps"] = folder.result()["step"]
            key, known = first.setdefault(run.method, (run.key, config))
            differing = [name for name in known if known[name] != config[name]]
            if differing:
                rule = (
                    "hold runs that differ by their seeds alone, to be averaged, but "
                    f"{key} and {run.key} differ in {', '.join(differing)}: choose by "
                    "--models, --seeds and --sweep"
                )
                raise SettingError("workdir", rule, self.path)

    def _restored(self, run):
        """`long_training.restored` of the state that counts."""
        folder = self.folder(run)
        return long_training.restored(self.experiment, run, folder, chosen=True)

    def _chosen(self):
        if flags.FLAGS.run:
            return self._named(flags.FLAGS.run)
        measure = self.experiment.measures[0].name
        results = [(self.folder(run).result(), run) for run in self.runs]
        finished = [(one["metrics"][measure], run) for one, run in results if one]
        if finished:
            return max(finished, key=lambda pair: pair[0])[1]
        if len(self.runs) == 1:
            return self.runs[0]
        raise self._nothing("finished run to choose from")

    def _named(self, key):
        for run in self.runs:
            if run.key == key:
                return run
        keys = ", ".join(run.key for run in self.runs)
        raise SettingError("run", f"be one of {keys}", key)

    def _nothing(self, what):
        return SettingError("workdir", f"hold a {what}: train first", self.path)


def _main(make_experiment, settings, options):
    settings = _with_strategy(settings, options.command)
    swept = sweeps.parse(type(settings), flags.FLAGS.sweep)
    line = provenance.tensorflow_line()
    script = Path(sys.argv[0]).stem
    default = Path(common.DEFAULT_FOLDER, script, f"{options.preset}_tf{line}")
    path = options.workdir or default
    experiment = make_experiment(path)
    runs = sweeps.runs_of(settings, swept, experiment.is_affected)
    _check_flags(options.command)
    unfinished = []
    if options.command != "train":
        if flags.FLAGS.run or not _selected():
            runs, unfinished = _with_found(runs, experiment, settings, path)
        runs = [_as_trained(run, path) for run in runs]
    if options.command in NEED_DATA:
        for run in runs:
            experiment.check_data(run.settings)
    session = Session(experiment, runs, path, options.overwrite)
    for name in unfinished:
        session.console.print(f"{name} is not finished, and left out.")
    with session.workers.clear_errors(), experiment.clear_errors():
        getattr(session, options.command)()


def _with_strategy(settings, command):
    """The settings, on one device for what needs no more.

    Makes the strategy of several workers before all else, as TensorFlow asks for.
    """
    if command not in BY_WORKERS and settings.strategy in ("auto", "mirrored", "tpu"):
        # On several, Keras 3 predicts all of a batch on each and gives all of that.
        return settings.with_changes(strategy="default")
    if settings.strategy == "multi_worker":
        several = command in BY_WORKERS
        rule = f"be that of a single process to {command}"
        settings.require("strategy", several, rule)
        workers_of(settings)
    return settings


def _check_flags(command):
    """Refuses flags that the command would not look at."""
    for name, commands in (
        ("run", ("evaluate", "predict", "export", ANALYSE)),
        ("output", ("predict", "export")),
    ):
        if flags.FLAGS[name].value and command not in commands:
            remedy = "; --models, --seeds and --sweep choose runs" * (name == "run")
            rule = f"be left out to {command}{remedy}"
            raise SettingError(name, rule, flags.FLAGS[name].value)


def _selected():
    """Whether flags say which runs to take."""
    names = ("sweep", *sweeps.WHICH_RUNS)
    return any(flags.FLAGS[name].present for name in names)


def _with_found(runs, experiment, settings, path):
    """What a workdir holds beside some runs.

    Returns:
        (its finished runs and those of `runs` that have a folder, or `runs` themselves
        where there are none; the names of folders of other runs, not finished: what
        was swept there is not known).
    """
    found = [
        one
        for one in (find_runs([path]) if path.is_dir() else ())
        # Not in a folder of other runs in it.
        if one.path.parent == path and one.recipe == experiment.name
    ]
    finished = [
        sweeps.Run(
            one.config["model"], settings, one.config["seed"], one.result["changes"]
        )
        for one in found
        if one.result is not None
    ]
    keys = {run.key for run in finished}
    others = [run for run in runs if run.key not in keys]
    begun = [run for run in others if (path / run.key).exists()]
    known = keys | {run.key for run in begun}
    unfinished = [one.path.name for one in found if one.path.name not in known]
    return finished + begun or runs, unfinished


def _as_trained(run, path):
    """A run with the settings of its folder, but for those that flags give anew."""
    file = path / run.key / folders.CONFIG
    if not file.exists():
        return run
    config = json.loads(file.read_text(encoding="utf-8"))
    given = {name for name in run.settings.as_dict() if flags.FLAGS[name].present}
    but = given - run.changes.keys()
    return dataclasses.replace(run, settings=as_configured(run.settings, config, but))
