"""What a bad record gets: one paragraph that names file, record and field.

The names travel inside the messages of the runtime, between marks, so that nothing has
to be looked up while all goes well. A file that breaks off, or whose checksums do not
hold, is reported by the runtime with a position but without a name: it is then looked
for among the files that were asked for.
"""

import collections
import contextlib
import logging
import re
import threading

import tensorflow as tf

from datasets import tfrecord_framing

logger = logging.getLogger("ensemble_heads")

NO_MESSAGE = "`record` must be a SequenceExample or Example, as its data set has them."
NO_SUCH_TYPE = "`{name}` must be of the type that it has in its data set."

# Around and between what a message carries; no path is likely to hold them.
_OPEN, _BAR, _CLOSE = "⟦", "¦", "⟧"
_MARKED = re.compile(f"{_OPEN}(\\d*){_BAR}(.*?){_BAR}(.*?){_BAR}(.*?){_CLOSE}", re.S)
_PARSER = re.compile(f"(.*?){_OPEN}(\\d+){_BAR}([^{_BAR}]*?){_CLOSE}(.*)", re.S)
_DAMAGE = re.compile(r"(truncated|corrupted) record at (\d+)")

# Paths that this process was asked to read, oldest first. The values mean nothing.
_asked = {}
# Who knows what operations were at when the runtime raised an error, oldest first.
_witnesses = collections.deque(maxlen=16)


class RecordError(ValueError):
    """A record that cannot be used.

    Attributes:
        path: str, its file, or None where that could not be found out.
        record: int, its number in the file, from 0; None for a file as a whole, or
            where it could not be found out.
        field: str, the feature at fault; `"record"` for the record as a whole.
        text: str, the rule it breaks and what was received.
        reason: str, the rule it breaks, without what was received.
        takes_rest: bool, nothing tells where the records after it start in its file.
        is_setting: bool, a setting is at fault and not the record, so that it must
            not be left out.
    """

    def __init__(self, path, record, field, text, takes_rest=False, is_setting=False):
        lost = " What comes after it cannot be read either." if takes_rest else ""
        super().__init__(f"{text} In {_place(path, record)}.{lost}")
        self.path, self.record, self.field, self.text = path, record, field, text
        self.reason = text.partition(" Received:")[0]
        self.takes_rest, self.is_setting = takes_rest, is_setting


class BadRecords:
    """Which records were left out, and why. Readable at any time, also while reading.

    A record counts once, however many epochs meet it.

    Attributes:
        used: another `BadRecords`, of those that were not left out: what comes before
            their damage was used, as the user asked for, or they only look damaged.
    """

    def __init__(self, of_used=False):
        self._done = "Used, whole or in part," if of_used else "Left out"
        self.used = None if of_used else BadRecords(of_used=True)
        self._errors = {}
        self._logged = 0
        self._lock = threading.Lock()

    def __len__(self):
        return len(self._errors)

    def add(self, error):
        """Notes a `RecordError`."""
        with self._lock:
            self._errors[error.path, error.record] = error

    @property
    def errors(self):
        """List of `RecordError`, by file and record."""
        with self._lock:
            return [self._errors[key] for key in sorted(self._errors)]

    @property
    def counts(self):
        """{reason: number of records}."""
        return dict(collections.Counter(error.reason for error in self.errors))

    def summary(self):
        """One paragraph: how many records were left out, for which reasons."""
        errors = self.errors
        if not errors:
            return "No bad records."
        reasons = "; ".join(f"{n} x {reason}" for reason, n in self.counts.items())
        cut = len({error.path for error in errors if error.takes_rest})
        more = f", and with them the rest of {cut} files" if cut else ""
        return (
            f"{self._done} {len(errors)} bad records{more}: {reasons} "
            f"First: {errors[0]}"
        )

    def log(self):
        """Logs the summary if something came in since it was logged last."""
        if self.used is not None:
            self.used.log()
        if len(self) > self._logged:
            self._logged = len(self)
            logger.warning(self.summary())


def remember(paths):
    """Lets `clear_errors` look through these files for damage."""
    _asked.update(dict.fromkeys(paths))


def ask(scope, witness):
    """Lets `clear_errors` ask about errors whose messages name no record.

    Args:
        scope: str, the name scope of the operations that may fail, no other's.
        witness: callable without arguments -> `RecordError`, or None.
    """
    _witnesses.append((scope, witness))


def names(paths, batch):
    """String tensor `[batch]`, for the parser to name records by."""
    number = tf.strings.as_string(batch["number"])
    path = tf.gather(paths, batch["file"])
    return tf.strings.join([_OPEN, number, _BAR, path, _CLOSE])


def mark(error):
    """The text that carries a `RecordError` through the runtime."""
    number = "" if error.record is None else str(error.record)
    inside = _BAR.join([number, error.path, error.field, error.text])
    return f"{_OPEN}{inside}{_CLOSE}"


def assert_each(right, paths, batch, field, rule, *received, of=None):
    """Operations that fail unless all is right, and then name the first that is not.

    Args:
        right: bool tensor `[n]`.
        paths: string tensor `[files]`.
        batch: {"file": int64 `[batch]`, "number": int64 `[batch]`}.
        field: str.
        rule: str, a sentence that says what must be.
        *received: str, or tensors `[n]`, of which that of the first culprit is shown.
        of: int tensor `[n]`, the record in the batch that each belongs to. Default:
            one each.
    """

    def tell():
        culprit = tf.argmax(tf.cast(~right, tf.int32))
        record = culprit if of is None else tf.gather(of, culprit)
        path = tf.gather(paths, tf.gather(batch["file"], record))
        number = tf.strings.as_string(tf.gather(batch["number"], record))
        shown = [
            one
            if isinstance(one, str)
            else tf.strings.as_string(tf.gather(one, culprit))
            for one in received
        ]
        text = tf.strings.join([f"{rule} Received: ", *shown])
        return tf.strings.join(
            [_OPEN, number, _BAR, path, _BAR, field, _BAR, text, _CLOSE]
        )

    fine = tf.reduce_all(right)
    message = tf.cond(fine, lambda: tf.constant(""), tell)
    return [tf.debugging.Assert(fine, [message])]


@contextlib.contextmanager
def clear_errors():
    """Turns what the runtime says of a bad record into a `RecordError`.

        with youtube8m.clear_errors():
            model.fit(dataset)

    Raises:
        RecordError: names file, record and field.
    """
    try:
        yield
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        # What the runtime says may hold bytes of the record, which are no text.
        found = _find(error)
        if found is None:
            raise
        raise found from error


def damage(path, number, kind, takes_rest=False):
    """The `RecordError` of a record that breaks off or does not match its checksum.

    Args:
        path: str, number: int, where it is.
        kind: `"truncated"` or `"corrupted"`.
        takes_rest: as of `RecordError`.
    """
    what = "breaks off" if kind == "truncated" else "does not match its checksum"
    rule = "`record` must be whole, as its file was written."
    text = f"{rule} Received: one that {what}."
    return RecordError(path, number, "record", text, takes_rest)


def damage_by(error, path, number, takes_rest=False):
    """As `damage`, from what TensorFlow's reader of single records raised."""
    # IndexError: the file ends within the length of a record.
    breaks_off = isinstance(error, IndexError) or "truncated" in str(error)
    kind = "truncated" if breaks_off else "corrupted"
    return damage(path, number, kind, takes_rest)


@contextlib.contextmanager
def marked():
    """Makes of a bad record an error that the runtime carries to `clear_errors`."""
    try:
        yield
    except RecordError as error:
        raise ValueError(mark(error)) from None


def _place(path, record):
    if not path:
        return "a file not found out"
    return path if record is None else f"record {record} of {path}"


def _find(error):
    said = str(error)
    if isinstance(error, UnicodeDecodeError):
        said = error.object.decode(errors="replace")
    marked = _MARKED.search(said)
    if marked:
        number, path, field, text = (
            re.sub(r"\\(.)", r"\1", g) for g in marked.groups()
        )
        return RecordError(path, int(number) if number else None, field, text)
    parser = _PARSER.search(said)
    if parser:
        return _parser_error(*parser.groups())
    damaged = _DAMAGE.search(said)
    if damaged and isinstance(error, tf.errors.DataLossError):
        return _look_for(damaged.group(1), int(damaged.group(2)))
    # This message holds bytes of the record, and ends where the first of them is 0.
    cut = isinstance(error, UnicodeDecodeError) or "Could not parse example" in said
    for scope, witness in reversed(_witnesses):
        if (cut or f"{scope}/" in said) and (found := witness()):
            return found
    return None


def _parser_error(before, number, path, after):
    """What TensorFlow's parser says of a record, which it calls by our name."""
    field = re.search(r"(?:Feature list|[Ff]eature|Key): ([^,.\s]+)", after)
    if before.endswith("example id: ") or field is None:
        text = f"{NO_MESSAGE} Received: bytes that are none."
        return RecordError(path, int(number), "record", text)
    name = field.group(1).strip()
    rule = NO_SUCH_TYPE.format(name=name)
    said = after.partition(" [Op:")[0].partition("\n")[0].strip(", ")
    return RecordError(path, int(number), name, f"{rule} Received: {said}")


def _look_for(kind, position):
    for path in reversed(_asked):
        try:
            found = tfrecord_framing.damaged_record(path, position)
        except (tf.errors.OpError, OSError):
            continue
        if found is not None:
            return damage(path, found, kind)
    rule = "`record` must be whole, as its file was written."
    said = f"{rule} Received: a {kind} record at byte {position}."
    return RecordError(None, None, "record", said)
