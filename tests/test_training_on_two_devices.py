"""Two logical devices under MirroredStrategy train as one device does."""

import pytest

from ensemble_heads.keras_api import KERAS_3
from tests import two_device_training

pytestmark = pytest.mark.slow

FLOAT32 = [
    "plain",
    "adam",
    "sum",
    "clipnorm",
    "global_clipnorm",
    "clipvalue",
    "accumulation_clipnorm",
    "synchronized_batch_norm",
]
if not KERAS_3:
    # Keras 3.15 fails on several steps per execution under MirroredStrategy, with
    # any model: "You must feed a value for placeholder tensor".
    FLOAT32.append("several_steps")
FLOAT16 = ["mixed_float16", "mixed_float16_accumulation", "mixed_float16_clipnorm"]


@pytest.fixture(scope="module")
def results(run_on_two_devices):
    source = two_device_training.SOURCE
    return run_on_two_devices(source, *FLOAT32, *FLOAT16, timeout=600)


@pytest.mark.parametrize("setting", FLOAT32 + FLOAT16)
def test_two_devices_equal_one(results, setting):
    result, tolerance = results[setting], 2e-3 if setting in FLOAT16 else 2e-6
    assert result["moved"] > 50 * tolerance or setting.endswith("clipnorm")
    two_device_training.assert_equal(result, tolerance)
