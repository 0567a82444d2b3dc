"""Layers as Caffe has them, for the networks that were published as its prototxts.

Biases there learn twice as fast as kernels. That is a matter of the optimizer; Keras'
own cannot be told, `recipes/caffe_sgd.py` can.
"""

from ensemble_heads.keras_api import keras

layers = keras.layers

_POOLINGS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}


def convolution(x, spec, name, filters, kernel, stddev, **options):
    """A convolution and a ReLU in one layer, drawn from N(0, stddev).

    Args:
        x: symbolic tensor `[batch, height, width, channels]`.
        spec: `ImageSpec`, for the weight decay of the kernel.
        name, filters: of the layer.
        kernel: int, side of the kernel.
        stddev: float.
        **options: arguments of `Conv2D`; padding "same" and a ReLU by default. (Of
            stride 1 and an odd kernel, "same" is Caffe's padding.)
    """
    options = {"padding": "same", "activation": "relu", **options}
    initializer = keras.initializers.RandomNormal(stddev=stddev)
    return layers.Conv2D(
        filters,
        kernel,
        kernel_initializer=initializer,
        kernel_regularizer=spec.decay(),
        name=name,
        **options,
    )(x)


def pool(x, kind, name):
    """A pooling of 3x3 and stride 2 whose last windows may reach over the edge.

    Caffe rounds the number of windows up and lets the last one end outside, on the
    right and below only. An average is that of the pixels inside. Where the side is
    even that is TensorFlow's padding "same", where it is odd there is none.

    Args:
        x: symbolic tensor `[batch, height, width, channels]`, height and width known.
        kind: "max" or "average".
        name: of the layer.

    Raises:
        ValueError: one side is even and the other odd, or both are below 3.
    """
    sides = x.shape[1:3]
    odd = {side % 2 for side in sides}
    if len(odd) > 1 or min(sides) < 3:
        raise ValueError(
            "`input_shape` must leave sides of at least 3, both even or both odd, to "
            f"every pooling. Received: {sides[0]} x {sides[1]} before `{name}`"
        )
    padding = "valid" if odd == {1} else "same"
    return _POOLINGS[kind](3, strides=2, padding=padding, name=name)(x)
