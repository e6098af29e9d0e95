"""Show what came of runs: `python scripts/report.py RUN...`, `--help` for the rest."""

import sys


def main() -> int:
    """The exit code: 0 written, 2 wrong input, 1 anything else."""
    try:
        from trainers.commands import readers_may_leave
        from trainers.reporting.cli import main as run_command_line

        with readers_may_leave():
            return run_command_line(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
