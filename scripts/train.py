"""Train an agent: `python scripts/train.py algo=sac env=HalfCheetah`, `--help` for the rest."""

import sys


def main() -> int:
    """The exit code: 0 finished, 2 wrong configuration, 75 stopped by a signal, 1 anything else."""
    try:
        from trainers.config.cli import main as run_command_line
    except KeyboardInterrupt:
        return 130
    return run_command_line()


if __name__ == "__main__":
    sys.exit(main())
