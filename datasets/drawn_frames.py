"""Random frames straight from files on this machine's disks, by arithmetic.

The frames of a video lie in its record at a constant stride. So the drawn ones are
copied from the mapped file, after a look at what stands before each; the others are not
even read. Records that are laid out in another way are parsed whole.

The checksums of the data are not verified, since that would mean reading all of them.
"""

import mmap

import numpy as np

from datasets import frame_draws, record_checks, record_errors, wire_format
from datasets import tfrecord_framing as framing
from datasets.record_order import BLOCK


def drawn_blocks(path, key, epoch, form, keep):
    """Yields the drawn frames of a file's records, in blocks.

    Args:
        path: str, local.
        key: int, its `frame_draws.file_key`.
        epoch: int.
        form: `youtube8m_records.Form` with `random_frames`.
        keep: callable, record number -> bool.

    Yields:
        {"record": list of bytes, the context only; "number": int64 `[block]`;
        "frames": uint8 `[block, random_frames, width]`}.

    Raises:
        RecordError: a record that cannot be used. Labels are not looked at.
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    places, block = _Places(path, data, form), []
    for place in places.records():
        if keep(place[0]):
            block.append((place, *places.find(*place)))
        if len(block) == BLOCK:
            yield places.gather(block, key, epoch)
            block = []
    if block:
        yield places.gather(block, key, epoch)


class _Places:
    """Where the records of a mapped file and their frames lie."""

    def __init__(self, path, data, form):
        self._path, self._data, self._form = path, data, form
        self._prefixes = {
            name.encode(): (
                name,
                np.frombuffer(wire_format.frame_prefix(size), np.uint8),
            )
            for name, size in form.features.items()
        }

    def records(self):
        """Yields (number, start, end) of the data of each whole record."""
        position, number, end = 0, 0, len(self._data)
        while position < end:
            start = position + framing.HEADER.size
            if start > end:
                raise record_errors.damage(self._path, number, "truncated")
            length, checksum = framing.HEADER.unpack_from(self._data, position)
            if framing.masked_crc(self._data[position : position + 8]) != checksum:
                raise record_errors.damage(self._path, number, "corrupted")
            if start + length + 4 > end:
                raise record_errors.damage(self._path, number, "truncated")
            yield number, start, start + length
            position, number = position + length + framing.FRAMING, number + 1

    def find(self, number, start, end):
        """(context bytes, number of frames, {name: table of frames}).

        A table is uint8 `[frames, prefix and value]`.
        """
        try:
            return self._arithmetic(start, end)
        except ValueError:
            return self._parsed(number, start, end)

    def gather(self, block, key, epoch):
        """What `drawn_blocks` yields, of what `find` found."""
        numbers = np.array([place[0] for place, *_ in block], np.int64)
        counts = np.array([count for _, _, count, _ in block])
        drawn = self._draw(counts, key, epoch, numbers)
        shape = (len(block), self._form.random_frames, self._form.width)
        frames = np.empty(shape, np.uint8)
        for row, (place, _, _, tables) in enumerate(block):
            if not self._copy(tables, drawn[row], frames[row]):
                # The record is not laid out as its lengths had it seem.
                _, count, tables = self._parsed(*place)
                one = slice(row, row + 1)
                again = self._draw(np.array([count]), key, epoch, numbers[one])
                self._copy(tables, again[0], frames[row])
        contexts = [context for _, context, _, _ in block]
        return {"record": contexts, "number": numbers, "frames": frames}

    def _draw(self, counts, key, epoch, numbers):
        form = self._form
        return frame_draws.draw(
            form.random_frames,
            np.minimum(counts, form.max_frames),
            form.seed,
            np.full_like(numbers, epoch),
            np.full_like(numbers, key),
            numbers,
        )

    def _copy(self, tables, chosen, out):
        """Copies the chosen frames; False if they do not start as frames do."""
        first = 0
        for name, prefix in self._prefixes.values():
            size = self._form.features[name]
            rows = tables[name][chosen]
            if (rows[:, : len(prefix)] != prefix).any():
                return False
            out[:, first : first + size] = rows[:, len(prefix) :]
            first += size
        return True

    def _arithmetic(self, start, end):
        context, tables = b"", {}
        for field, begin, stop in wire_format.read_fields(self._data, start, end):
            if field == wire_format.CONTEXT:
                context = self._data[begin:stop]
            elif field == wire_format.FEATURE_LISTS:
                for _, first, last in wire_format.read_fields(self._data, begin, stop):
                    name, table = self._table(first, last)
                    if name:
                        tables[name] = table
        if len({len(table) for table in tables.values()}) != 1:
            raise ValueError("different numbers of frames")
        if len(tables) != len(self._prefixes):
            raise ValueError("features are missing")
        count = len(next(iter(tables.values())))
        return wire_format.field(wire_format.CONTEXT, context), count, tables

    def _table(self, start, end):
        (_, key, key_end), (_, value, value_end) = wire_format.read_fields(
            self._data, start, end
        )
        name, prefix = self._prefixes.get(self._data[key:key_end], (None, None))
        if name is None:
            return None, None
        stride = len(prefix) + self._form.features[name]
        count, rest = divmod(value_end - value, stride)
        if rest or not count:
            raise ValueError("frames of another size")
        table = np.ndarray((count, stride), np.uint8, self._data, value)
        return name, table

    def _parsed(self, number, start, end):
        """The same as `_arithmetic` for any record."""
        serialized = self._data[start:end]
        parsed = record_checks.check(serialized, self._path, number, self._form)
        lists, tables = parsed.feature_lists.feature_list, {}
        for name, prefix in self._prefixes.values():
            values = [frame.bytes_list.value[0] for frame in lists[name].feature]
            table = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
            before = np.broadcast_to(prefix, (len(values), len(prefix)))
            tables[name] = np.concatenate([before, table], axis=1)
        context = parsed.context.SerializeToString(deterministic=True)
        return wire_format.field(wire_format.CONTEXT, context), len(values), tables
