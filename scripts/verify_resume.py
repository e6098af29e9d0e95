"""Does a run survive being killed? `python scripts/verify_resume.py env=Hopper total_frames=5000`

Trains twice with the same settings: once straight, once killed (SIGKILL) at random instants and
resumed. Prints what differs between the two, by component; the exit code is 0 only if nothing does,
1 if something does or a run fails, 2 if the settings are wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from trainers.config import ConfigError


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as for scripts/train.py")
    parser.add_argument("--kills", type=int, default=5, help="default: 5")
    parser.add_argument("--seed", type=int, default=0, help="of the instants; default: 0")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep both runs in DIR")
    arguments = parser.parse_intermixed_args()
    if arguments.kills < 1:
        parser.error(f"--kills: got {arguments.kills}, expected at least 1")
    if arguments.keep is not None and arguments.keep.exists():
        parser.error(f"--keep: {arguments.keep} exists already")
    return arguments


def main() -> int:
    """The exit code."""
    arguments = parse()
    from trainers.saving.verification import checked, run_killed, run_straight

    try:
        settings = checked(arguments.settings)
    except ConfigError as error:
        print(f"verify_resume.py: {error}", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        place = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            print("straight: ", end="", flush=True)
            straight = run_straight(settings, place / "straight")
            print(f"{straight.start_up_s:.0f} s to start, {straight.training_s:.0f} s to train")
            struck = run_killed(
                settings, place / "killed", straight, arguments.kills, arguments.seed
            )
        except RuntimeError as error:
            print(f"verify_resume.py: {error}", file=sys.stderr)
            return 1
        for number, where in enumerate(struck, start=1):
            print(f"kill {number}: {where}")
        if len(struck) < arguments.kills:
            fewer = f"only {len(struck)} of {arguments.kills} kills struck"
            print(f"{fewer}: the run was at its end before the others, let it train for longer")
        return _compare(place / "straight", place / "killed", len(struck))


def _compare(straight: Path, killed: Path, kills: int) -> int:
    from trainers.saving.comparison import differences

    found = differences(straight, killed)
    for component, differing in found.items():
        print(f"{component:<30} {'DIFFERS' if differing else 'the same'}")
        for each in differing[:3]:
            print(f"    {each}")
        if len(differing) > 3:
            print(f"    and {len(differing) - 3} more")
    if any(found.values()):
        print(f"after {kills} kills the resumed run is another one")
        return 1
    print(f"after {kills} kills the resumed run is the same, bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
