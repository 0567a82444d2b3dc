"""Published models by name, plain and multi-headed.

>>> import zoo
>>> model = zoo.build("cifar_resnet20", classes=100)
>>> model.name, model.output_shape
('cifar_resnet20', (None, 100))
>>> zoo.SPECS["resnet152_2heads"].width_multiplier
0.6875

One file per family: `zoo/resnet.py` (EnsembleNet section 4.1, and CIFAR), `zoo/dbof.py`
(EnsembleNet section 4.2, YouTube-8M), and beside it on YouTube-8M `zoo/nextvlad.py` and
`zoo/video_level.py`.
"""

from zoo import dbof, nextvlad, resnet, video_level
from zoo.batch_norm import BatchNormalization
from zoo.specs import ModelSpec, MultiHeadSpec, closest, merge

SPECS = merge(resnet.SPECS, dbof.SPECS, nextvlad.SPECS, video_level.SPECS)


def names():
    """The names that `build` takes, family by family."""
    return list(SPECS)


def build(name, **changes):
    """Builds a model of the zoo with newly drawn weights.

    Args:
        name: a key of `SPECS`.
        **changes: fields of the row to replace, such as `input_shape`, `classes`,
            `classifier_activation` or `weight_decay`; a multi-headed row takes its
            own fields and those of its base row.

    Returns:
        A `keras.Model` called `name`; for a multi-headed row an `eh.MultiHeadModel`.
        Under `keras.mixed_precision.set_global_policy` it computes in the policy's
        dtype, its outputs in float32 at least.

    Raises:
        ValueError: an unknown name or field (the closest are listed), or a value that
            the field does not allow.
    """
    if name not in SPECS:
        raise ValueError(
            f"`name` must be a model of the zoo.{closest(name, SPECS)} "
            f"All names: {', '.join(SPECS)}. Received: name={name!r}"
        )
    return SPECS[name].with_changes(**changes).build(name)


__all__ = [
    "SPECS",
    "BatchNormalization",
    "ModelSpec",
    "MultiHeadSpec",
    "build",
    "names",
]
