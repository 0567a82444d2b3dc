"""Activations computed again give the step that kept ones give, and fewer are kept."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads import graph, recomputation
from ensemble_heads.keras_api import KERAS_3, keras

layers = keras.layers
SPARSE = "sparse_categorical_crossentropy"


def residual_model(norm=zoo.BatchNormalization, classes=4):
    """Units with shortcuts and batch norms, forked into two heads.

    With tf.recompute_grad's own search for variables, its gradients were wrong.
    """
    x = inputs = keras.Input((5,), name="x")
    for unit in range(3):
        y = layers.Dense(5, use_bias=False)(x)
        y = layers.ReLU()(norm(momentum=0.5)(y))
        y = layers.Dense(5, kernel_regularizer="l2")(y)
        y = norm(momentum=0.5)(y)
        x = layers.Add()([y, x]) if unit else y
        x = layers.ReLU(name=f"unit{unit}")(x)
    single = keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))
    return eh.multi_head(single, "unit0", 2, seed=0)


def data(count=12):
    random = np.random.default_rng(0)
    examples = random.normal(size=(count, 5)).astype(np.float32)
    return examples, random.integers(0, 4, count)


def trained(recompute, start, make, steps=3, **settings):
    keras.utils.set_random_seed(0)
    model = make()
    if start is not None:
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
    begin = [np.array(variable) for variable in model.variables]
    settings = {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9), **settings}
    model.compile(loss=SPARSE, recompute_activations=recompute, **settings)
    x, y = data()
    size = 12 // steps
    history = model.fit(x, y, batch_size=size, shuffle=False, verbose=0).history
    return begin, [np.array(v) for v in model.variables], history["loss"]


def compare(make, atol=2e-6, **settings):
    start, kept, loss = trained(False, None, make, **settings)
    _, again, loss_again = trained(True, start, make, **settings)
    assert loss_again == pytest.approx(loss, rel=1e-5 + atol)
    moved = [np.abs(a - b).max() for a, b in zip(kept, start)]
    assert sum(one > 5 * atol for one in moved) > len(moved) / 4
    for one, other in zip(again, kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * atol, atol=atol)


pytestmark = pytest.mark.slow
needs_keras_3 = pytest.mark.skipif(not KERAS_3, reason="refused on Keras 2")

SETTINGS = {
    "zoo's batch norm": {},
    "Keras' batch norm": {"norm": layers.BatchNormalization},
    "xla": {"jit_compile": True, "atol": 2e-5},
    "eager": {"run_eagerly": True},
    "accumulation": {"gradient_accumulation_steps": 3},
    "codistillation": {"ensemble_loss": eh.losses.CoDistillation(1.0)},
}


@needs_keras_3
@pytest.mark.parametrize("setting", SETTINGS)
def test_steps_equal_those_that_keep_activations(setting):
    """Weights, and batch-norm statistics, which each step moves once."""
    settings = dict(SETTINGS[setting])
    norm = settings.pop("norm", zoo.BatchNormalization)
    compare(lambda: residual_model(norm), **settings)


class Block(layers.Layer):
    """Has layers that train otherwise than they predict, and no `training` itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(5)
        self.norm = layers.BatchNormalization(momentum=0.5)

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.norm.build(input_shape)

    def call(self, x):
        return self.norm(self.dense(x))


def model_of_own_layers():
    """Also a batch norm whose call says not to train, and layers with losses."""
    inputs = keras.Input((5,), name="x")
    twice = layers.Dense(5, activity_regularizer="l2")
    x = twice(layers.ReLU()(twice(Block()(inputs))))
    x = layers.BatchNormalization(momentum=0.5)(x, training=False)
    x = layers.BatchNormalization(momentum=0.5, activity_regularizer="l2")(x)
    x = layers.ReLU(name="trunk")(x)
    single = keras.Model(inputs, layers.Dense(4, activation="softmax")(x))
    return eh.multi_head(single, "trunk", 2, seed=0)


@needs_keras_3
def test_layers_of_ones_own_train_as_without():
    compare(model_of_own_layers)


@needs_keras_3
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.mixed_precision.set_global_policy(policy)
    compare(residual_model, atol=1e-2 if policy == "mixed_bfloat16" else 2e-3)


def test_segments_end_between_units_and_hold_all():
    network = residual_model().heads[0]
    read = graph.read(network)
    found = recomputation.segments(read)
    assert [node for part in found for node in part.nodes] == read.nodes
    assert [len(part.nodes) for part in found] == [6, 7, 2]
    assert all(len(part.inputs) == len(part.outputs) == 1 for part in found)


def test_what_cannot_be_run_again_stands_alone():
    class Own(layers.Layer):
        def call(self, inputs):
            return 2.0 * inputs

    class OwnNorm(layers.BatchNormalization):
        pass

    x = inputs = keras.Input((3,))
    for layer in (layers.Dense(3), layers.ReLU(), Own(), layers.Dense(3)):
        x = layer(x)
    x = layers.Dropout(0.5)(layers.ReLU()(x))
    x = layers.Dense(2, activity_regularizer="l2")(x)
    x = 2.0 * OwnNorm()(layers.ReLU()(x))  # on Keras 3 an operation, no layer
    found = recomputation.segments(graph.read(keras.Model(inputs, x)))
    sizes = [(len(part.nodes), part.known) for part in found]
    assert sizes == [
        (2, True),
        (1, False),
        (2, True),
        (2, False),
        (1, True),
        (2, False),
    ]


@needs_keras_3
def test_layers_run_twice_and_no_more():
    calls = []

    def counted(x):
        calls.append(x.shape)
        return tf.nn.relu(x)

    inputs = keras.Input((3,))
    x = layers.Dense(3, activation=counted)(inputs)
    network = keras.Model(inputs, layers.Dense(2)(x))
    calls.clear()
    given = tf.ones((4, 3))
    with tf.GradientTape() as tape:
        with recomputation.active_if(True):
            result = recomputation.run(network, given, True)
        assert len(calls) == 1
    gradients = tape.gradient(result, network.trainable_variables)
    assert len(calls) == 2
    with tf.GradientTape() as tape:
        result = recomputation.run(network, given, True)
    kept = tape.gradient(result, network.trainable_variables)
    for one, other in zip(gradients, kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.skipif(not KERAS_3, reason="refused on Keras 2")
def test_inputs_may_lack_the_last_axis():
    """Keras adds an axis of 1 to inputs of one number, and so must the segments."""
    x = inputs = keras.Input((1,))
    for unit in range(4):
        x = layers.Dense(8, activation="tanh", name=f"unit{unit}")(x)
    model = eh.multi_head(keras.Model(inputs, layers.Dense(1)(x)), "unit1", seed=0)
    numbers = np.linspace(-1, 1, 8, dtype="float32")
    examples = tf.data.Dataset.from_tensor_slices((numbers, numbers)).batch(8)
    losses = []
    for recompute in (False, True):
        model.compile("sgd", "mse", recompute_activations=recompute)
        start = model.get_weights()
        losses.append(model.fit(examples, epochs=2, verbose=0).history["loss"])
        model.set_weights(start)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_not_active_outside_of_training_steps():
    assert not recomputation.is_active()
    with recomputation.active_if(True):
        assert recomputation.is_active()
        with recomputation.active_if(False):
            assert not recomputation.is_active()
    assert not recomputation.is_active()


@needs_keras_3
def test_saved_with_the_model(tmp_path):
    model = residual_model()
    model.compile("sgd", SPARSE, recompute_activations=True)
    model.save(tmp_path / "x.keras")
    loaded = keras.models.load_model(tmp_path / "x.keras")
    assert loaded.get_compile_config()["recompute_activations"] is True


@pytest.mark.skipif(KERAS_3, reason="works on Keras 3")
def test_refused_on_keras_2():
    with pytest.raises(ValueError, match="must be False on Keras 2"):
        residual_model().compile("sgd", SPARSE, recompute_activations=True)


def test_only_yes_or_no():
    with pytest.raises(ValueError, match="`recompute_activations` must be True or F"):
        residual_model().compile("sgd", SPARSE, recompute_activations="trunk")


@needs_keras_3
def test_refused_for_heads_on_devices():
    model = residual_model().with_devices([None, "CPU:0"])
    with pytest.raises(ValueError, match="must be False for heads on devices"):
        model.compile("sgd", SPARSE, recompute_activations=True)
