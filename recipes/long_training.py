"""One long training run that can be stopped at any moment and goes on unharmed."""

import dataclasses
import math
import signal
import sys
import threading
import time

import tensorflow as tf

from ensemble_heads import provenance
from ensemble_heads.keras_api import keras
from recipes.checkpoints import BestCheckpoint, Checkpoints, keep_random_states
from recipes.common import SettingError, command_line
from recipes.evaluation import VALIDATION, Evaluator
from recipes.experiment import evaluation_copy
from recipes.workers import workers_of

STOPPED = 128 + signal.SIGTERM  # the exit code of a process that SIGTERM ended


def build(experiment, run, folder):
    """What a run trains, on its devices.

    Args:
        experiment: `Experiment`.
        run: `Run`.
        folder: `RunFolder`.

    Returns:
        (model compiled for training, its copy compiled for evaluation, `Checkpoints`).
    """
    strategy = workers_of(run.settings).strategy
    keras.mixed_precision.set_global_policy(run.settings.precision)
    keep_random_states()
    keras.utils.set_random_seed(run.seed)
    with strategy.scope():
        model = experiment.build(run)
        experiment.compile(model, run)
        copy = evaluation_copy(model)
        experiment.compile_evaluation(copy, run)
        checkpoints = Checkpoints(folder.checkpoints, model, writes=folder.writes)
        return model, copy, checkpoints


def restored(experiment, run, folder, chosen=False):
    """(model, its copy to evaluate, step) of a run's newest checkpoint; see `build`.

    Args:
        experiment, run, folder: as for `build`.
        chosen: bool, to take the one that held-out data chose, where there is one.

    Raises:
        SettingError: there is no checkpoint, or that of another model.
    """
    model, copy, checkpoints = build(experiment, run, folder)
    step = chosen and Checkpoints(folder.chosen, model).restore()
    step = step or checkpoints.restore()
    if not step:
        rule = f"hold a checkpoint of the run {run.key}: train it first"
        raise SettingError("workdir", rule, folder.path)
    return model, copy, step


def train(experiment, run, folder, progress):
    """Trains a run to its end, from its newest checkpoint on; returns its result.

    The weights at the end are those of a run that was never stopped, on the same
    machine: the order of the data, what is drawn from it, and the states of dropout
    and optimizer all go on where they were. SIGTERM, the notice of a machine that is
    taken away, saves at once and ends the process with code 143; of several workers all
    do so at the next logged step.

    Args:
        experiment: `Experiment`.
        run: `Run`.
        folder: `RunFolder`.
        progress: `StepsProgress`.

    Raises:
        SettingError: a checkpoint that does not fit, cannot be written or is of a later
            step than the last one, a loss that is no longer finite, or batches that
            cannot be shared evenly.
    """
    made_with = provenance.describe()  # the checkout may be another one at the end
    workers = workers_of(run.settings)
    replicas, size = workers.strategy.num_replicas_in_sync, run.settings.batch_size
    if size % replicas:
        rule = f"be a multiple of the {replicas} replicas that share a batch"
        raise SettingError("batch_size", rule, size)
    model, copy, checkpoints = build(experiment, run, folder)
    # One that was chosen later than the newest must not outlive what led to it.
    step = checkpoints.restore(folder.chosen)
    workers.check_shared(folder.path, step)
    folder.forget_after(step)
    steps = experiment.total_steps(run)
    if step > steps:
        rule = f"not be less than what {run.key} has made, {step} in all"
        raise SettingError("steps", rule, run.settings.steps)
    evaluator = Evaluator(experiment, run, copy, progress)
    if step < steps:
        with workers.strategy.scope():
            measure = f"evaluation_{_held_out(experiment)}"
            chosen = BestCheckpoint(folder, model, measure)
        both = checkpoints, chosen
        loop = _Loop(run, folder, both, evaluator, progress, step, steps)
        with loop.preemption:
            model.fit(
                _training_data(experiment, run, step),
                steps_per_epoch=steps - step,
                shuffle=False,  # the data set does it; Keras 3 warns otherwise
                verbose=0,
                callbacks=[loop],
            )
            if loop.stopping:
                progress.print(f"Stopped by SIGTERM; saved at step {loop.step}.")
                sys.exit(STOPPED)
    result = {
        **{"run": run.key, "method": run.method, "model": run.model, "seed": run.seed},
        **{"changes": run.changes, "step": steps, "title": experiment.title},
        "measures": [dataclasses.asdict(one) for one in experiment.measures],
        "metrics": _reported(experiment, folder, steps) or evaluator(),
        "sizes": experiment.sizes(model),
        "examples_per_second": _speed(folder.log),
        "command": command_line(),
        **made_with,
    }
    folder.finish(result)
    return result


class Preemption:
    """Notices SIGTERM while it is entered, in place of ending the process.

    Attributes:
        noticed: bool.
    """

    noticed = False

    def __enter__(self):
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:  # only there can signals be handled
            self._before = signal.signal(signal.SIGTERM, self._notice)
        return self

    def __exit__(self, *exception):
        if self._is_main:
            signal.signal(signal.SIGTERM, self._before)

    def _notice(self, number, frame):
        self.noticed = True


class _Loop(keras.callbacks.Callback):
    """Logs, evaluates and saves in the middle of one long epoch."""

    def __init__(self, run, folder, checkpoints, evaluator, progress, step, steps):
        super().__init__()
        self._settings, self._folder = run.settings, folder
        self._checkpoints, self._chosen = checkpoints
        self._evaluator = evaluator
        self._progress, self._start, self._steps = progress, step, steps
        if folder.writes:
            self._writer = tf.summary.create_file_writer(str(folder.tensorboard))
        else:
            self._writer = tf.summary.create_noop_writer()
        self._workers = workers_of(run.settings)
        self.step = self._saved = step
        self.preemption, self.stopping = Preemption(), False

    def on_train_begin(self, logs=None):
        size = self._settings.batch_size
        self._progress.start_run(self.step, self._steps, size)
        self._restart_clock()

    def on_train_batch_end(self, batch, logs=None):
        self.step = self._start + batch + 1
        self._progress.advance(self.step)
        settings, last = self._settings, self.step == self._steps
        if last or self.step % settings.log_every == 0:
            self._log()
            if last or self.step % settings.evaluate_every == 0:
                self._log_evaluation()
            if last or self.step % settings.checkpoint_every == 0:
                self._save()
            if self._workers.count > 1:
                # All at one step, or those that go on would wait for ever.
                notices = self._workers.gather(self.preemption.noticed)
                self.stopping = any(notices)
            self._restart_clock()
        if self._workers.count == 1:
            self.stopping = self.preemption.noticed
        if self.stopping:
            if self._saved < self.step:
                self._save()
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self._writer.close()

    def _log(self):
        seconds = time.perf_counter() - self._clock
        # Not the step's own logs, which on Keras 2 are summed over workers.
        values = {k: float(v) for k, v in self.model.get_metrics_result().items()}
        if not math.isfinite(values["loss"]):
            rule = (
                f"be one at which training stays finite, but the loss is "
                f"{values['loss']} by step {self.step}; the checkpoint of step "
                f"{self._saved} is kept"
            )
            rate = self._settings.learning_rate
            raise SettingError("learning_rate", rule, rate)
        examples = (self.step - self._clock_step) * self._settings.batch_size
        rate = tf.convert_to_tensor(learning_rate_of(self.model.optimizer))
        values |= {
            "learning_rate": float(rate),
            "examples_per_second": examples / seconds,
        }
        self._add("train", values)
        self._progress.print(
            f"step {self.step:,} of {self._steps:,}  "
            f"loss {values['loss']:.4g}  "
            f"{values['examples_per_second']:,.0f} examples/s"
        )
        self.model.reset_metrics()

    def _log_evaluation(self):
        values = self._evaluator()
        self._add("evaluation", values)
        self._chosen.keep_if_best(self.step)
        shown = "  ".join(f"{key} {_shown(value)}" for key, value in values.items())
        self._progress.print(f"  evaluated: {shown}")

    def _save(self):
        self._checkpoints.save(self.step)
        self._saved = self.step

    def _add(self, part, values):
        named = {f"{part}_{key}": value for key, value in values.items()}
        self._folder.add({"step": self.step, **named})
        with self._writer.as_default():
            for key, value in values.items():
                tf.summary.scalar(f"{part}/{key}", value, step=self.step)

    def _restart_clock(self):
        self._clock, self._clock_step = time.perf_counter(), self.step


def learning_rate_of(optimizer):
    """The learning rate of an optimizer's next step."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate(optimizer.iterations)  # of Keras 2's legacy optimizers
    return rate


def _training_data(experiment, run, step):
    workers = workers_of(run.settings)
    experiment.share = workers.number, workers.count

    def make():
        data = experiment.training_data(run, step)
        several = workers.strategy.num_replicas_in_sync > 1
        if several and tf.nest.flatten(data.element_spec)[0].shape[0] is None:
            rule = (
                "divide the training examples where several replicas share a batch: a "
                "smaller one at the end of an epoch could not be shared evenly"
            )
            raise SettingError("batch_size", rule, run.settings.batch_size)
        return data

    return workers.share_training(make, whole=not experiment.reads_shares)


def _shown(value):
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"


def _reported(experiment, folder, steps):
    """The logged evaluation that counts, or None where the last one is missing.

    It is the last one, or where there are held-out data the first of those that did
    best on them, with its step as "chosen_step".
    """
    start, found = "evaluation_", {}
    for record in folder.log:
        values = {k[len(start) :]: v for k, v in record.items() if k.startswith(start)}
        if values:
            found[record["step"]] = values
    if steps not in found:
        return None
    measure = _held_out(experiment)
    if measure not in found[steps]:
        return found[steps]
    best = max(found, key=lambda step: found[step][measure])
    return {**found[best], "chosen_step": best}


def _held_out(experiment):
    """The metric that chooses the evaluation that counts, if data are held out."""
    return VALIDATION + experiment.measures[0].name


def _speed(log):
    """Median examples per second over the logged intervals, the first left out."""
    speeds = [r["train_examples_per_second"] for r in log if "train_loss" in r]
    speeds = sorted(speeds[1:] or speeds)
    return speeds[len(speeds) // 2] if speeds else None
