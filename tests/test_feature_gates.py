"""Ensemblers with a gate on the trunk's features: ONE's, and a mixture of experts."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import base_losses, predictions
from ensemble_heads.keras_api import keras
from tests import numpy_losses, small_models
from tests.small_models import CLASSES

SPARSE = "sparse_categorical_crossentropy"
GATES = [eh.ensemblers.Gated, eh.ensemblers.MixtureOfExperts]
every_gate = pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__)


def image_model(link="softmax", ensembler=None, num_heads=3):
    """A small network on images, and its multi-headed version."""
    layers = keras.layers
    images = keras.Input((6, 6, 2), name="images")
    x = layers.Conv2D(5, 3, activation="relu", name="shared")(images)
    x = layers.Conv2D(4, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(CLASSES, activation=link, name="scores")(x)
    single = keras.Model(images, x)
    model = eh.multi_head(single, "shared", num_heads, ensembler=ensembler or "gated")
    return single, model


def draw_images(examples=8):
    x = np.random.normal(size=(examples, 6, 6, 2)).astype("float32")
    return x, np.random.randint(0, CLASSES, examples)


def settle(ensembler):
    """Weights that are no longer what they were drawn as; variances stay positive."""
    ensembler.set_weights(
        [np.random.uniform(0.2, 1.5, w.shape) for w in ensembler.get_weights()]
    )


def gate_by_hand(model, x, training=False):
    """g of every example and head, in NumPy."""
    ensembler = model.ensembler
    pooled = np.array(model.trunk(x), "float64").mean((1, 2))
    scores = pooled @ np.array(ensembler.dense.kernel, "float64")
    if ensembler.use_bias:
        return numpy_losses.softmax(scores + np.array(ensembler.dense.bias))
    norm = ensembler.norm
    mean, variance = np.array(norm.moving_mean), np.array(norm.moving_variance)
    if training:
        mean, variance = scores.mean(0), scores.var(0)
    scores = (scores - mean) / np.sqrt(variance + 1e-5)
    scores = scores * np.array(norm.gamma) + np.array(norm.beta)
    return numpy_losses.softmax(np.maximum(scores, 0.0))


def raw_heads(model, x):
    features = model.trunk(x)
    return np.stack([np.array(head(features), "float64") for head in model.heads], 1)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "exponential", "linear"])
@every_gate
def test_prediction_is_what_the_gate_says(gate, link):
    _, model = image_model(link, gate())
    settle(model.ensembler)
    x, _ = draw_images()
    weights, raw = gate_by_hand(model, x)[..., None], raw_heads(model, x)
    assert np.ptp(weights, axis=0).max() > 0.01  # examples differ
    if gate is eh.ensemblers.Gated:
        expected = numpy_losses.LINKS[link]((weights * raw).sum(1))
    else:
        expected = (weights * numpy_losses.LINKS[link](raw)).sum(1)
    npt.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-6)


def test_gates_batch_norm_trains_on_the_batch():
    _, model = image_model()
    settle(model.ensembler)
    x, _ = draw_images(64)
    weights, raw = gate_by_hand(model, x, training=True), raw_heads(model, x)
    expected = numpy_losses.softmax((weights[..., None] * raw).sum(1))
    before = np.array(model.ensembler.norm.moving_mean)
    npt.assert_allclose(model(x, training=True), expected, rtol=1e-3, atol=1e-5)
    assert np.abs(model.ensembler.norm.moving_mean - before).max() > 1e-3


@every_gate
def test_gate_of_one_tensor_per_example_and_of_sequences(gate):
    dense = small_models.dense_model(3, ensembler=gate())
    x, _ = small_models.classification_data()
    assert np.isfinite(dense.predict(x, verbose=0)).all()
    # Padding is left out of the average where the trunk has a mask.
    inputs = keras.Input((None,), dtype="int32", name="words")
    words = keras.layers.Embedding(9, 4, mask_zero=True, name="words_")(inputs)
    pooled = keras.layers.GlobalAveragePooling1D()(words)
    single = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(pooled))
    model = eh.multi_head(single, "words_", 3, ensembler=gate())
    settle(model.ensembler)
    short = np.array([[1, 2, 3], [4, 5, 6]])
    padded = np.pad(short, [(0, 0), (0, 2)])
    npt.assert_allclose(model(padded), model(short), rtol=1e-5)


@every_gate
def test_saturated_heads_stay_finite(gate):
    z = np.array([[[1e4, -1e4], [-1e4, 1e4]], [[1e4, -1e4], [1e4, -1e4]]], "float32")
    for link in ("softmax", "sigmoid"):
        model = small_models.dense_model(2, link, units=2, ensembler=gate())
        layer, features = model.ensembler, tf.ones([2, 7])
        with tf.GradientTape() as tape:
            logits = tf.constant(z)
            tape.watch(logits)
            heads = predictions.Prediction(logits, link)
            result = layer.combine(heads, features=features)
            total = tf.reduce_sum(result.logits)
        assert np.isfinite(result.logits).all()
        assert np.isfinite(tape.gradient(total, logits)).all()


# ---- Training


def test_one_trains_gate_heads_and_trunk_by_the_papers_loss():
    _, model = image_model()
    x, y = draw_images(16)
    loss = eh.losses.OnTheFly(3.0)
    base = base_losses.make(SPARSE)
    with tf.GradientTape() as tape:
        (prediction,) = model.forward(x, training=True)
        total = tf.reduce_sum(loss(base, y, prediction))
    raw = np.array(prediction.heads.logits, "float64")
    teacher = np.array(prediction.ensemble.logits, "float64")
    truth = np.eye(CLASSES)[y]
    expected = sum(
        numpy_losses.categorical(truth, numpy_losses.softmax(raw[:, i]))
        for i in range(3)
    )
    expected += numpy_losses.categorical(truth, numpy_losses.softmax(teacher))
    expected += numpy_losses.softened_divergence(teacher, raw, "softmax", 3.0)
    npt.assert_allclose(total, expected.sum(), rtol=1e-5)
    variables = model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(total, variables)):
        assert np.abs(gradient).max() > 0, variable.name


@every_gate
def test_gate_learns_which_head_to_trust(gate):
    """One head is right where the input's sign is +, the other where it is -."""
    inputs = keras.Input((1,), name="x")
    trunk = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    heads = []
    for sign in (1.0, -1.0):
        features = keras.Input((1,))
        layer = keras.layers.Dense(2, name="out", trainable=False)
        heads.append(keras.Model(features, layer(features), name=f"head_{len(heads)}"))
        heads[-1].set_weights([np.zeros((1, 2)), np.array([2 * sign, -2 * sign])])
    wrapper = eh.MultiHeadWrapper.from_heads(heads, "softmax")
    model = eh.MultiHeadModel(trunk, wrapper, gate())
    x = np.random.uniform(-1, 1, size=(256, 1)).astype("float32")
    y = (x[:, 0] < 0).astype(int)
    loss = eh.losses.Ensembling(1.0)
    optimizer = keras.optimizers.Adam(0.05)
    model.compile(optimizer, SPARSE, ensemble_loss=loss, metrics=["accuracy"])
    model.fit(x, y, epochs=15, batch_size=32, verbose=0)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.parametrize("factor", [-1.5, 2.0])
@every_gate
def test_gradient_multiplier_reaches_all_that_is_below_the_gate(gate, factor):
    """Section 3 of EnsembleNet, with an ensembler that sees the features too."""
    _, model = image_model(ensembler=gate())
    settle(model.ensembler)
    x, y = draw_images()
    base = base_losses.make(SPARSE)

    def gradients(multiplier):
        with tf.GradientTape(persistent=True) as tape:
            (prediction,) = model.forward(x, ensembler_gradient=multiplier)
            total = tf.reduce_sum(base(y, prediction.ensemble))
        below = [*model.trunk.trainable_variables]
        below += [v for head in model.heads for v in head.trainable_variables]
        return [
            tape.gradient(total, variables)
            for variables in (model.ensembler.trainable_variables, below)
        ]

    plain, scaled = gradients(None), gradients(factor)
    for one, other in zip(plain[0], scaled[0]):
        npt.assert_allclose(other, one, rtol=1e-5, atol=1e-7)
    for one, other in zip(plain[1], scaled[1]):
        npt.assert_allclose(other, factor * np.array(one), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loss, observed",
    [
        (eh.losses.MultipleChoice(1, 0.2), None),
        (eh.losses.MutualLearning(), None),
        (eh.losses.Bagging(3), np.arange(8)),
        (eh.losses.Distillation(None), np.full((8, CLASSES), 1 / CLASSES, "float32")),
    ],
    ids=str,
)
@every_gate
def test_losses_of_heads_alone_train_the_gate_by_its_own_loss(gate, loss, observed):
    _, model = image_model(ensembler=gate())
    settle(model.ensembler)
    x, y = draw_images()
    base = base_losses.make(SPARSE)
    with tf.GradientTape(persistent=True) as tape:
        multiplier = loss.ensembler_gradient(3)
        (prediction,) = model.forward(x, ensembler_gradient=multiplier)
        prediction.observed = None if observed is None else tf.constant(observed)
        values = [
            loss(base, y, prediction),
            base(y, prediction.ensemble),
            loss.of_heads(base, y, prediction),
        ]
        total, whole, of_heads = map(tf.reduce_sum, values)
    npt.assert_allclose(total, whole + of_heads, rtol=1e-5)
    variables = model.ensembler.trainable_variables
    expected = tape.gradient(whole, variables)
    assert max(np.abs(g).max() for g in expected) > 1e-4
    for one, other in zip(tape.gradient(total, variables), expected):
        npt.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    below = [*model.trunk.trainable_variables]
    below += [v for head in model.heads for v in head.trainable_variables]
    pairs = zip(tape.gradient(total, below), tape.gradient(of_heads, below))
    for one, other in pairs:
        npt.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@every_gate
def test_training_goes_on_after_loading(gate, tmp_path):
    _, model = image_model(ensembler=gate())
    x, y = draw_images(24)
    loss = eh.losses.OnTheFly(2.0, ramp_up_steps=12)
    model.compile(keras.optimizers.Adam(0.02), SPARSE, ensemble_loss=loss)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, epochs=2, **options)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.ensembler) is gate
    npt.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)
    histories = [one.fit(x, y, epochs=3, **options).history for one in (model, again)]
    npt.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)


@every_gate
def test_xla_and_eager_and_mixed_precision_train_alike(gate):
    x, y = draw_images(24)
    _, model = image_model(ensembler=gate())
    weights, histories = model.get_weights(), []
    for settings in ({}, {"run_eagerly": True}, {"jit_compile": True}):
        model.set_weights(weights)
        model.compile("sgd", SPARSE, ensemble_loss=eh.losses.OnTheFly(), **settings)
        history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        histories.append(history.history["loss"])
    keras.mixed_precision.set_global_policy("mixed_float16")
    _, low = image_model(ensembler=gate())
    keras.mixed_precision.set_global_policy("float32")
    low.set_weights(weights)
    assert {w.dtype for w in low.ensembler.get_weights()} == {np.dtype("float32")}
    low.compile("sgd", SPARSE, ensemble_loss=eh.losses.OnTheFly())
    history = low.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    npt.assert_allclose(histories[1], histories[0], rtol=1e-4)
    npt.assert_allclose(histories[2], histories[0], rtol=1e-4)
    npt.assert_allclose(history.history["loss"], histories[0], rtol=2e-2)


# ---- Deployment


@every_gate
def test_one_branch_and_all_of_them_deploy(gate, tmp_path):
    single, model = image_model(ensembler=gate())
    settle(model.ensembler)
    x, _ = draw_images()
    branch = model.head(1)
    assert branch.count_params() == single.count_params()
    npt.assert_allclose(branch(x), np.array(model.head_predictions(x))[:, 1], 1e-5)
    path = eh.export(model, tmp_path / "serving" / "1")
    signatures = tf.saved_model.load(path).signatures
    serve = signatures["serving_default"](images=tf.constant(x))["scores"]
    npt.assert_allclose(serve, model(x), rtol=1e-4, atol=1e-6)
    heads = signatures["heads"](images=tf.constant(x))["scores"]
    npt.assert_allclose(heads, model.head_predictions(x), rtol=1e-4, atol=1e-6)


@every_gate
def test_profile_has_a_row_for_each_part_of_the_gate(gate):
    single, model = image_model(ensembler=gate(name="gate_of_heads"))
    result = eh.profile(model)
    rows = {row.name: row for row in result.rows}
    dense = rows["gate_of_heads/gate"]
    bias = int(dense.flops > 2 * 5 * 3)
    assert dense.parameters == 5 * 3 + 3 * bias
    assert dense.flops == 2 * 5 * 3 + 3 * bias
    assert bias == (gate is eh.ensemblers.MixtureOfExperts)
    own = sum(r.parameters for name, r in rows.items() if "gate_of_heads" in name)
    assert own == sum(w.size for w in model.ensembler.get_weights())


def test_folding_names_the_batch_norm_of_the_gate():
    _, model = image_model()
    settle(model.ensembler)
    x, _ = draw_images()
    (unfolded,) = eh.unfolded_batch_norms(model)
    assert "inside the ensembler" in unfolded.reason
    folded = eh.fold_batch_norm(model)
    npt.assert_allclose(folded(x), model(x), rtol=1e-5)


# ---- Several outputs and bad input


def test_every_output_has_a_gate_of_its_own():
    layers = {"label": eh.ensemblers.Gated(), "size": eh.ensemblers.MixtureOfExperts()}
    model = small_models.several_outputs_model(dict, ensembler=layers)
    x = {n: np.random.normal(size=(6, k)) for n, k in (("left", 3), ("right", 2))}
    y = {"label": np.random.randint(0, 3, 6), "size": np.random.normal(size=(6, 1))}
    before = [w.copy() for w in model.ensembler["size"].get_weights()]
    losses = eh.losses.Ensembling(0.5)
    model.compile("sgd", {"label": SPARSE, "size": "mse"}, ensemble_loss=losses)
    model.fit(x, y, verbose=0)
    after = model.ensembler["size"].get_weights()
    assert any(np.abs(a - b).max() > 0 for a, b in zip(after, before))
    with pytest.raises(ValueError, match="one layer per output"):
        small_models.several_outputs_model(dict, ensembler=eh.ensemblers.Gated())


@pytest.mark.parametrize("kind", [list, dict])
@every_gate
def test_trunk_that_gives_several_tensors(gate, kind):
    layers = keras.layers
    inputs = keras.Input((6,))
    parts = [layers.Dense(4)(inputs), layers.Dense(3)(inputs)]
    parts = parts if kind is list else dict(zip("ab", parts))
    heads = []
    for i in range(2):
        entry = [keras.Input((4,)), keras.Input((3,))]
        joined = layers.Dense(2, name="out")(layers.Concatenate()(entry))
        entry = entry if kind is list else dict(zip("ab", entry))
        heads.append(keras.Model(entry, joined, name=f"head_{i}"))
    wrapper = eh.MultiHeadWrapper.from_heads(heads, "softmax")
    message = f"{gate.__name__} must be called on .* one tensor of features.*fork"
    with pytest.raises(ValueError, match=message):
        eh.MultiHeadModel(keras.Model(inputs, parts), wrapper, gate())


@every_gate
def test_gate_belongs_to_all_heads_together(gate):
    _, model = image_model(ensembler=gate())
    with pytest.raises(ValueError, match="must name all heads.*has weights"):
        model.select_heads([0, 2])
    assert model.select_heads([0, 1, 2]).ensembler is model.ensembler
