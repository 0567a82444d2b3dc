"""The evaluation of a long run: every example once, held-out data and views too."""

import warnings

from recipes.full_batches import fill
from recipes.view_averaging import over_views
from recipes.workers import workers_of

VALIDATION = "validation_"  # before the metrics of held-out data
VIEWS = "views_"  # before those of predictions that are means over views


class Evaluator:
    """Evaluates a model on all of the evaluation data.

    Args:
        experiment: `Experiment`.
        run: `Run`.
        model: compiled by `Experiment.compile_evaluation`.
        progress: `StepsProgress`.
        fixed: bool, fill up all batches to one size that replicas can share evenly.
            Default: on TPUs, which compile a program for each size; and where there
            are several replicas, since TensorFlow's convolutions on CPUs fail in one
            that is left without examples.
    """

    def __init__(self, experiment, run, model, progress, fixed=None):
        self._experiment, self._run = experiment, run
        self._model, self._progress = model, progress
        self._workers = workers_of(run.settings)
        self._replicas = self._workers.strategy.num_replicas_in_sync
        if fixed is None:
            fixed = run.settings.strategy == "tpu" or self._replicas > 1
        self._fixed = fixed and experiment.fills_batches

    def __call__(self):
        """{metric: float}, "examples" among them; "validation_" before held-out ones.

        Raises:
            RuntimeError: another number of examples was seen than there are.
        """
        size = self._run.settings.evaluation_batch_size
        data = self._experiment.evaluation_data(self._run)
        logs = self._evaluate(self._model, data, size)
        expected = self._experiment.evaluation_examples(self._run)
        if expected is not None and logs["examples"] != expected:
            raise RuntimeError(
                f"The evaluation must see {expected} examples exactly once, "
                f"but saw {logs['examples']:.0f}"
            )
        held_out = self._experiment.validation_data(self._run)
        if held_out is not None:
            values = self._evaluate(self._model, held_out, size)
            logs |= {VALIDATION + name: value for name, value in values.items()}
        return logs

    def over_views(self):
        """The same of predictions that are means over views, each name after "views_".

        Empty where an example has one view. Batches are of as many views as batches of
        single examples have of these, but hold at least one example for each replica.
        """
        experiment, run = self._experiment, self._run
        views = experiment.views(run)
        if views == 1:
            return {}
        rows = run.settings.evaluation_batch_size // (views * self._replicas)
        size = max(1, rows) * self._replicas
        with self._workers.strategy.scope():
            model = over_views(self._model)
            experiment.compile_evaluation(model, run)
        values = self._evaluate(model, experiment.view_data(run, size), size)
        return {VIEWS + name: value for name, value in values.items()}

    def _evaluate(self, model, data, size):
        if self._fixed:
            data = fill(data, -(-size // self._replicas) * self._replicas)
        with self._progress.evaluating() as callback, warnings.catch_warnings():
            # Keras 3 says so of every data set whose size it does not know.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            logs = model.evaluate(
                self._workers.share(data),
                verbose=0,
                callbacks=[callback],
                return_dict=True,
            )
        return {k: float(v) for k, v in logs.items() if k != "loss"}
