"""NeXtVLAD, the best single model of the YouTube-8M competition of 2018.

Images and sound are aggregated apart, the sound by half the groups and half the
clusters; both go through dropout, a dense hidden layer, a squeezed context gate and a
logistic regression per class.

Sizes are those of the authors' public code at 8 groups, expansion 2, 128 clusters, 2048
hidden units and reduction 8: 88,889,378 trainable parameters, 88.9 M. The paper's "less
than 80M" is near what comes before gate and classifier, 79.9 M. From that code too: the
attention and the expansion have biases, the assignment, the hidden layer and the gate
have none; dropout 0.5; an L2 penalty of 1e-5 on the classifier; batch-norm momentum
0.999 and epsilon 1e-3; weights start from He's normal distribution. One batch norm over
both aggregates, joined, stands for the two there: per feature it is the same.
Ours: frames are not scaled to unit length (`unit_length=True` does so), and padding
does not enter the statistics of the assignment's batch norm, as it does there.
"""

from dataclasses import dataclass

from ensemble_heads.keras_api import keras
from zoo import classifiers
from zoo.batch_norm import BatchNormalization
from zoo.frame_inputs import frame_inputs
from zoo.frame_layers import SplitFeatures
from zoo.gating import squeeze_gate
from zoo.precision import unit_length
from zoo.specs import ModelSpec
from zoo.vlad import GroupedVLAD

layers = keras.layers


@dataclass(frozen=True)
class NeXtVLADSpec(ModelSpec):
    """Shape of one NeXtVLAD.

    The model takes {"frames": float `[batch, frames, feature sizes together]`,
    "num_frames": int `[batch]`} and gives probabilities `[batch, classes]`. Layers to
    fork at: `vlad` (the joined aggregates), `dropout`, `hidden_bn`, `gate`.

    Attributes:
        feature_sizes: features of images and of sound in one frame.
        classes: number of classes.
        clusters: clusters of each, K.
        groups: groups of each, G.
        expansion: expanded features / features; times the features, a multiple of G.
        hidden: units of the hidden layer.
        reduction: hidden units per squeezed unit of the gate.
        dropout: share of the aggregate's features that training drops.
        classifier: "logistic" or "moe".
        num_experts: logistic experts of a class, K, without the dummy.
        unit_length: whether frames are divided by their L2 norm before all else.
        frames: number of frames that videos are padded to; None where it varies.
        l2: c adds c / 2 * sum(w^2) over the kernels of the classifier to the loss.
        batch_norm_momentum: share of the moving statistics that one step keeps.
        batch_norm_epsilon: added to the variance.
        batch_norm_synchronized: whether statistics are those of all replicas together.

    Raises:
        ValueError: a value that its field does not allow.

    References:
        Lin, Xiao & Fan 2018, arXiv:1811.05014.
    """

    feature_sizes: tuple[int, ...] = (1024, 128)
    classes: int = 3862
    clusters: tuple[int, ...] = (128, 64)
    groups: tuple[int, ...] = (8, 4)
    expansion: int = 2
    hidden: int = 2048
    reduction: int = 8
    dropout: float = 0.5
    classifier: str = "logistic"
    num_experts: int = 2
    unit_length: bool = False
    frames: int | None = None
    l2: float = 1e-5
    batch_norm_momentum: float = 0.999
    batch_norm_epsilon: float = 1e-3
    batch_norm_synchronized: bool = False

    def __post_init__(self):
        per_stream = ("feature_sizes", "clusters", "groups")
        self.normalise_tuples(*per_stream)
        for key in per_stream:
            sizes = getattr(self, key)
            if len(sizes) != 2 or not all(isinstance(n, int) and n > 0 for n in sizes):
                self.refuse(key, "be two positive integers, for images and sound")
        self.check_sizes("classes", "expansion", "hidden", "reduction", "num_experts")
        self.check_sizes("frames", optional=True)
        for size, groups in zip(self.feature_sizes, self.groups):
            if size * self.expansion % groups:
                self.refuse("groups", "divide `expansion` times `feature_sizes`")
        self.check_choice("classifier", classifiers.CLASSIFIERS)
        if not 0 <= self.dropout < 1:
            self.refuse("dropout", "be in [0, 1)")
        if self.l2 < 0:
            self.refuse("l2", "not be negative")

    def build(self, name):
        inputs, x, mask = frame_inputs(sum(self.feature_sizes), self.frames)
        if self.unit_length:
            x = unit_length(x, "unit_length")
        streams = SplitFeatures(self.feature_sizes, name="split")(x)
        vlads = [
            self._aggregate(stream, mask, *sizes)
            for stream, *sizes in zip(
                streams, ("images", "sound"), self.clusters, self.groups
            )
        ]
        x = layers.Concatenate(name="vlad")(vlads)
        x = self._norm("vlad_bn")(x)
        x = layers.Dropout(self.dropout, name="dropout")(x)
        x = self._dense(x, "hidden", self.hidden, use_bias=False)
        x = self._norm("hidden_bn")(x)
        x = squeeze_gate(x, "gate", self.reduction, **self._norm_options())
        outputs = classifiers.outputs(
            self.classifier, x, self.classes, self.num_experts, self.l2
        )
        return keras.Model(inputs, outputs, name=name)

    def _aggregate(self, x, mask, name, clusters, groups):
        """One stream of frames as one vector, `[batch, features / groups * K]`."""
        expanded = self.expansion * x.shape[-1]
        x = self._dense(x, f"{name}_expansion", expanded)
        attention = self._dense(x, f"{name}_attention", groups, activation="sigmoid")
        logits = self._dense(x, f"{name}_assignment", groups * clusters, use_bias=False)
        logits = self._norm(f"{name}_assignment_bn")(logits, mask=mask)
        vlad = GroupedVLAD(groups, name=f"{name}_vlad")
        return vlad([x, attention, logits], mask=mask)

    def _dense(self, x, name, units, **options):
        initializer = keras.initializers.HeNormal()
        return layers.Dense(
            units, kernel_initializer=initializer, name=name, **options
        )(x)

    def _norm(self, name):
        return BatchNormalization(name=name, **self._norm_options())

    def _norm_options(self):
        return {
            "momentum": self.batch_norm_momentum,
            "epsilon": self.batch_norm_epsilon,
            "synchronized": self.batch_norm_synchronized,
        }


SPECS = {"nextvlad": NeXtVLADSpec()}
