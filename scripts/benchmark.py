"""Measure this project beside Stable-Baselines3, SBX and TorchRL's own trainers: `make bench`.

Every contestant is a small program in `benchmarks/programs/`. All are told the same settings; they
run in turn, several times; speed is the difference of frames over wall clock between marks taken
inside the training loops, after warm-up and compilation.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

# The benchmark is no part of the installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.figures import MeasurementError
from benchmarks.jobs import QUICK, Sizes
from benchmarks.peers import PACKAGES, TRAINERS, set_up, without_envpool, without_gpu
from benchmarks.report import conditions, keep, report
from benchmarks.rows import DEFAULT_GROUPS, GROUPS, ROWS, TRAINED
from benchmarks.running import measured
from trainers.signals import exit_code, interrupt_on_signals


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; exits with code 2 and a line on what is wrong with it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--only",
        type=_groups,
        default=DEFAULT_GROUPS,
        metavar="A,B",
        help=f"measure these only, of {','.join(GROUPS)}; default: all but learning, which takes "
        "hours",
    )
    parser.add_argument(
        "--peers",
        type=_peers,
        default=TRAINERS,
        metavar="A,B",
        help=f"of the other trainers run these only, of {','.join(TRAINERS)}",
    )
    parser.add_argument("--repeats", type=_count, default=3, help="rounds; default: 3")
    parser.add_argument(
        "--threads",
        type=_count,
        default=min(2, cores),
        help="cores that each program has; default: 2, as in the limits",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few frames each, to see that all work; not kept"
    )
    arguments = parser.parse_args(argv)
    if arguments.threads > cores:
        parser.error(f"--threads: got {arguments.threads}, this machine has {cores} cores")
    return arguments


def _groups(text: str) -> tuple[str, ...]:
    return _picked(text, GROUPS)


def _peers(text: str) -> tuple[str, ...]:
    return _picked(text, TRAINERS)


def _picked(text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"got {unknown[0]!r}, expected any of {', '.join(known)}")
    return tuple(each for each in known if each in names)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1 on")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 measured, 2 wrong arguments, 1 something failed or nothing can be run."""
    arguments = parse(argv)
    # Inherited by every program: JAX takes as many threads as it finds cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    groups, skipped = possible(arguments.only)
    for each in skipped:
        print(f"skipped: {each}", file=sys.stderr)
    if not groups:
        return 1
    installed = [peer for peer in arguments.peers if peer in PACKAGES]
    peers = tuple(installed) if TRAINED & set(groups) else ()
    try:
        for peer in peers:
            set_up(peer)
    except MeasurementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = conditions(arguments.threads, arguments.repeats, groups, peers)
    sizes = QUICK if arguments.quick else Sizes()
    about |= {"skipped": skipped, "sizes": asdict(sizes)}
    if about["load"] > 0.5:
        print(f"warning: the load is {about['load']:.2f}: something else runs", file=sys.stderr)
    left_out = set(TRAINERS) - set(arguments.peers)
    samples, failed = measured(groups, sizes, arguments.repeats, arguments.threads, left_out)
    print(report(samples, about))
    if not arguments.quick:
        print(f"kept in {keep(samples, about)}", file=sys.stderr)
    return 1 if failed else 0


def possible(groups: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Which of these groups can be measured here, and which rows cannot, with the reason."""
    reasons = {"envpool": without_envpool, "gpu": without_gpu}
    missing = {group: reasons[group]() for group in groups if group in reasons}
    skipped = {group: reason for group, reason in missing.items() if reason is not None}
    titles = {"envpool": ROWS["collect32"].title, "gpu": "SAC and PPO on a GPU"}
    left = tuple(group for group in groups if group not in skipped)
    return left, [f"{titles[group]}: {reason}" for group, reason in skipped.items()]


if __name__ == "__main__":
    try:
        interrupt_on_signals()  # so that the program under way is ended as well
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt as interruption:
        sys.exit(exit_code(interruption))
