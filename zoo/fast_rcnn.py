"""Fast R-CNN: classes and boxes of given proposals, from regions of a feature map.

Girshick 2015, arXiv:1504.08083. Lee et al. 2015 ("Why M heads are better than one",
appendix A) turn its AlexNet variant into trees, split behind `conv1`, `conv2` or
`conv3`, and average the heads' class scores and boxes:

```python
single = zoo.build("fast_rcnn_small")
tree = eh.multi_head(single, "conv1", num_heads=2)
```

Regions are pooled by RoIAlign, see `zoo/region_pooling.py` and docs/papers.md.
"""

from dataclasses import dataclass

from ensemble_heads.keras_api import keras
from zoo.caffenet import CaffeNetSpec
from zoo.images import ImageSpec
from zoo.precision import output_dtype
from zoo.region_pooling import RegionPooling
from zoo.specs import MultiHeadSpec

layers = keras.layers


class _Detector:
    """What the families share: the upper part over pooled regions, and its outputs.

    Input: dict of `image`, `[batch, height, width, channels]`, and `proposals`,
    `[batch, proposals, 4]`, normalised (y1, x1, y2, x2), of any number unless the
    spec has one. A proposal's outputs depend on no other one, so padding needs no
    mask here.

    Output: dict of `classes`, probabilities `[batch, proposals, classes + 1]` with the
    background first, and `boxes`, offsets `[batch, proposals, 4 * classes]` as
    `eh.detection.decode_boxes` takes them.
    """

    def inputs(self):
        """The inputs of the model by name."""
        return {
            "image": keras.Input(self.input_shape, name="image"),
            "proposals": keras.Input((self.proposals, 4), name="proposals"),
        }

    def over_regions(self, inputs, features, name):
        """The model, from its inputs and the last feature map on."""
        x = RegionPooling(self.bins, name="region_pool")(
            [features, inputs["proposals"]]
        )
        flat = x.shape[-1] * self.bins**2
        x = layers.Reshape((-1, flat), name="flatten")(x)
        for number, units in enumerate(self.hidden, start=6):
            x = layers.Dense(
                units,
                activation="relu",
                kernel_initializer=self.hidden_initializer(),
                kernel_regularizer=self.decay(),
                name=f"fc{number}",
            )(x)
            x = layers.Dropout(self.dropout, name=f"drop{number}")(x)
        outputs = {
            "classes": self._output(x, "classes", self.classes + 1, 0.01, "softmax"),
            "boxes": self._output(x, "boxes", 4 * self.classes, 0.001, None),
        }
        return keras.Model(inputs, outputs, name=name)

    def hidden_initializer(self):
        """That of the dense layers over the regions."""
        return keras.initializers.HeNormal()

    def check_detector(self):
        """Checks for `__post_init__` what the families share."""
        self.check_sizes("bins")
        self.check_sizes("proposals", optional=True)
        self.check_shares("dropout")
        if self.classifier_activation != "softmax":
            self.refuse("classifier_activation", "be 'softmax', as a detector's is")

    def _output(self, x, name, units, stddev, activation):
        return layers.Dense(
            units,
            activation=activation,
            kernel_initializer=keras.initializers.RandomNormal(stddev=stddev),
            kernel_regularizer=self.decay(),
            dtype=output_dtype(),
            name=name,
        )(x)


@dataclass(frozen=True)
class FastRCNNSpec(_Detector, ImageSpec):
    """A small detector, for the scenes of `datasets/scenes.py`; fields of `ImageSpec`.

    Its layers in order: `conv1` and so on, each but the last with a `pool` of 2 x 2,
    `region_pool`, `flatten`, `fc6` and so on with `drop6`, then `classes` and `boxes`.

    Attributes:
        filters: channels of each convolution.
        hidden: units of the dense layers over a region.
        bins: bins along either side of a region.
        dropout: share that is dropped behind the dense layers.
        classes: number of classes of objects, the background not among them.
        proposals: number of proposals of an image, or None for any. FLOPs can be
            counted only for a number.
    """

    filters: tuple[int, ...] = (16, 32, 48)
    hidden: tuple[int, ...] = (64,)
    bins: int = 4
    dropout: float = 0.0
    input_shape: tuple[int, ...] = (64, 64, 3)
    classes: int = 3
    proposals: int | None = None

    def __post_init__(self):
        super().__post_init__()
        self.check_tuples_of_sizes("filters", "hidden")
        self.check_detector()

    def build(self, name):
        inputs = self.inputs()
        x = inputs["image"]
        for number, filters in enumerate(self.filters, start=1):
            if number > 1:
                x = layers.MaxPooling2D(name=f"pool{number - 1}")(x)
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer=keras.initializers.HeNormal(),
                kernel_regularizer=self.decay(),
                name=f"conv{number}",
            )(x)
        return self.over_regions(inputs, x, name)


@dataclass(frozen=True)
class CaffeNetDetectorSpec(_Detector, CaffeNetSpec):
    """Fast R-CNN on CaffeNet, as in appendix A; fields of `CaffeNetSpec`, and
    `bins` and `proposals` of `FastRCNNSpec`.

    Its layers in order: those of CaffeNet up to `conv5`, then `region_pool` in the
    place of `pool5`, and on as in `FastRCNNSpec`. Stride 16.
    """

    bins: int = 6
    input_shape: tuple[int, ...] = (600, 1000, 3)
    classes: int = 20  # of PASCAL VOC
    proposals: int | None = None

    def __post_init__(self):
        super().__post_init__()
        self.check_detector()

    def hidden_initializer(self):
        return keras.initializers.RandomNormal(stddev=0.005)

    def build(self, name):
        inputs = self.inputs()
        return self.over_regions(inputs, self.features(inputs["image"]), name)


SPECS = {
    "fast_rcnn_small": FastRCNNSpec(),
    "fast_rcnn_caffenet": CaffeNetDetectorSpec(),
}

SPECS["fast_rcnn_small_2heads"] = MultiHeadSpec(SPECS["fast_rcnn_small"], "conv1", 2)

# Lee et al. 2015, Table 7: of ILSVRC-Alex x 5 the split at conv2 detects best.
SPECS["fast_rcnn_caffenet_5heads"] = MultiHeadSpec(
    SPECS["fast_rcnn_caffenet"], "norm2", 5
)
