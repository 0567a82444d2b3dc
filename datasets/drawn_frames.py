"""Random frames straight from files on this machine's disks, by arithmetic.

The frames of a video lie in its record at a constant stride. So the drawn ones are
copied from the mapped file, after a look at what stands before each; the others are not
even read. Records that are laid out in another way are parsed whole.

The checksums of the data are not verified, since that would mean reading all of them.
"""

import collections
import math
import mmap
import threading

import numpy as np

from datasets import frame_draws, record_errors, wire_format, youtube8m_checks
from datasets import tfrecord_framing as framing

_OPEN_FILES = 64  # mapped at the same time
_ALIGNMENT = 64  # bytes


def places(path):
    """Where the records of a file lie, by their headers alone.

    Args:
        path: str, local.

    Returns:
        int64 `[records, 3]`: number, start and end of the data of each record.

    Raises:
        RecordError: the file is damaged.
    """
    data = _mapped(path)
    if not data:
        return np.zeros((0, 3), np.int64)
    starts, headers, position = [], [], 0
    while position + framing.HEADER.size <= len(data):
        header = data[position : position + framing.HEADER.size]
        headers.append(header)
        starts.append(position + framing.HEADER.size)
        position = starts[-1] + framing.HEADER.unpack(header)[0] + 4
    bad = np.flatnonzero(~framing.headers_fit(headers))
    if len(bad):
        raise record_errors.damage(path, int(bad[0]), "corrupted")
    if position != len(data):
        number = len(starts) - (position > len(data))
        raise record_errors.damage(path, number, "truncated")
    ends = np.array([*starts[1:], position + framing.HEADER.size], np.int64)
    ends -= framing.FRAMING
    columns = (np.arange(len(starts)), np.array(starts, np.int64), ends[: len(starts)])
    return np.stack(columns, axis=1)


class FrameReader:
    """Copies drawn frames out of files, which it keeps mapped.

    Args:
        paths: list of str, local.
        keys: list of int, the `frame_draws.file_key` of each.
        form: `youtube8m_records.Form` with `random_frames`.
    """

    def __init__(self, paths, keys, form):
        self._paths, self._keys, self._form = paths, np.array(keys), form
        self._prefixes = [
            np.frombuffer(wire_format.frame_prefix(size), np.uint8)
            for size in form.features.values()
        ]
        self._open, self._lock = collections.OrderedDict(), threading.Lock()

    def read(self, files, epochs, numbers, starts, ends):
        """The drawn frames of some records.

        Args:
            files, epochs, numbers, starts, ends: int64 arrays `[records]`.

        Returns:
            (object array `[records]` of bytes, each a record's context only; list of
            uint8 `[records, random_frames, prefix and value]`, one per feature, where
            a prefix is `wire_format.frame_prefix`).

        Raises:
            RecordError: a record that cannot be used. Labels are not looked at.
        """
        form = self._form
        sources = {file: self._file(file) for file in set(files.tolist())}
        rows = zip(files.tolist(), numbers.tolist(), starts.tolist(), ends.tolist())
        found = [(sources[file], place) for file, *place in rows]
        laid_out = [source.find(*place) for source, place in found]
        counts = np.array([count for _, count, _ in laid_out])
        keys = self._keys[files]
        drawn = _draw(form, counts, epochs, keys, numbers)
        frames = [
            _aligned((len(files), form.random_frames, len(prefix) + size))
            for prefix, size in zip(self._prefixes, form.features.values())
        ]
        for row, (_, _, tables) in enumerate(laid_out):
            _copy(tables, drawn[row], frames, row)
        for row in self._misread(frames):
            # The record is not laid out as its lengths had it seem.
            one = slice(row, row + 1)
            source, place = found[row]
            _, count, tables = source.parsed(*place)
            count = np.array([count])
            again = _draw(form, count, epochs[one], keys[one], numbers[one])
            _copy(tables, again[0], frames, row)
        contexts = np.array([context for context, _, _ in laid_out], object)
        return contexts, frames

    def _misread(self, frames):
        """Rows in which a frame does not start as frames do."""
        bad = np.zeros(len(frames[0]), bool)
        for values, prefix in zip(frames, self._prefixes):
            bad |= (values[:, :, : len(prefix)] != prefix).any(axis=(1, 2))
        return np.flatnonzero(bad).tolist()

    def _file(self, file):
        with self._lock:
            if file not in self._open:
                path = self._paths[file]
                self._open[file] = _File(
                    path, _mapped(path), self._form, self._prefixes
                )
            self._open.move_to_end(file)
            # Who still reads from one that leaves keeps it open.
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
            return self._open[file]


def _mapped(path):
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _draw(form, counts, epochs, keys, numbers):
    available = np.minimum(counts, form.max_frames)
    return frame_draws.draw(
        form.random_frames, available, form.seed, epochs, keys, numbers
    )


def _aligned(shape):
    """An uint8 array that TensorFlow takes over without a copy."""
    size = math.prod(shape)
    octets = np.empty(size + _ALIGNMENT, np.uint8)
    first = -octets.ctypes.data % _ALIGNMENT
    return octets[first : first + size].reshape(shape)


def _copy(tables, chosen, frames, row):
    for table, values in zip(tables, frames):
        # "clip" writes into `out` without a copy in between; all chosen ones exist.
        table.take(chosen, axis=0, out=values[row], mode="clip")


class _File:
    """Where the frames of a mapped file's records lie."""

    def __init__(self, path, data, form, prefixes):
        self._path, self._data, self._form = path, data, form
        self._features = [
            (name.encode(), len(prefix) + size)
            for prefix, (name, size) in zip(prefixes, form.features.items())
        ]
        self._prefixes = prefixes

    def find(self, number, start, end):
        """(context bytes, number of frames, list of a table of frames per feature).

        A table is uint8 `[frames, prefix and value]`.
        """
        try:
            return self._arithmetic(start, end)
        except ValueError:
            return self.parsed(number, start, end)

    def _arithmetic(self, start, end):
        (begin, stop), lists = wire_format.feature_lists(self._data, start, end)
        counts, tables = set(), []
        for name, stride in self._features:
            first, last = lists.get(name, (0, 0))
            count, rest = divmod(last - first, stride)
            if rest or not count:
                raise ValueError("no frames, or of another size")
            counts.add(count)
            tables.append(np.ndarray((count, stride), np.uint8, self._data, first))
        if len(counts) != 1:
            raise ValueError("different numbers of frames")
        # The context is the record's first field.
        return self._data[start:stop], count, tables

    def parsed(self, number, start, end):
        """The same as `_arithmetic` for any record."""
        serialized = self._data[start:end]
        parsed = youtube8m_checks.check(serialized, self._path, number, self._form)
        lists, tables = parsed.feature_lists.feature_list, []
        for name, prefix in zip(self._form.features, self._prefixes):
            values = [frame.bytes_list.value[0] for frame in lists[name].feature]
            table = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
            before = np.broadcast_to(prefix, (len(values), len(prefix)))
            tables.append(np.concatenate([before, table], axis=1))
        context = parsed.context.SerializeToString(deterministic=True)
        return wire_format.field(wire_format.CONTEXT, context), len(values), tables
