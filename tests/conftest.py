"""Settings and fixtures that all tests share.

The environment variables stand before every import, since TensorFlow reads them when
it is loaded. Processes that a test starts inherit them.
"""

import json
import logging
import os
import random
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The kernels of CPUs with AVX-512 on others too: half of the time, other rounding, and
# gradients of grouped convolutions, for which TensorFlow has none of its own.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: each would otherwise take all of them for itself. Two
    # threads between operations, so that a collective can wait for its partner.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

logging.getLogger("tensorflow").setLevel(logging.ERROR)

CHECKOUT = Path(__file__).resolve().parents[1]

TWO_DEVICES = """
import json
import tensorflow as tf
_device = tf.config.LogicalDeviceConfiguration()
_cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_cpu, [_device, _device])
result = None
{source}
print()
print(json.dumps(result))
"""


def pytest_collection_modifyitems(items):
    """Starts with slow files, and leaves the tests of one line to that line."""
    marks = ("slow", "line")
    slow = {item.path for item in items if any(map(item.get_closest_marker, marks))}
    # Otherwise one worker would end with a long file when the other has nothing left.
    items.sort(key=lambda item: item.path not in slow)
    here = "2.21" if sys.version_info >= (3, 12) else "2.15"
    for item in items:
        line = line_of(item)
        if line not in (None, here):
            reason = f"takes long: runs on TensorFlow {line}"
            item.add_marker(pytest.mark.skip(reason=reason))


def line_of(item):
    """The TensorFlow line that alone runs a test, or None."""
    marker = item.get_closest_marker("line")
    if marker is not None:
        return marker.args[0]
    if item.get_closest_marker("shared_out") is None:
        return None
    # By its name, so that it is the same line whatever else is chosen.
    return ("2.15", "2.21")[zlib.crc32(item.name.encode()) % 2]


@pytest.fixture(autouse=True)
def fresh_state():
    """Gives every test the same random numbers and dtypes, alone or in any order."""
    random.seed(0)
    np.random.seed(0)
    if "tensorflow" in sys.modules:  # tests of the packaging never load it
        keras = sys.modules["tensorflow"].keras
        keras.utils.set_random_seed(0)
        keras.backend.set_floatx("float32")
        # Keras 3 keeps the policy that it first derived from `floatx`.
        keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="session")
def data_dir():
    """Folder of real data that ENSEMBLE_HEADS_DATA names; skips where there is none."""
    folder = os.environ.get("ENSEMBLE_HEADS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ENSEMBLE_HEADS_DATA names no folder of real data")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def run_python():
    """Runs source code in a fresh process at the checkout and returns what it prints.

    Fails the test with the process's error output where its exit code is not 0.
    """

    def run(source, *arguments, timeout=300):
        command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
        ended = subprocess.run(
            command, capture_output=True, text=True, cwd=CHECKOUT, timeout=timeout
        )
        if ended.returncode:
            pytest.fail(f"exit code {ended.returncode}\n{ended.stderr[-4000:]}")
        return ended.stdout

    return run


@pytest.fixture(scope="session")
def run_on_two_devices(run_python):
    """Runs source code in a process of its own, where the CPU is two logical devices.

    A process of its own, since logical devices are fixed before TensorFlow's first
    operation, and a process can hold only one strategy. `tf` is imported; the code
    leaves what the test shall check in the variable `result`, which goes through JSON.
    """

    def run(source, *arguments, timeout=300):
        source = TWO_DEVICES.format(source=textwrap.dedent(source))
        printed = run_python(source, *arguments, timeout=timeout)
        return json.loads(printed.splitlines()[-1])

    return run
