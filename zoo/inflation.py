"""Video models started from image models: kernels are given a time axis.

References:
    Carreira & Zisserman 2017, arXiv:1705.07750, section 2.4 (inflated kernels); Xie et
    al. 2018, arXiv:1712.04851 (separable ones).
"""

import numpy as np
import tensorflow as tf

from ensemble_heads.keras_api import keras, register
from ensemble_heads.multi_head_model import MultiHeadModel
from zoo.specs import closest

layers = keras.layers


@register
class TemporalIdentity(keras.initializers.Initializer):
    """The identity at the centre of a kernel `[frames, 1, 1, inputs, outputs]`.

    A convolution of stride 1 and padding "same" that starts so hands every frame on
    as it is.

    >>> kernel = TemporalIdentity()((3, 1, 1, 2, 2))
    >>> [row.tolist() for row in np.array(kernel)[1, 0, 0]]
    [[1.0, 0.0], [0.0, 1.0]]
    >>> float(abs(np.array(kernel)).sum())
    2.0
    """

    def __call__(self, shape, dtype=None, **_):
        if len(shape) != 5 or tuple(shape[1:3]) != (1, 1):
            raise ValueError(
                "`shape` must be that of a kernel along time, [frames, 1, 1, inputs, "
                f"outputs]. Received: shape={tuple(shape)}"
            )
        frames, _, _, inputs, outputs = shape
        kernel = np.zeros(shape)
        # Of an even number the one before the middle: "same" pads the end more.
        kernel[(frames - 1) // 2, 0, 0] = np.eye(inputs, outputs)
        return tf.constant(kernel, dtype or keras.backend.floatx())


def inflate(image_model, video_model, keep=()):
    """Gives a video model the weights of an image model of the same shape.

    Layers correspond by their names. A 3-D kernel becomes k_t copies of the 2-D one,
    divided by k_t, so that a video of equal frames has the features of the image, but
    for the borders in time; a convolution along time alone, which images have not,
    becomes the identity; all else, batch norms among it, is copied. Gates on
    averages over the video that the image model has not keep their weights.

    ```python
    >>> import zoo
    >>> images = zoo.build("inception_v1", input_shape=(32, 32, 3))
    >>> videos = zoo.build("s3dg", input_shape=(4, 32, 32, 3), gates="none")
    >>> zoo.inflate(images, videos, keep=["classifier"])
    ('classifier',)

    ```

    Args:
        image_model: functional `keras.Model`; it is not changed.
        video_model: functional `keras.Model`, changed in place. A multi-headed model
            is made from an inflated one by `eh.multi_head(…, copy_weights=True)`.
        keep: names of layers of the video model that keep their weights, such as a
            classifier of other classes.

    Returns:
        Tuple of the names of the layers that kept their weights: those of `keep`, and
        gates.

    Raises:
        ValueError: a layer with weights that is missing in one of the models or has
            another shape there, an unknown name in `keep`, or a multi-headed model.
            Nothing is changed then.
    """
    images = _layers_of(image_model, "image_model")
    videos = _layers_of(video_model, "video_model")
    _check_names(keep, images, videos)
    new, kept = {}, []
    for name, layer in videos.items():
        if name in keep or (name not in images and _is_gate(layer)):
            kept.append(name)
        elif name in images:
            new[name] = _inflated(images[name], layer)
        elif _is_temporal(layer):
            new[name] = _identity(layer)
        else:
            raise ValueError(
                f"`image_model` must have a layer `{name}` "
                f"({type(layer).__name__}), as the video model has; put it into `keep` "
                f"to leave it as it is. Received: image_model={image_model.name}"
            )
    for name, weights in new.items():
        videos[name].set_weights(weights)
    return tuple(kept)


def _layers_of(model, argument):
    """{name: layer} of the layers with weights."""
    if isinstance(model, MultiHeadModel) or not isinstance(model, keras.Model):
        raise ValueError(
            f"`{argument}` must be a plain keras.Model; make heads of the inflated "
            "model by `eh.multi_head(…, copy_weights=True)`. "
            f"Received: {argument}={type(model).__name__}"
        )
    return {layer.name: layer for layer in model.layers if layer.weights}


def _check_names(keep, images, videos):
    if isinstance(keep, str):
        raise ValueError(f"`keep` must be a list of names. Received: keep={keep!r}")
    for name in keep:
        if name not in videos:
            raise ValueError(
                "`keep` must name layers of the video model that have weights."
                f"{closest(name, videos)} Received: keep={list(keep)}"
            )
    for name in images:
        if name not in videos:
            raise ValueError(
                f"`video_model` must have a layer `{name}`, as the image model has; "
                f"its weights would be lost.{closest(name, videos)}"
            )


def _is_temporal(layer):
    """Whether a layer convolves along time alone, and can be the identity."""
    return (
        isinstance(layer, layers.Conv3D)
        and layer.kernel_size[0] > 1
        and layer.kernel_size[1:] == (1, 1)
        and layer.strides == (1, 1, 1)
        and layer.kernel.shape[-2] == layer.kernel.shape[-1]
    )


def _is_gate(layer):
    """Whether a layer is a 1x1x1 convolution of averages over all positions."""
    return (
        isinstance(layer, layers.Conv3D)
        and layer.kernel_size == (1, 1, 1)
        and tuple(layer.input.shape[1:4]) == (1, 1, 1)
        and not layer.use_bias
    )


def _identity(layer):
    weights = [np.zeros(weight.shape) for weight in layer.weights]
    weights[0] = np.array(TemporalIdentity()(tuple(layer.kernel.shape)))
    return weights


def _inflated(image_layer, video_layer):
    """The weights of an image layer as a video layer takes them."""
    weights = image_layer.get_weights()
    if isinstance(video_layer, layers.Conv3D):
        frames = video_layer.kernel_size[0]
        weights[0] = np.repeat(weights[0][np.newaxis], frames, axis=0) / frames
    found = [weight.shape for weight in weights]
    wanted = [tuple(weight.shape) for weight in video_layer.weights]
    if found != wanted:
        raise ValueError(
            f"`image_model` must have the shapes of the video model: layer "
            f"`{video_layer.name}` has weights {[w.shape for w in weights]} to give "
            f"and takes {wanted}; put it into `keep` to leave it as it is."
        )
    return weights
