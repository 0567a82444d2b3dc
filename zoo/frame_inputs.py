"""The inputs of models of frames: a dict of `frames` and `num_frames`."""

from ensemble_heads.keras_api import keras
from zoo.frame_layers import POOLINGS, ClearPadding, FrameMask


def frame_inputs(feature_size, frames=None):
    """Makes the inputs of a model of frames, and what hides their padding.

    Args:
        feature_size: int, features of one frame.
        frames: int, the number of frames that each video is padded to; None where it
            differs from batch to batch.

    Returns:
        Triple of the dict of inputs, the frames with zeros for padding (layer
        `clear_padding`) and their mask (layer `frame_mask`, bool `[batch, frames]`).
    """
    inputs = {
        "frames": keras.Input((frames, feature_size), name="frames"),
        "num_frames": keras.Input((), dtype="int32", name="num_frames"),
    }
    mask = FrameMask(name="frame_mask")(inputs["num_frames"], inputs["frames"])
    x = ClearPadding(name="clear_padding")(inputs["frames"], mask=mask)
    return inputs, x, mask


def pool_frames(x, mask, pooling):
    """Pools over the frames, in the layer `pooling`; its kind is a key of POOLINGS."""
    return POOLINGS[pooling](name="pooling")(x, mask=mask)


def input_shape(model, frames):
    """The `input_shape` with which `eh.profile` counts a number of frames.

    FLOPs of layers over an unknown number of frames cannot be counted, and published
    figures leave them out; with this they are counted.

    Args:
        model: a model of the zoo that takes frames, plain or multi-headed.
        frames: int, number of frames of the video.

    Returns:
        {"frames": (frames, features), "num_frames": ()}.
    """
    part = getattr(model, "trunk", model)
    features = part.input["frames"].shape[-1]
    return {"frames": (frames, int(features)), "num_frames": ()}
