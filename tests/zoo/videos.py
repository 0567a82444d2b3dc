"""What tests of video models share: small models, videos, and ways to pad them."""

import numpy as np

import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.batch_norms import scatter_batch_norm

FEATURES, CLASSES = 12, 7
COUNTS = (6, 3, 1, 4)  # real frames of each video

SMALL = {
    "dbof": {
        "feature_size": FEATURES,
        "classes": CLASSES,
        "cluster": 16,
        "hidden": 20,
        "num_experts": 2,
    },
    "nextvlad": {
        "feature_sizes": (8, 4),
        "classes": CLASSES,
        "clusters": (6, 4),
        "groups": (4, 2),
        "hidden": 16,
        "reduction": 4,
    },
    **{
        f"youtube8m_{kind}": {"feature_size": FEATURES, "classes": CLASSES}
        for kind in ("logistic", "moe", "logistic_frames", "moe_frames")
    },
}


def build(name, **changes):
    """A small model of a row; with statistics at which every batch norm matters."""
    model = zoo.build(name, **{**SMALL[name], **changes})
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scatter_batch_norm(layer, rng)
    return model


def videos(counts=COUNTS, seed=0):
    """List of `[frames, features]`, as many frames as `counts` says."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0.2, 1.0, (n, FEATURES)).astype("float32") for n in counts]


def padded(clips, length, value=0.0):
    """The inputs of a model of frames: all clips padded to one length."""
    frames = np.full((len(clips), length, FEATURES), value, "float32")
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip)] = clip
    counts = np.array([len(clip) for clip in clips], "int32")
    return {"frames": frames, "num_frames": counts}


def inputs_of(model):
    """An example of what a model takes."""
    if "features" in getattr(model, "trunk", model).input:
        return {"features": np.stack([clip.mean(0) for clip in videos()])}
    return padded(videos(), max(COUNTS))


def labels():
    rng = np.random.default_rng(1)
    return (rng.uniform(size=(len(COUNTS), CLASSES)) < 0.4).astype("float32")


# ---- The same networks in float64, from the formulas


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x, axis=-1):
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def weights(model, name):
    """A layer's weights in float64."""
    return [w.astype("float64") for w in model.get_layer(name).get_weights()]


def normalised(model, name, x):
    """A batch norm at inference."""
    gamma, beta, mean, variance = weights(model, name)
    epsilon = model.get_layer(name).epsilon
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def gated(model, name, x):
    """A context gate."""
    (kernel,) = weights(model, f"{name}_dense")
    return x * sigmoid(normalised(model, f"{name}_bn", x @ kernel))


def mixture(model, x):
    """Probabilities of the layer `moe`: sum of gates times experts."""
    layer = model.get_layer("moe")
    gates, experts, bias = weights(model, "moe")
    gates = (x @ gates).reshape(-1, layer.num_experts + 1, layer.classes)
    experts = (x @ experts + bias).reshape(-1, layer.num_experts, layer.classes)
    return (softmax(gates, axis=1)[:, :-1] * sigmoid(experts)).sum(1)


def pooled(kind, x, kernel=None):
    """One video's frames `[frames, features]` as one vector."""
    if kind == "swap":
        total = np.abs(x).sum(0)
        squares = (np.abs(x) * x).sum(0)
        return np.divide(squares, total, out=np.zeros_like(total), where=total > 0)
    if kind == "attention":
        return (softmax(x @ kernel, axis=0) * x).sum(0)
    return x.mean(0) if kind == "average" else x.max(0)


def unit_length(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
