"""A list of examples that a metric collects, one per replica of a strategy."""

import contextlib
import weakref

import tensorflow as tf

_FIRST_ROWS = 1024


class EntryBuffer:
    """Rows that grow batch by batch, kept apart per replica until they are read.

    A plain object with raw variables, not a Keras one: the rows are of no use in a
    checkpoint or a `.keras` file, and Keras would sum or average them over replicas
    where their union is wanted. Nothing else is summed per replica: `totals` is.

    Args:
        columns: list of (shape of a row, dtype).
        totals: int, how many float64 sums are kept beside the rows.
        max_examples: int, rows that a replica can hold, or None to grow as needed
            (by half, each time).
    """

    def __init__(self, columns, totals, max_examples=None):
        self.max_examples = max_examples
        self._strategy = tf.distribute.get_strategy()
        self._distributed = tf.distribute.has_strategy()
        self._updating_graphs = weakref.WeakSet()
        rows = _FIRST_ROWS if max_examples is None else max_examples
        with tf.init_scope():
            self._columns = [
                _variable([rows, *tail], dtype, [max_examples, *tail])
                for tail, dtype in columns
            ]
            self._rows = _variable([], tf.int64)
            self._totals = _variable([totals], tf.float64)
            self._last = _variable([], tf.float64)
            self._last_rows = _variable([], tf.int64)

    @property
    def bytes(self):
        """Bytes that the columns of all replicas of this process hold now."""
        with self._entered():
            return sum(
                tf.size(_read(variable)).numpy() * variable.dtype.size
                for part in self._parts()
                for variable in part.columns
            )

    def append(self, columns, totals):
        """Adds one batch to the rows of the replica that runs.

        Outside of a replica, under a strategy, to those of the first one: which one
        holds a row makes no difference.

        Args:
            columns: list of tensors `[batch, …]`.
            totals: float64 `[totals]`, added to the sums.

        Raises:
            ValueError: under XLA without `max_examples`, or in a replica of a strategy
                in whose scope the metric was not made.
        """
        self._check_replica()
        if not tf.executing_eagerly():
            self._updating_graphs.add(tf.compat.v1.get_default_graph())
        if self.max_examples is None and under_xla():
            raise ValueError(
                "`max_examples` must be given to the metric where a step is compiled "
                "by XLA (`jit_compile=True`, on a GPU also Keras 3's default), since "
                "no buffer can grow there. Received: max_examples=None"
            )
        with self._entered():
            part = self._parts()[0]
            start = _read(part.rows)
            end = start + tf.shape(columns[0], tf.int64)[0]
            places = tf.range(start, end)
            if self.max_examples is not None:
                # Too many are counted and refused in `overflows`.
                places = tf.minimum(places, self.max_examples - 1)
            for variable, values in zip(part.columns, columns, strict=True):
                if self.max_examples is None:
                    _grow(variable, end)
                tf.raw_ops.ResourceScatterNdUpdate(
                    ref=variable.handle,
                    indices=places[:, tf.newaxis],
                    updates=tf.cast(values, variable.dtype),
                )
            _assign(part.totals, _read(part.totals) + totals)
            _assign(part.rows, end)

    def read(self):
        """All rows of all replicas, of all workers when called eagerly.

        In a replica, its own. Under XLA, whole buffers.

        Returns:
            (list of columns `[rows, …]`, bool `[rows]` of the rows that hold
            something, float64 `[totals]`).
        """
        with self._entered():
            columns, filled = self._read_rows(self._parts())
            totals = self._read_totals(self._parts())
            if tf.executing_eagerly() and _several_workers(self._strategy):
                gathered = _of_all_workers(self._strategy, [*columns, filled])
                columns, filled = gathered[:-1], gathered[-1]
                totals = _of_all_workers(self._strategy, [totals[tf.newaxis]])[0]
                totals = tf.reduce_sum(totals, axis=0)
        return columns, filled, totals

    def running(self, value_of, growth):
        """A value that is computed anew only when the rows have grown enough.

        Args:
            value_of: function of what `read` returns -> float64 scalar.
            growth: float, share of the rows present at the last computation.
        """
        with self._entered():
            parts = self._parts()
            rows = tf.add_n([_read(part.rows) for part in parts])
            last, last_rows = parts[0].last, parts[0].last_rows
            before = _read(last_rows)

            def compute():
                value = value_of(*self._read_rows(parts), self._read_totals(parts))
                _assign(last, value)
                _assign(last_rows, rows)
                return value

            grown = tf.cast(rows - before, tf.float64)
            due = grown > growth * tf.cast(before, tf.float64)
            return tf.cond(due, compute, lambda: _read(last))

    def overflows(self):
        """bool scalar: whether more came than `max_examples`, in any local replica."""
        if self.max_examples is None:
            return tf.constant(False)
        with self._entered():
            rows = tf.stack([_read(part.rows) for part in self._parts()])
        return tf.reduce_any(rows > self.max_examples)

    def reset(self):
        """Forgets all rows; costs nothing, and keeps the memory."""
        with self._entered():
            for part in self._parts():
                for variable in (part.rows, part.totals, part.last, part.last_rows):
                    _assign(variable, tf.zeros(variable.shape, variable.dtype))

    def in_updating_graph(self):
        """Whether the graph being built, or one around it, also appends."""
        if tf.executing_eagerly():
            return False
        return any(graph in self._updating_graphs for graph in _graphs())

    def _read_rows(self, parts):
        per_part = []
        for part in parts:
            columns = [_read(variable) for variable in part.columns]
            rows = _read(part.rows)
            if not under_xla():
                columns = [column[:rows] for column in columns]
            places = tf.range(tf.shape(columns[0], tf.int64)[0])
            per_part.append([*columns, places < rows])
        *columns, filled = [tf.concat(one, axis=0) for one in zip(*per_part)]
        return columns, filled

    def _read_totals(self, parts):
        return tf.add_n([_read(part.totals) for part in parts])

    def _parts(self):
        variables = [*self._columns, self._rows, self._totals]
        variables += [self._last, self._last_rows]
        if not (self._distributed and tf.distribute.in_cross_replica_context()):
            return [_Part(variables)]
        local = self._strategy.experimental_local_results
        return [_Part(ones) for ones in zip(*map(local, variables))]

    @contextlib.contextmanager
    def _entered(self):
        if not self._distributed or tf.distribute.has_strategy():
            yield
        else:  # after `evaluate`, outside of the scope
            with self._strategy.scope():
                yield

    def _check_replica(self):
        running = tf.distribute.get_strategy()
        if tf.distribute.in_cross_replica_context() or running is self._strategy:
            return
        if running.num_replicas_in_sync > 1:
            raise ValueError(
                "The metric must be made under `strategy.scope()` of the strategy that "
                f"runs it. Received: made under {type(self._strategy).__name__}, run "
                f"by {type(running).__name__}"
            )


class _Part:
    """The variables of one replica."""

    def __init__(self, variables):
        *self.columns, self.rows, self.totals, self.last, self.last_rows = variables


def _variable(shape, dtype, open_shape=None):
    return tf.Variable(
        lambda: tf.zeros(shape, dtype),
        shape=open_shape,
        dtype=dtype,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )


# By their handles, variables of one replica behave alike in and out of replicas.
def _read(variable):
    value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
    return tf.ensure_shape(value, variable.shape)


def _assign(variable, value):
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def _grow(variable, rows):
    """Makes room for this many rows."""
    # Not the value's own shape: reading the variable would copy it at every step.
    shape = tf.raw_ops.VariableShape(input=variable.handle, out_type=tf.int64)
    capacity = shape[0]

    def copy():
        more = tf.maximum(rows - capacity, capacity // 2)
        zeros = tf.zeros(tf.concat([[more], shape[1:]], 0), variable.dtype)
        _assign(variable, tf.concat([_read(variable), zeros], axis=0))
        return more

    tf.cond(rows > capacity, copy, lambda: tf.zeros([], tf.int64))


def _graphs():
    """The graph being built and those around it, inside out."""
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def under_xla():
    """Whether the graph being built will be compiled by XLA."""
    if tf.executing_eagerly():
        return False
    for graph in _graphs():
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
    return False


def _several_workers(strategy):
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.num_replicas_in_sync
        > strategy.extended._num_devices_per_worker  # no public name
    )


def _of_all_workers(strategy, tensors):
    """Each tensor joined along its first axis with those of the other workers."""
    gathered = []
    for tensor in tensors:
        own = tf.cast(tensor, tf.int32) if tensor.dtype == tf.bool else tensor
        pieces = iter([own])  # the first local replica brings it, the others nothing

        def piece(_, own=own, pieces=pieces):
            return next(pieces, own[:0])

        spread = strategy.experimental_distribute_values_from_function(piece)
        gathered.append(tf.cast(strategy.gather(spread, axis=0), tensor.dtype))
    return gathered
