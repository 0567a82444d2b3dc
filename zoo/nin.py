"""Network in Network (Lin, Chen & Yan 2014, arXiv:1312.4400), for CIFAR and ILSVRC.

A block is a convolution and two 1x1 convolutions, each with a ReLU; the last of all has
a channel per class, the mean of which over the image is the class' score. Its ReLU is
in the authors' definitions as well, so that scores are never negative.

Sizes, initial weights and dropout are those of the authors' definitions (CIFAR-100 for
cuda-convnet, ILSVRC for Caffe); layers carry their names, a convolution's ReLU in it.
The weight decay is what Lee et al. 2015 ("Why M heads are better than one") give in
section 3.1, on kernels only. They print one figure of size: the best TreeNet of four
on ILSVRC has 7 % fewer parameters than four networks. These definitions give 0.4 % for
the split that their Table 2 shows as best, after `cccp1`, and 7 % for the splits after
`conv2` (6.6 %, and an accuracy within its deviation of the best) and `cccp3` (7.2 %).
"""

from dataclasses import dataclass

from ensemble_heads.keras_api import keras
from zoo.caffe_layers import convolution, pool
from zoo.images import ImageSpec
from zoo.precision import output_dtype
from zoo.specs import MultiHeadSpec

layers = keras.layers


@dataclass(frozen=True)
class MLPConv:
    """One block: a convolution and two 1x1 convolutions.

    Attributes:
        filters: channels of the three; the last None stands for the classes.
        kernel: side of the first one's kernel.
        stddevs: standard deviations of the three kernels' initial weights.
        stride: of the first one.
        padding: of the first one.
        dropout: share dropped after the pooling that follows the block.
    """

    filters: tuple[int | None, int | None, int | None]
    kernel: int
    stddevs: tuple[float, float, float]
    stride: int = 1
    padding: str = "same"
    dropout: float = 0.0


@dataclass(frozen=True)
class NiNSpec(ImageSpec):
    """Shape of one Network in Network; fields of `ImageSpec`, and these.

    Its layers in order: `conv1`, `cccp1`, `cccp2`, `pool1`, (`drop1`,) `conv2`,
    `cccp3`, `cccp4`, `pool2`, ..., `pool`, `predictions`.

    Attributes:
        blocks: `MLPConv` of each block; between two blocks is a max pooling.
    """

    blocks: tuple[MLPConv, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        self.normalise_tuples("blocks")
        if not self.blocks or self.blocks[-1].filters[-1] is not None:
            self.refuse("blocks", "be MLPConv, the last of which ends in None filters")

    def build(self, name):
        x = inputs = self.images()
        for index, block in enumerate(self.blocks, start=1):
            x = self._block(x, block, index)
            if index < len(self.blocks):
                x = pool(x, "max", f"pool{index}")
                if block.dropout:
                    x = layers.Dropout(block.dropout, name=f"drop{index}")(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        outputs = layers.Activation(
            self.classifier_activation, dtype=output_dtype(), name="predictions"
        )(x)
        return keras.Model(inputs, outputs, name=name)

    def _block(self, x, block, index):
        first, second, last = (n or self.classes for n in block.filters)
        deviations = block.stddevs
        x = convolution(
            x,
            self,
            f"conv{index}",
            first,
            block.kernel,
            deviations[0],
            strides=block.stride,
            padding=block.padding,
        )
        x = convolution(x, self, f"cccp{2 * index - 1}", second, 1, deviations[1])
        return convolution(x, self, f"cccp{2 * index}", last, 1, deviations[2])


SPECS = {
    "nin_cifar": NiNSpec(
        blocks=(
            MLPConv((192, 160, 96), 5, (0.001, 0.01, 0.01), dropout=0.5),
            MLPConv((192, 192, 192), 5, (0.05, 0.05, 0.05), dropout=0.5),
            MLPConv((192, 192, None), 3, (0.05, 0.05, 0.05)),
        ),
        classes=100,
        weight_decay=1e-4,
    ),
    "nin_imagenet": NiNSpec(
        blocks=(
            MLPConv((96,) * 3, 11, (0.01, 0.05, 0.05), stride=4, padding="valid"),
            MLPConv((256,) * 3, 5, (0.05, 0.05, 0.05)),
            MLPConv((384,) * 3, 3, (0.01, 0.05, 0.05), dropout=0.5),
            MLPConv((1024, 1024, None), 3, (0.05, 0.05, 0.01)),
        ),
        input_shape=(224, 224, 3),
        classes=1000,
        weight_decay=5e-4,
    ),
}

# Lee et al. 2015, Table 2: ILSVRC-NiN x 4 is best when split at cccp1. Of CIFAR100-NiN
# x 4 there are only ensembles that share nothing (Tables 1 and 3).
SPECS |= {
    "nin_cifar_4heads": MultiHeadSpec(SPECS["nin_cifar"], "images", 4),
    "nin_imagenet_4heads": MultiHeadSpec(SPECS["nin_imagenet"], "cccp1", 4),
}
