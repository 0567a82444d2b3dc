"""Deep bag of frames with context gates: EnsembleNet section 4.2, YouTube-8M.

Every frame goes through a dense cluster layer and a context gate; the frames are
pooled; a dense hidden layer, a second gate and one mixture of logistic experts per
class follow. Batch norms are on the input and after every dense layer, which then has
no bias.

What the paper leaves open, and what its printed sizes say about it:
* the second gate is on the *hidden* layer, although the text says "after the
  classification layer": only so do all four sizes of Table 2 come out, 229 M and 226 M
  parameters and 415 M and 410 M FLOPs. `second_gate="scores"` follows the text;
* the gates are full matrices, `cluster` x `cluster` and `hidden` x `hidden`;
* the mixture has a dummy expert, and gates without bias;
* the FLOPs are those after the pooling alone, since TensorFlow's profiler cannot count
  an unknown number of frames. F frames add 2 F (1152 x 4096 + 4096 x 4096) and little
  more: `eh.profile(model, input_shape=zoo.frame_inputs.input_shape(model, F))`.
Inferred without evidence in the sizes: the activations after cluster and hidden layer
are ReLUs capped at 6 (the starter code of YouTube-8M caps them, its successor does
not); frames are not scaled to unit length before the batch norm of the input (both do
so; `unit_length=True`); batch-norm momentum 0.99 and epsilon 1e-3; cluster and hidden
kernels start from N(0, 1 / inputs), all others from Glorot's uniform distribution.
"""

from dataclasses import dataclass

from ensemble_heads.keras_api import keras
from zoo import classifiers
from zoo.batch_norm import BatchNormalization
from zoo.frame_inputs import frame_inputs, pool_frames
from zoo.frame_layers import POOLINGS
from zoo.gating import MultiplyProbabilities, context_gate, gate_logits
from zoo.precision import unit_length
from zoo.specs import ModelSpec, MultiHeadSpec

layers = keras.layers

_SECOND_GATES = ("hidden", "scores", "none")


@dataclass(frozen=True)
class DBoFSpec(ModelSpec):
    """Shape of one deep bag of frames.

    The model takes {"frames": float `[batch, frames, feature_size]`, "num_frames":
    int `[batch]`} and gives probabilities `[batch, classes]`. Its layers in order:
    `input_bn`, `cluster`, `cluster_relu`, `cluster_gate`, `pooling`, `hidden`,
    `hidden_relu`, `hidden_gate`, `moe`, `probabilities`, and what belongs to them.

    Attributes:
        feature_size: features of one frame; YouTube-8M has 1024 of images and 128 of
            sound.
        classes: number of classes.
        cluster: units of the cluster layer.
        hidden: units of the hidden layer.
        num_experts: logistic experts of a class, K, without the dummy.
        pooling: "swap" (equation 4), "average", "max" or "attention".
        second_gate: "hidden", before the mixture; "scores", on the probabilities
            after it; or "none". One after the cluster layer there is always.
        input_batch_norm: whether a batch norm comes first.
        unit_length: whether frames are divided by their L2 norm before all else.
        relu_cap: cap of the ReLUs; None leaves them open.
        frames: number of frames that videos are padded to; None where it varies.
        l2: c adds c / 2 * sum(w^2) over the kernels of the mixture to the loss.
        batch_norm_momentum: share of the moving statistics that one step keeps.
        batch_norm_epsilon: added to the variance.
        batch_norm_synchronized: whether statistics are those of all replicas together.

    Raises:
        ValueError: a value that its field does not allow.
    """

    feature_size: int = 1152
    classes: int = 3862
    cluster: int = 4096
    hidden: int = 4096
    num_experts: int = 5
    pooling: str = "swap"
    second_gate: str = "hidden"
    input_batch_norm: bool = True
    unit_length: bool = False
    relu_cap: float | None = 6.0
    frames: int | None = None
    l2: float = 1e-8
    batch_norm_momentum: float = 0.99
    batch_norm_epsilon: float = 1e-3
    batch_norm_synchronized: bool = False

    def __post_init__(self):
        sizes = ("feature_size", "classes", "cluster", "hidden", "num_experts")
        self.check_sizes(*sizes)
        self.check_sizes("frames", optional=True)
        self.check_choice("pooling", POOLINGS)
        self.check_choice("second_gate", _SECOND_GATES)
        if self.relu_cap is not None and self.relu_cap <= 0:
            self.refuse("relu_cap", "be positive or None")
        if self.l2 < 0:
            self.refuse("l2", "not be negative")

    def build(self, name):
        inputs, x, mask = frame_inputs(self.feature_size, self.frames)
        if self.unit_length:
            x = unit_length(x, "unit_length")
        if self.input_batch_norm:
            x = self._norm("input_bn")(x, mask=mask)
        x = self._dense(x, "cluster", self.cluster, mask)
        x = context_gate(x, "cluster_gate", mask, **self._norm_options())
        x = pool_frames(x, mask, self.pooling)
        x = self._dense(x, "hidden", self.hidden)
        if self.second_gate == "hidden":
            x = context_gate(x, "hidden_gate", **self._norm_options())
        x = classifiers.mixture_logits(x, self.classes, self.num_experts, self.l2)
        if self.second_gate == "scores":
            x = self._gate_scores(x)
        return keras.Model(inputs, classifiers.probabilities(x), name=name)

    def _dense(self, x, name, units, mask=None):
        """Dense layer, batch norm and ReLU."""
        initializer = keras.initializers.VarianceScaling(
            1.0, mode="fan_in", distribution="untruncated_normal"
        )
        x = layers.Dense(
            units, use_bias=False, kernel_initializer=initializer, name=name
        )(x)
        x = self._norm(f"{name}_bn")(x, mask=mask)
        return layers.ReLU(self.relu_cap, name=f"{name}_relu")(x)

    def _gate_scores(self, logits):
        """The mixtures' probabilities, each times a gate that sees all of them."""
        scores = layers.Activation("sigmoid", name="scores")(logits)
        gates = gate_logits(scores, "score_gate", **self._norm_options())
        return MultiplyProbabilities(name="score_gate")([logits, gates])

    def _norm(self, name):
        return BatchNormalization(name=name, **self._norm_options())

    def _norm_options(self):
        return {
            "momentum": self.batch_norm_momentum,
            "epsilon": self.batch_norm_epsilon,
            "synchronized": self.batch_norm_synchronized,
        }


SPECS = {"dbof": DBoFSpec()}

# EnsembleNet Table 2: 3000 of 4096 hidden units, 3 experts instead of 5.
SPECS["dbof_2heads"] = MultiHeadSpec(
    SPECS["dbof"],
    "pooling",
    2,
    width_multiplier=3000 / 4096,
    overrides={"moe": {"num_experts": 3}},
)
