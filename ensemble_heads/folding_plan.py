"""Which batch norms can be folded, and into what.

Nothing is built here: a `FoldingPlan` says which layers of a graph get which weights,
which batch norms become the identity, and why the others stay.
"""

import collections
import dataclasses

import numpy as np

from ensemble_heads import batch_norms, linear_layers
from ensemble_heads import graph as graphs
from ensemble_heads.batch_norms import BATCH_NORMS
from ensemble_heads.keras_api import keras
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper

# Layers that hand their input on unchanged at inference. Exact classes, as everywhere
# in folding: a derived one may do anything (drop units at inference too, say).
_PASSING = {
    getattr(keras.layers, name)
    for name in (
        "ActivityRegularization",
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
    )
    if hasattr(keras.layers, name)
}


@dataclasses.dataclass(frozen=True)
class UnfoldedBatchNorm:
    """A batch norm that `fold_batch_norm` leaves in place.

    Attributes:
        name: str, the layer's name, after those of the models that it is nested in.
        reason: str, why it could not be folded.
    """

    name: str
    reason: str


def batch_norms_in(layer):
    """The batch norms in a layer or model, itself included."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    inner = layer._flatten_layers(recursive=True, include_self=True)
    return list({id(x): x for x in inner if isinstance(x, BATCH_NORMS)}.values())


def unfolded_in(models):
    """List of `UnfoldedBatchNorm` of functional models, under the models' names."""
    return [
        dataclasses.replace(item, name=f"{model.name}/{item.name}")
        for model in models
        for item in FoldingPlan(graphs.read(model)).fold().unfolded()
    ]


class FoldingPlan:
    """Decides what is folded; the graph it works on is left as it is.

    Attributes:
        graph: the `Graph` of the model.
        weights: {id of layer: `LinearWeights`} of the layers that change.
        folded: set of the batch norm `Node`s that become the identity.
    """

    def __init__(self, graph):
        self.graph = graph
        self.weights = {}
        self.folded = set()
        self._outputs = set(graphs.tensors_in(graph.outputs))
        self._consumers = graph.consumers()
        self._producers = graph.producers()
        self._calls = collections.defaultdict(list)
        for node in graph.nodes:
            self._calls[id(node.layer)].append(node)

    def fold(self):
        """Folds until nothing more can be folded."""
        calls = list(self._calls.values())
        linear = [c for c in calls if linear_layers.is_foldable(c[0].layer)]
        norms = [c for c in calls if isinstance(c[0].layer, BATCH_NORMS)]
        # The first loop also takes chains of several batch norms. Those before a
        # layer come second: what can go backwards needs no condition on padding.
        _until_nothing_changes(self._fold_after, linear)
        _until_nothing_changes(self._fold_before, norms[::-1])
        return self

    def unfolded(self):
        """Tuple of `UnfoldedBatchNorm`."""
        found = []
        for nodes in self._calls.values():
            layer = nodes[0].layer
            if isinstance(layer, BATCH_NORMS):
                left = [node for node in nodes if node not in self.folded]
                if left:
                    found.append(UnfoldedBatchNorm(left[0].name, self._why(left[0])))
                continue
            if isinstance(layer, MultiHeadWrapper):
                found += unfolded_in(layer.layout.parts)
                continue
            reason = f"it is inside `{nodes[0].name}`, which is not opened"
            found += [UnfoldedBatchNorm(x.name, reason) for x in batch_norms_in(layer)]
        return tuple(found)

    def _fold_after(self, nodes):
        """Folds the batch norms that come after all calls of one linear layer."""
        layer = nodes[0].layer
        if not linear_layers.is_linear(layer):
            return False
        norms = [self._norm_after(node) for node in nodes]
        if None in norms or not self._agree(norms):
            return False
        weights = self._weights_of(layer)
        self.weights[id(layer)] = weights.then(*_scale_and_shift(norms[0].layer))
        self.folded.update(norms)
        return True

    def _norm_after(self, node):
        """The batch norm that alone takes a linear node's output; or None."""
        axis = _axis_after(node)
        (tensor,) = node.outputs
        dtype = tensor.dtype
        while True:
            takers = self._consumers[tensor]
            if tensor in self._outputs or len(takers) != 1:
                return None
            (taker,) = takers
            if self._is_identity(taker):
                (tensor,) = taker.outputs
            elif _is_frozen_norm(taker) and _axis_of(taker) == axis:
                return taker if taker.outputs[0].dtype == dtype else None
            else:
                return None

    def _agree(self, norms):
        if len(set(norms)) < len(norms):
            return False
        first, *others = {
            id(n.layer): _scale_and_shift(n.layer) for n in norms
        }.values()
        return all(np.array_equal(first, other) for other in others)

    def _fold_before(self, nodes):
        """Folds one batch norm layer into the linear layers that take its outputs."""
        nodes = [node for node in nodes if node not in self.folded]
        takers = self._linear_takers(nodes)
        if not takers or any(self._why_not_before(n, t, takers) for n, t in takers):
            return False
        scale, shift = _scale_and_shift(nodes[0].layer)
        for layer in {id(taker.layer): taker.layer for _, taker in takers}.values():
            weights = self._weights_of(layer)
            self.weights[id(layer)] = weights.after(scale, shift)
        self.folded.update(nodes)
        return True

    def _linear_takers(self, norms):
        """Pairs of batch norm and linear node that takes it; none if others do too."""
        pairs = []
        for norm in norms:
            stack = list(norm.outputs)
            while stack:
                tensor = stack.pop()
                if tensor in self._outputs or not _is_frozen_norm(norm):
                    return []
                for taker in self._consumers[tensor]:
                    if self._is_identity(taker):
                        stack += taker.outputs
                    elif linear_layers.is_foldable(taker.layer):
                        pairs.append((norm, taker))
                    else:
                        return []
        return pairs

    def _why_not_before(self, norm, taker, takers):
        """Why a batch norm cannot go into a linear layer after it; None if it can."""
        layer, shape = taker.layer, taker.inputs[0].shape
        where = f"`{taker.name}` after it"
        if {t for _, t in takers if t.layer is layer} != set(self._calls[id(layer)]):
            return f"{where} is also called on other inputs"
        if _axis_of(norm) != linear_layers.channel_axis(layer, len(shape)):
            return f"{where} has its channels on another axis"
        if norm.outputs[0].dtype != norm.inputs[0].dtype:
            return "it changes the dtype"
        shift = _scale_and_shift(norm.layer)[1]
        if np.any(shift) and not linear_layers.adds_no_padding(layer, shape):
            return f"{where} pads with zeros, which its shift would change"
        return None

    def _is_identity(self, node):
        layer = node.layer
        if node in self.folded:
            return True
        if type(layer) is keras.layers.Activation:
            return linear_layers.is_linear(layer)
        return type(layer) in _PASSING and not _may_train(node)

    def _weights_of(self, layer):
        return self.weights.get(id(layer)) or linear_layers.LinearWeights.of(layer)

    def _why(self, node):
        if not _is_frozen_norm(node):
            if not batch_norms.is_known(node.layer):
                own = type(node.layer).__name__
                return f"its class {own} is derived, and may compute otherwise"
            if _axis_of(node) is None:
                return "it normalises several axes"
            return "it is called with `training`, so it uses the batch's statistics"
        takers = self._linear_takers([node])
        after = [self._why_not_before(n, t, takers) for n, t in takers]
        if not takers:
            names = [f"`{t.name}`" for t in self._consumers[node.outputs[0]]]
            names += ["the model's output"] * (node.outputs[0] in self._outputs)
            after = [f"what follows ({', '.join(names[:3])}) is not only linear layers"]
        reasons = [reason for reason in after if reason]
        reasons = reasons or ["its other calls cannot be folded into what follows"]
        return f"{self._why_not_after(node)}; {reasons[0]}"

    def _why_not_after(self, node):
        tensor = node.inputs[0]
        source = self._producers.get(tensor)
        while source is not None and self._is_identity(source):
            tensor = source.inputs[0]
            source = self._producers.get(tensor)
        if source is None:
            return "it comes after an input of the model"
        what = f"`{source.name}` ({type(source.layer).__name__}) before it"
        if not linear_layers.is_foldable(source.layer):
            return f"{what} is not a linear layer that is known"
        if not linear_layers.is_linear(source.layer):
            return f"{what} has an activation of its own"
        if self._norm_after(source) is None:
            return f"{what} has other outputs, another channel axis or another dtype"
        return f"{what} is shared, and its calls do not agree"


def _until_nothing_changes(fold, groups):
    changed = True
    while changed:
        changed = False
        for nodes in groups:
            changed |= fold(nodes)


def _scale_and_shift(norm):
    """A batch norm at inference as `scale * x + shift`; float64, `[channels]`."""
    as_float64 = linear_layers.as_float64
    mean, variance = as_float64(norm.moving_mean), as_float64(norm.moving_variance)
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * as_float64(norm.gamma)
    shift = -mean * scale
    if norm.center:
        shift = shift + as_float64(norm.beta)
    return scale, shift


def _axis_of(node):
    """Position of a batch norm's channels, counted from the front; None if several."""
    axis = node.layer.axis
    axes = [axis] if isinstance(axis, int) else list(axis)
    return axes[0] % len(node.inputs[0].shape) if len(axes) == 1 else None


def _axis_after(node):
    return linear_layers.channel_axis(node.layer, len(node.outputs[0].shape))


def _is_frozen_norm(node):
    """Whether a node is a batch norm per channel that uses its moving statistics."""
    return (
        batch_norms.is_known(node.layer)
        and not _may_train(node)
        and _axis_of(node) is not None
    )


def _may_train(node):
    """Whether a call says `training`, other than by leaving it open or False."""
    given = [*node.args[1:2], node.kwargs.get("training")]
    return any(value is not None and value is not False for value in given)
