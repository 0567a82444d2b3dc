"""What tests of S3D-G share: small models, clips, and the network in float64."""

import numpy as np

import zoo
from tests.zoo.image_models import normalised, relu, scatter, weights
from tests.zoo.videos import sigmoid
from zoo.s3dg import Mixed

CLASSES = 7

# One block a stage; no two widths of a block that belong together are alike.
SMALL = {
    "input_shape": (8, 32, 32, 3),
    "classes": CLASSES,
    "stem": (4, 5, 6),
    "blocks": (
        (Mixed(4, 3, 5, 2, 3, 6),),
        (Mixed(5, 6, 9, 3, 4, 8),),
        (Mixed(3, 5, 6, 2, 4, 5),),
    ),
}


def build(name="s3dg", seed=3, **changes):
    """A small single network, with weights at which every part of it matters."""
    changes = {**SMALL, **changes}
    if name == "inception_v1":
        changes["input_shape"] = changes["input_shape"][-3:]
    return scatter(zoo.build(name, **changes), seed)


def clips(shape=SMALL["input_shape"], batch=2, seed=0):
    """Clips `[batch, frames, height, width, channels]`, or images."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.2, 1.0, (batch, *shape)).astype("float32")


# ---- The network in float64, written from the papers


def windows(x, sizes, strides, fill):
    """Yields, place by place of a window, what all windows see there ("same")."""
    margins, ends = [(0, 0)], []
    for n, size, stride in zip(x.shape[1:-1], sizes, strides):
        count = -(-n // stride)
        short = max((count - 1) * stride + size - n, 0)
        margins.append((short // 2, short - short // 2))
        ends.append((count - 1) * stride + 1)
    x = np.pad(x, [*margins, (0, 0)], constant_values=fill)
    for place in np.ndindex(*sizes):
        cut = [slice(i, i + end, s) for i, end, s in zip(place, ends, strides)]
        yield place, x[(slice(None), *cut)]


def convolved(model, name, x, strides):
    kernel, *bias = weights(model, name)
    total = sum(
        seen @ kernel[place]
        for place, seen in windows(x, kernel.shape[:-2], strides, 0)
    )
    return total + bias[0] if bias else total


def pooled(x, sizes, strides):
    seen = (part for _, part in windows(x, sizes, strides, -np.inf))
    return np.max(list(seen), axis=0)


class Network:
    """A small S3D-G, as far as the fields of its spec are concerned."""

    def __init__(self, model, gates="all", separable=True):
        self.model, self.gates, self.separable = model, gates, separable

    def unit(self, x, name, stride=1, gate=False, temporal=False):
        x = convolved(self.model, name, x, (stride,) * (x.ndim - 2))
        x = relu(normalised(self.model, f"{name}_bn", x, epsilon=1e-3))
        if temporal:
            x = relu(convolved(self.model, f"{name}_temporal", x, (1, 1, 1)))
        if not gate:
            return x
        (kernel,) = weights(self.model, f"{name}_gate_conv")
        places = tuple(range(1, x.ndim - 1))
        means = x.mean(axis=places, keepdims=True)
        return x * sigmoid(means @ kernel.reshape(kernel.shape[-2:]))

    def block(self, x, name):
        every, some = self.gates == "all", self.gates != "none"
        parts = [self.unit(x, f"{name}_0", gate=some)]
        for index in (1, 2):
            y = self.unit(x, f"{name}_{index}_reduce", gate=every)
            temporal = self.separable and x.ndim == 5
            parts.append(self.unit(y, f"{name}_{index}", gate=some, temporal=temporal))
        y = pooled(x, (3,) * (x.ndim - 2), (1,) * (x.ndim - 2))
        return np.concatenate([*parts, self.unit(y, f"{name}_3", gate=some)], -1)

    def __call__(self, x):
        """Logits."""
        axes = x.ndim - 2
        x = self.unit(x.astype("float64"), "conv_1a", stride=2)
        x = pooled(x, (1, 3, 3)[-axes:], (1, 2, 2)[-axes:])
        x = self.unit(x, "conv_2b")
        temporal = self.separable and axes == 3
        x = self.unit(x, "conv_2c", gate=self.gates != "none", temporal=temporal)
        for name, window, strides in (
            ("mixed_3b", (1, 3, 3), (1, 2, 2)),
            ("mixed_4b", (3, 3, 3), (2, 2, 2)),
            ("mixed_5b", (2, 2, 2), (2, 2, 2)),
        ):
            x = self.block(pooled(x, window[-axes:], strides[-axes:]), name)
        x = x.mean(axis=(-3, -2))  # over height and width
        kernel, bias = weights(self.model, "classifier")
        if axes == 3 and x.shape[1] > 1:
            x = (x[:, 1:] + x[:, :-1]) / 2  # windows of two frames
        logits = x @ kernel.reshape(kernel.shape[-2:]) + bias
        return logits.mean(axis=1) if axes == 3 else logits
