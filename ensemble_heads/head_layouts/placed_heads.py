"""Separate heads on devices of their own."""

import tensorflow as tf

from ensemble_heads import placement
from ensemble_heads.cloning import faithful_copy
from ensemble_heads.head_layouts.head_layout import run
from ensemble_heads.head_layouts.separate_heads import SeparateHeads
from ensemble_heads.keras_api import register
from ensemble_heads.predictions import widen


@register
class PlacedHeads(SeparateHeads):
    """Heads whose variables and computations are on devices of their own.

    Of a batch, the features travel to every device once, and the raw outputs of its
    heads back; in training so do the gradients of both, and a few numbers.

    Args:
        heads: list of functional `keras.Model`, features -> raw outputs, whose
            variables are on these devices.
        devices: list of names of devices, one per head; None for where the rest of
            the model is.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What a head takes: one tensor, or a list or dict of tensors.

    Output shape:
        Raw outputs `[batch, heads, …]`, in the structure of a head's outputs.

    Attributes:
        devices: tuple of str or None.

    Raises:
        ValueError: no heads, or devices that do not fit them.
    """

    def __init__(self, heads, devices, **kwargs):
        super().__init__(heads, **kwargs)
        self.devices = placement.check_devices(devices, len(heads))
        self._penalties = _Penalties()

    @classmethod
    def copied(cls, heads, devices, **kwargs):
        """Copies of heads with their present weights, each made on its device."""
        copies = []
        for head, device in zip(
            heads, placement.check_devices(devices, len(heads)), strict=True
        ):
            with tf.device(device):
                copies.append(faithful_copy(head))
        return cls(copies, devices, **kwargs)

    @property
    def penalties(self):
        """What the layers of the heads added to the loss in the call made last."""
        return list(self._penalties.values)

    def stacked_logits(self, features, training=None):
        raw, self._penalties.values = {}, []
        for device in dict.fromkeys(self.devices):
            places = [i for i, one in enumerate(self.devices) if one == device]
            *outputs, penalty = self._run(device, places, features, training)
            raw.update(zip(places, outputs, strict=True))
            if penalty is not None:
                self._penalties.values.append(penalty)
        return self.stack([raw[i] for i in range(self.num_heads)])

    def mapped(self, function):
        heads = []
        for head, device in zip(self.parts, self.devices, strict=True):
            with tf.device(device):
                heads.append(function(head))
        return PlacedHeads(heads, self.devices, name=self.name)

    def select(self, indices):
        devices = [self.devices[i] for i in indices]
        return PlacedHeads([self.parts[i] for i in indices], devices)

    @classmethod
    def from_config(cls, config):
        """Heads where the rest of the model is: no file needs certain devices."""
        return SeparateHeads.from_config(config)

    def _run(self, device, places, features, training):
        """Raw outputs of every head on one device, and the sum of their penalties."""
        flat = tf.nest.flatten(features)
        masks = [getattr(tensor, "_keras_mask", None) for tensor in flat]
        given = [*flat, *(mask for mask in masks if mask is not None)]

        def run_heads(tensors):
            inputs, rest = tensors[: len(flat)], iter(tensors[len(flat) :])
            for tensor, mask in zip(inputs, masks, strict=True):
                if mask is not None:
                    tensor._keras_mask = next(rest)
            inputs = tf.nest.pack_sequence_as(features, inputs)
            outputs, penalties = [], []
            for i in places:
                raw = run(self.parts[i], inputs, training)
                outputs += self.outputs_like.flatten(raw, "outputs")
                penalties += [tf.reduce_sum(widen(p)) for p in self.parts[i].losses]
            own = [getattr(tensor, "_keras_mask", None) for tensor in outputs]
            return [*outputs, *own, tf.add_n(penalties) if penalties else None]

        *results, penalty = placement.run_on(device, run_heads, given)
        count, size = len(results) // 2, len(self.outputs_like)
        for tensor, mask in zip(results[:count], results[count:], strict=True):
            if mask is not None:
                tensor._keras_mask = mask
        for first in range(0, count, size):
            yield self.outputs_like.pack(results[first : first + size])
        yield penalty


class _Penalties:
    """Tensors of the call made last, out of sight of Keras' tracking of attributes."""

    values = ()
