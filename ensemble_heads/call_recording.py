"""Which layer's call made which operations of a graph."""

import contextlib
import threading

import tensorflow as tf

from ensemble_heads.keras_api import KERAS_3, keras

_patching = threading.RLock()


class CallRecorder:
    """Remembers which layer's call made which operations while a graph is traced.

    The names of the operations would not tell: on Keras 3 the operations of the layer
    `conv` can come under the scope `conv_2`, beside a layer that is called `conv_2`.
    """

    def __init__(self):
        self._spans = {}  # id of graph -> [(first, end, layer)], inner calls first
        self._graphs = []  # kept alive, so that the ids stay theirs

    @contextlib.contextmanager
    def recording(self):
        """Records the calls of Keras layers (and Keras 3 operations) made inside."""
        base = keras.Operation if KERAS_3 else keras.layers.Layer
        original = base.__call__
        spans, graphs = self._spans, self._graphs

        def recorded_call(layer, *args, **kwargs):
            graph = tf.compat.v1.get_default_graph()
            first = graph.version  # the number of operations so far
            try:
                return original(layer, *args, **kwargs)
            finally:
                graphs.append(graph)
                spans.setdefault(id(graph), []).append((first, graph.version, layer))

        # AutoGraph then passes through as it does through Keras's own method.
        recorded_call.autograph_info__ = {}
        with _patching:
            base.__call__ = recorded_call
            try:
                yield
            finally:
                base.__call__ = original

    def owners(self, graph, layers, default=None):
        """The layer of every operation of `graph`, in the order of its operations.

        Args:
            graph: tf.Graph traced while recording.
            layers: set of the ids of the layers to tell apart; operations of their
                sublayers count as theirs.
            default: the layer of operations outside of all their calls.
        """
        owners = [default] * graph.version
        for first, end, layer in reversed(self._spans.get(id(graph), [])):
            if id(layer) in layers:
                owners[first:end] = [layer] * (end - first)
        return owners
