"""The one place where Keras is reached, and where its two lines are told apart.

Everything else does `from ensemble_heads.keras_api import keras`, which is `tf.keras`:
Keras 2.15 on TensorFlow 2.15 and Keras 3 on TensorFlow 2.21.
"""

import contextlib
import random

import keras
import tensorflow as tf

KERAS_3 = int(keras.__version__.split(".")[0]) >= 3

# Batches that a class of Python makes, by number.
SEQUENCE = keras.utils.PyDataset if KERAS_3 else keras.utils.Sequence

# Those of Keras 2 that `.keras` files do not know, with tensorflow-addons' among them.
LEGACY_OPTIMIZERS = () if KERAS_3 else (tf.keras.optimizers.legacy.Optimizer,)

if tf.keras.layers.Layer is not keras.layers.Layer:
    raise ImportError(
        "`tf.keras` and `keras` are two different packages in this environment, so "
        "models of one cannot be used with the other. Unset TF_USE_LEGACY_KERAS and "
        "KERAS_BACKEND, or install the versions that setup.py pins. "
        f"Received: keras {keras.__version__}, TensorFlow {tf.__version__}"
    )


def register(cls):
    """Registers a public class so that `.keras` files holding it load by name."""
    return keras.saving.register_keras_serializable(package="ensemble_heads")(cls)


def build_optimizer(optimizer, variables):
    """Makes the variables of an optimizer that has a `build`, once."""
    # Built twice, Keras 3's loss scaling would have its variables twice.
    built = KERAS_3 and optimizer.built
    if hasattr(optimizer, "build") and not built:
        optimizer.build(variables)


def list_metrics(metrics):
    """Metrics in the form in which `Model.metrics` shows those of `compile`.

    Keras 3 callbacks learn whether a metric should rise or fall from metrics inside a
    container of Keras' own, and from no others.
    """
    if not KERAS_3:
        return list(metrics)
    from keras.src.trainers.compile_utils import CompileMetrics

    container = CompileMetrics(None, None)
    container._flat_metrics, container._flat_weighted_metrics = list(metrics), []
    container.built = True
    return [container]


@contextlib.contextmanager
def seeded(seed):
    """Lets everything that is drawn without a seed of its own follow `seed` meanwhile.

    Both lines seed initializers and dropout from Python's generator; Keras 2 from a
    generator of its own once `keras.utils.set_random_seed` was called. The state of
    all of them is restored.
    """
    state = random.getstate()
    own = None if KERAS_3 else keras.src.backend._SEED_GENERATOR
    generator = getattr(own, "generator", None)
    random.seed(seed)
    if generator is not None:
        own.generator = random.Random(seed)
    try:
        yield
    finally:
        random.setstate(state)
        if generator is not None:
            own.generator = generator
