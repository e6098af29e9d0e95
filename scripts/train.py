"""Train an agent: `python scripts/train.py algo=sac env=HalfCheetah`, `--help` for the rest."""

import sys


def main() -> int:
    """The exit code: 0 finished, 2 wrong configuration, 75 stopped by a signal, 1 anything else.

    Stopped before there was a checkpoint: 130 by SIGINT, 143 by SIGTERM, 138 by SIGUSR1.
    """
    try:
        from trainers.signals import exit_code, interrupt_on_signals
    except KeyboardInterrupt:
        return 130
    try:
        interrupt_on_signals()
        from trainers.commands import readers_may_leave
        from trainers.config.cli import main as run_command_line

        with readers_may_leave():
            return run_command_line()
    except KeyboardInterrupt as interruption:
        return exit_code(interruption)


if __name__ == "__main__":
    sys.exit(main())
