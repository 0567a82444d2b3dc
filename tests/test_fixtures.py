"""The fixtures of conftest.py do what the tests that use them rely on."""

import random

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads.keras_api import keras

DRAWN = {}


@pytest.mark.parametrize("call", ["first", "second"])
def test_every_test_draws_the_same_numbers(call):
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    drawn = [random.random(), np.random.rand(), float(tf.random.uniform(()))]
    drawn += layer.get_weights()[0].ravel().tolist()
    assert DRAWN.setdefault("first", drawn) == drawn


@pytest.mark.parametrize("call", ["first", "second"])
def test_every_test_starts_in_float32(call):
    assert keras.layers.Dense(2).compute_dtype == "float32"
    keras.backend.set_floatx("float64")
    assert keras.layers.Dense(2).compute_dtype in ("float32", "float64")
    keras.mixed_precision.set_global_policy("mixed_bfloat16")


def test_two_devices_share_a_batch(run_on_two_devices):
    """Each device must see its own half, not the whole batch or the other's half."""
    result = run_on_two_devices(
        """
        import sys
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        data = tf.data.Dataset.range(int(sys.argv[1])).batch(4)
        batch = next(iter(strategy.experimental_distribute_dataset(data)))
        with strategy.scope():
            sums = strategy.run(tf.reduce_sum, args=(batch,))
        result = [int(s) for s in strategy.experimental_local_results(sums)]
        """,
        4,
    )
    assert result == [0 + 1, 2 + 3]


def test_a_failing_process_fails_the_test(run_python):
    with pytest.raises(pytest.fail.Exception, match="exit code 1(.|\n)*the reason"):
        run_python("raise SystemExit('the reason')")


def test_a_process_imports_the_checkout(run_python):
    assert (
        run_python("import datasets; print(datasets.__file__)")
        .strip()
        .endswith("datasets/__init__.py")
    )
