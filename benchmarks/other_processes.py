"""Processes that hold a model each and take a training step when they are told to.

So steps of two interpreters, or of workers that train together, can be timed in turn,
right beside each other.
"""

import contextlib
import json
import os
import subprocess
import sys

import tensorflow as tf

from benchmarks.paired_timing import CLOCKS, timed
from ensemble_heads import provenance


def serve(step):
    """Says what it is made with, then takes a step for each line on stdin.

    Args:
        step: callable -> logs, one training step; called once before.
    """

    def finished():
        return tf.nest.map_structure(float, step())

    finished()
    print(json.dumps(provenance.describe()), flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(finished)), flush=True)


@contextlib.contextmanager
def waiting(commands, environments=None):
    """Starts processes that call `serve` and ends them in the end.

    Args:
        commands: list of lists of str.
        environments: list of {variable: value} that each has besides. Default: none.

    Yields:
        (list of what each says it is made with; function that lets all take one step
        together and returns {one of `CLOCKS`: seconds}: on the clock those of the
        slowest, of CPU time the sum).

    Raises:
        RuntimeError: one of them ended before it should.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        processes = []
        for number, command in enumerate(commands):
            own = environments[number] if environments else {}
            process = subprocess.Popen(command, env={**os.environ, **own}, **pipes)
            processes.append(stack.enter_context(process))
            stack.callback(_end, process)

        def step():
            for process in processes:
                process.stdin.write("\n")
                process.stdin.flush()
            took = [_answer(process) for process in processes]
            combine = dict(zip(CLOCKS, (max, sum), strict=True))
            return {
                clock: made(one[clock] for one in took)
                for clock, made in combine.items()
            }

        yield [_answer(process) for process in processes], step


def _answer(process):
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args} ended with exit code {process.wait()}")
    return json.loads(line)


def _end(process):
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:  # waits for a worker that is gone
        process.kill()
