"""The bytes of a SequenceExample, as protocol buffers lay them out.

A feature list whose frames hold equally many bytes is a table of constant stride on
disk, so that single frames can be found by arithmetic. See "Encoding" in the protocol
buffers documentation, and example.proto and feature.proto of TensorFlow.
"""

import re

BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # fields of `Feature`
CONTEXT, FEATURE_LISTS = 1, 2  # fields of `SequenceExample`

# Regular expressions walk over bytes several times as fast as a loop in Python.
_VARINT = rb"([\x80-\xff]{0,8}[\x00-\x7f])"
_CONTEXT = re.compile(rb"\x0a" + _VARINT)
_LISTS = re.compile(rb"\x12" + _VARINT)
_LIST = re.compile(rb"\x0a%b\x0a([\x00-\x7f])([^\x12]*)\x12%b" % (_VARINT, _VARINT))


def varint(number):
    """bytes of a non-negative int."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def field(number, payload):
    """bytes of a field that holds bytes."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def named(key, payload):
    """bytes of an entry of one of the maps from names to messages."""
    return field(1, field(1, key.encode()) + field(2, payload))


def frame_prefix(size):
    """What stands before the `size` bytes of each frame of a feature list."""
    value = b"\x0a" + varint(size)
    bytes_list = b"\x0a" + varint(len(value) + size) + value
    return b"\x0a" + varint(len(bytes_list) + size) + bytes_list


def feature_lists(data, start, end):
    """Where the parts of a serialized SequenceExample lie.

    Args:
        data: bytes or `mmap`.
        start, end: int, where the message lies in it.

    Returns:
        (start and end of the context's content, {name of a feature list: (start,
        end) of its frames}); names are bytes.

    Raises:
        ValueError: it is written in another way than protocol buffers do.
    """
    begin, after = _match(_CONTEXT, data, start, end)[1]
    context, lists = (begin, after), {}
    _, (position, stop) = _match(_LISTS, data, after, end)
    if stop != end:
        raise ValueError("other fields after the feature lists")
    while position < end:
        found, frames = _match(_LIST, data, position, end)
        entry, size, name, _ = found.groups()
        if len(name) != size[0] or frames[1] - found.end(1) != _number(entry):
            raise ValueError("not a name and its frames")
        lists[name] = frames
        position = frames[1]
    return context, lists


def _match(pattern, data, start, end):
    """(match, where what its last group gives the length of lies)."""
    found = pattern.match(data, start, end)
    if found is None:
        raise ValueError("not the fields of a SequenceExample")
    stop = found.end() + _number(found[found.lastindex])
    if stop > end:
        raise ValueError("a field that reaches beyond the end")
    return found, (found.end(), stop)


def _number(octets):
    number = 0
    for octet in reversed(octets):
        number = number << 7 | octet & 0x7F
    return number
