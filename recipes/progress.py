"""What a user sees while several runs go on."""

import contextlib

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ensemble_heads.keras_api import keras


class StepsProgress:
    """A live line about one long run after the other: step, speed, time left.

    Where the output is no terminal, only what is printed appears.

    Args:
        console: `rich.console.Console`.
    """

    def __init__(self, console):
        self.console, self._batch_size = console, None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, {task.fields[speed]} examples/s, time left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=120,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, speed="?")
        self._name = ""

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *exception):
        self._progress.stop()

    def name_run(self, name):
        """Says which run it is."""
        self._name = name
        self._progress.update(self._task, description=name)

    def start_run(self, step, steps, batch_size):
        """A run of so many examples a step is at a step of so many."""
        self._batch_size = batch_size
        self._progress.reset(self._task, total=steps, completed=step)

    def advance(self, step):
        """A step was made."""
        task = self._progress.tasks[0]
        speed = f"{task.speed * self._batch_size:,.0f}" if task.speed else "?"
        self._progress.update(self._task, completed=step, speed=speed)

    @contextlib.contextmanager
    def evaluating(self):
        """Shows an evaluation meanwhile; gives a callback for it."""

        def show(batch, logs=None):
            text = f"{self._name}, evaluating: batch {batch + 1:,}"
            self._progress.update(self._task, description=text)

        yield keras.callbacks.LambdaCallback(on_test_batch_end=show)
        self._progress.update(self._task, description=self._name)

    def print(self, text):
        """Prints a line above the live one."""
        self.console.print(text, highlight=False, soft_wrap=True)


class RunsProgress:
    """A live line about several runs in a row: which run, epoch, time left.

    Where the output is no terminal, only what is printed appears.

    Args:
        runs: int, number of runs in all.
        left: int, number of those that are still to be done.
        epochs: int per run.
        console: `rich.console.Console`.
    """

    def __init__(self, runs, left, epochs, console):
        self._runs, self._epochs, self.console = runs, epochs, console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs, time left"),
            TimeRemainingColumn(),
            TextColumn("so far"),
            TimeElapsedColumn(),
            console=console,
            speed_estimate_period=120,
            transient=True,
        )
        self._task = self._progress.add_task("", total=left * epochs)

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *exception):
        self._progress.stop()

    def start_run(self, number, name):
        """Says which run it is, counted from 1; returns a callback for its `fit`."""
        self._progress.update(
            self._task, description=f"run {number} of {self._runs}: {name}"
        )
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: self._progress.advance(self._task)
        )

    def print(self, text):
        """Prints a line above the live one."""
        self.console.print(text, highlight=False, soft_wrap=True)
