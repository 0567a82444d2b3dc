"""A long run on three workers, one of which is killed: the end is that of one process.

Fashion-MNIST's recipe, on made-up images.
"""

import json
import signal

import pytest

from recipes.workers import LOST
from tests import worker_processes
from tests.script_runs import records_of, result_of, run_recipe, run_script

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SETTINGS = (
    *("--preset=smoke", "--models=mlp_16m_64h", "--synthetic=320"),
    *("--validation_examples=20", "--batch_size=60", "--evaluation_batch_size=24"),
    *("--steps=40", "--log_every=10", "--evaluate_every=20", "--checkpoint_every=10"),
)
WORKERS = ("--strategy=multi_worker", f"--worker_timeout={worker_processes.TIMEOUT}")
RUN = "mlp_16m_64h-seed0"
# The recipe as a program, which kills itself after a step if there is such a step.
SOURCE = """
import os, signal, sys
from recipes import fashion_mnist_modular as recipe, long_runs, long_training

after_step = long_training._Loop.on_train_batch_end

def on_train_batch_end(self, batch, logs=None):
    after_step(self, batch, logs)
    if self.step == {step}:
        os.kill(os.getpid(), signal.SIG{signal})

long_training._Loop.on_train_batch_end = on_train_batch_end
sys.argv[0] = "fashion_mnist_modular.py"
long_runs.run(recipe.FashionMNISTModular, recipe.PRESETS)
"""
WHOLE = SOURCE.format(step=None, signal="TERM")


def train(workdir, temporary, *sources):
    arguments = (*SETTINGS, *WORKERS, f"--workdir={workdir}")
    with worker_processes.started(
        sources, *arguments, temporary=temporary
    ) as processes:
        return worker_processes.ended(processes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    run_recipe("fashion_mnist_modular", *SETTINGS, f"--workdir={workdir}")
    return workdir


def files_of(workdir):
    """Names of all files; TensorBoard's hold the time and the process's number."""
    names = [path.relative_to(workdir) for path in workdir.rglob("*")]
    return sorted(str(name) for name in names if "tensorboard" not in str(name))


def assert_same_log(found, expected):
    """Every step once, and the same numbers to rounding."""
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if name != "train_examples_per_second":
                assert one[name] == pytest.approx(other[name], rel=2e-4), name


@pytest.mark.slow
def test_a_worker_is_killed_and_all_start_again(alone, tmp_path):
    workdir = tmp_path / "out"
    killed = SOURCE.format(step=25, signal="KILL")
    results = train(workdir, tmp_path, WHOLE, WHOLE, killed)
    codes = [code for code, *_ in results]
    assert codes == [LOST, LOST, -signal.SIGKILL], results
    for number in (0, 1):
        message = f"Worker {number} of 3 ends, since another one is gone"
        assert message in results[number][2]
    assert [record["step"] for record in records_of(workdir / RUN)][-1] == 20

    results = train(workdir, tmp_path, WHOLE, WHOLE, WHOLE)
    assert [code for code, *_ in results] == [0, 0, 0], results
    assert_same_log(records_of(workdir / RUN), records_of(alone / RUN))
    found, expected = (result_of(one / RUN) for one in (workdir, alone))
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=2e-4)
    assert found["metrics"]["examples"] == 64 == 24 + 24 + 16  # a partial last batch
    # The chief alone has written, and nothing is left elsewhere.
    assert files_of(workdir) == files_of(alone)
    assert len(list((workdir / RUN / "tensorboard").iterdir())) == 2  # one per start
    temporary = [path for n in (0, 1) for path in (tmp_path / str(n)).iterdir()]
    assert not [path for path in temporary if path.is_dir()]


@pytest.mark.slow
def test_one_notice_of_sigterm_stops_all_at_one_step(alone, tmp_path):
    workdir = tmp_path / "out"
    told = SOURCE.format(step=11, signal="TERM")
    results = train(workdir, tmp_path, WHOLE, told)
    assert [code for code, *_ in results] == [143, 143], results
    assert "saved at step 20" in results[0][1]
    log = records_of(workdir / RUN)
    assert_same_log(log, records_of(alone / RUN)[: len(log)])
    names = json.dumps(files_of(workdir))
    assert "ckpt-20.index" in names and "ckpt-30" not in names


def test_no_tpu_is_told_in_a_paragraph(tmp_path):
    flags = (*SETTINGS, "--strategy=tpu", f"--workdir={tmp_path}")
    ended = run_script("recipes/fashion_mnist_modular.py", *flags, code=1)
    assert "Traceback" not in ended.stderr and "set TPU_NAME" in ended.stderr
