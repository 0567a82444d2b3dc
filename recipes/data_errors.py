"""How recipes on data sets of records end where something cannot be read."""

import contextlib
import sys

from datasets.record_errors import RecordError, clear_errors


@contextlib.contextmanager
def told_plainly(bad_records):
    """Context in which bad data end the program with a paragraph, not a trace.

    Args:
        bad_records: `BadRecords`; at the end it is said what was left out, and what was
            used in part.
    """
    try:
        with clear_errors():
            yield
        for records in (bad_records, bad_records.used):
            if len(records):
                print(records.summary())
    except (RecordError, FileNotFoundError, ImportError) as error:
        sys.exit(str(error))
