"""The page of one run, made beside its training: `python -m trainers.reporting RUN STATE RELOAD_S`.

It is what `trainers.hooks.Report` starts. A person uses `scripts/report.py`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import cast

from trainers.processes import end_with

LIMIT_S = 300  # whatever it waits for then, a disk perhaps, nobody waits for the page


def main() -> int:
    """The exit code: 0 written, 1 not, with the reason in one line."""
    signal.alarm(LIMIT_S)
    end_with(os.getppid())
    os.nice(10)  # the training comes first
    run_dir, state, reload_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    try:
        from trainers.disk import write_whole
        from trainers.reporting.page import as_html
        from trainers.reporting.report import make_report
        from trainers.reporting.runs import State, read

        report = make_report([read(run_dir, cast(State, state))])
        page = as_html(report, reload_s if state == "running" else None)
        write_whole(run_dir / "report.html", page.encode())
    except Exception as error:  # the training says it, once
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
