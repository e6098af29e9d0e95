"""What a run says: on the terminal, and in a file that keeps more of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger("trainers")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Messages to stderr; with time, level and tracebacks to the run's log as well.

    Warnings of libraries go to the log only: Gymnasium makes one of a failed worker's traceback.
    """
    warnings = logging.getLogger("py.warnings")
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.INFO)
    file = _RunLog(path, delay=True)  # no file before there is a message
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers = [(logger, terminal), (logger, file), (warnings, file)]
    logger.setLevel(logging.DEBUG)
    logging.captureWarnings(True)
    # A library may have set up the root logger, which would say everything a second time.
    logger.propagate = warnings.propagate = False
    for source, handler in handlers:
        source.addHandler(handler)
    try:
        yield
    finally:
        logger.propagate = warnings.propagate = True
        logging.captureWarnings(False)
        for source, handler in handlers:
            source.removeHandler(handler)
            with suppress(OSError):
                handler.close()


class _RunLog(logging.FileHandler):
    """A log that cannot be written says so once, and stops nothing."""

    _warned = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the file cannot be made
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._warned:
            self._warned = True
            print(f"cannot write {self.baseFilename}: {error}", file=sys.stderr)
