"""Trains small models on one and on two logical devices, for tests to compare."""

import numpy.testing as npt

SOURCE = """
import os
import sys
sys.path.insert(0, os.getcwd())
import numpy as np
import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import small_models

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.utils.set_random_seed(0)
x, y = small_models.classification_data(32)
weights = np.random.uniform(0.5, 1.5, 32).astype("float32")

def sgd(**options):
    return keras.optimizers.SGD(0.3, momentum=0.9, **options)

sparse = "sparse_categorical_crossentropy"
settings = {
    "plain": {},
    # With the usual epsilon it makes whole steps of gradients that are only rounding.
    "adam": {"optimizer": lambda: keras.optimizers.Adam(0.05, epsilon=1e-3)},
    "codistillation": {"ensemble_loss": eh.losses.CoDistillation(3.0)},
    "tree": {"make": small_models.dense_tree},
    "stacked": {"make": small_models.dense_stack},
    "modular": {"ensemble_loss": eh.losses.Modular(0.7),
                "ensembler": eh.ensemblers.Mean("logits")},
    "multiple_choice": {"ensemble_loss": eh.losses.MultipleChoice(1, 0.1)},
    "bagging": {"ensemble_loss": eh.losses.Bagging(3)},
    "on_the_fly": {"ensemble_loss": eh.losses.OnTheFly(2.0, ramp_up_steps=4)},
    "distillation": {"ensemble_loss": eh.losses.Distillation(
        small_models.dense_model(1), 2.0)},
    "mixture_of_experts": {"ensembler": "mixture_of_experts"},
    "sum": {"loss": keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
            "optimizer": lambda: keras.optimizers.SGD(0.01)},
    "clipnorm": {"optimizer": lambda: sgd(clipnorm=0.05)},
    "global_clipnorm": {"optimizer": lambda: sgd(global_clipnorm=0.05)},
    "clipvalue": {"optimizer": lambda: sgd(clipvalue=0.01)},
    "synchronized_batch_norm": {"make": small_models.normed_model},
    "accumulation_clipnorm": {"gradient_accumulation_steps": 2,
                              "optimizer": lambda: sgd(clipnorm=0.05)},
    "several_steps": {"steps_per_execution": 2},
    "mixed_float16": {"policy": "mixed_float16"},
    "mixed_float16_accumulation": {"policy": "mixed_float16",
                                   "gradient_accumulation_steps": 2},
    "mixed_float16_clipnorm": {"policy": "mixed_float16",
                               "optimizer": lambda: sgd(clipnorm=0.05)},
}

def train(optimizer=sgd, policy="float32", loss=sparse, start=None, ensembler="mean",
          make=small_models.dense_model, **options):
    keras.mixed_precision.set_global_policy(policy)
    model = make(regularizer=keras.regularizers.L2(0.01), ensembler=ensembler)
    keras.mixed_precision.set_global_policy("float32")
    if start is not None:
        model.set_weights(start)
    start = model.get_weights()
    options = {"ensemble_loss": eh.losses.Ensembling(-0.5), **options}
    model.compile(optimizer(), loss, metrics=["accuracy"], head_metrics=["accuracy"],
                  **options)
    history = model.fit(x, y, sample_weight=weights, batch_size=16, epochs=3,
                        shuffle=False, verbose=0).history
    return start, model.get_weights(), history

result = {}
for name in sys.argv[1:]:
    start, one, alone = train(**settings[name])
    with strategy.scope():
        _, two, together = train(start=start, **settings[name])
    result[name] = {
        "moved": max(float(np.abs(a - b).max()) for a, b in zip(start, one)),
        "apart": max(float(np.abs(a - b).max()) for a, b in zip(one, two)),
        "logs": [{k: [float(v) for v in h[k]] for k in h} for h in (alone, together)],
    }
"""


def assert_equal(result, tolerance):
    """Right to rounding; dividing or clipping wrongly is off by the step itself.

    Args:
        result: dict, one of those that `SOURCE` leaves.
        tolerance: float, on weights.
    """
    assert result["moved"] > 5 * tolerance
    assert result["apart"] < tolerance
    alone, together = result["logs"]
    assert set(alone) == set(together)
    for name, values in alone.items():
        npt.assert_allclose(together[name], values, rtol=10 * tolerance, err_msg=name)
