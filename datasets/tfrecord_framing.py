"""How TFRecord files hold their records: length, checksum, data, checksum."""

import struct

import numpy as np
import tensorflow as tf

HEADER = struct.Struct("<QI")  # length and its checksum
FRAMING = 16  # bytes around the data of a record: header, and the data's checksum


def walk(path):
    """Yields (position, length) of the records, by their headers alone.

    The last one may reach beyond the end of the file: then it breaks off. Ends at a
    header that does not match its checksum, after yielding its position and None.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        end, position = file.size(), 0
        while position < end:
            file.seek(position)
            header = file.read(HEADER.size)
            if len(header) < HEADER.size:
                yield position, end - position
                return
            length, checksum = HEADER.unpack(header)
            if masked_crc(header[:8]) != checksum:
                yield position, None
                return
            yield position, length
            position += length + FRAMING


def damaged_record(path, position):
    """Number of the record around that position, if it is there and cannot be read."""
    for number, (start, length) in enumerate(walk(path)):
        if start <= position < start + (length or 1) + FRAMING:
            try:
                for _ in tf.data.TFRecordDataset(path).skip(number).take(1):
                    return None
            except tf.errors.DataLossError:
                return number
            return None
    return None


def masked_crc(octets):
    """The checksum of TFRecord files, an int: CRC-32C, rotated and shifted.

    Args:
        octets: bytes; few, as this is plain Python.
    """
    columns = np.frombuffer(octets, np.uint8)[:, np.newaxis]
    return int(_masked_crcs(columns)[0])


def headers_fit(headers):
    """Whether the headers of records match their own checksums, bool `[records]`.

    Args:
        headers: list of bytes, `HEADER.size` each.
    """
    rows = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, HEADER.size)
    stored = np.ascontiguousarray(rows[:, 8:]).view("<u4")[:, 0]
    return _masked_crcs(rows[:, :8].T) == stored


def _masked_crcs(columns):
    """uint32 `[n]` of n strings of octets, uint8 `[octets, n]`."""
    crc = np.full(columns.shape[1], 0xFFFFFFFF, np.uint32)
    for octets in columns:
        crc = _CRC_TABLE[(crc ^ octets) & np.uint32(0xFF)] ^ crc >> np.uint32(8)
    crc ^= np.uint32(0xFFFFFFFF)
    rotated = crc >> np.uint32(15) | crc << np.uint32(17)
    return rotated + np.uint32(0xA282EAD8)  # modulo 2^32


def _crc_table():
    table = list(range(256))
    for _ in range(8):
        table = [one >> 1 ^ (0x82F63B78 if one & 1 else 0) for one in table]
    return np.array(table, np.uint32)


_CRC_TABLE = _crc_table()
