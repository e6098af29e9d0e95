"""Write a trained policy as one file that acts without this package: observation in, action out.

    python scripts/export.py run_dir=RUN format=onnx|torch_export

    run_dir=RUN           what scripts/train.py left, or a checkpoint in it
    format=               onnx (the extra export brings what it needs) or torch_export (a .pt2 file)
    which=best|latest     best by evaluation, which is the default, or the newest checkpoint
    out=DIR               default: RUN/exports/<which>-<format>; only an earlier export may be
                          there, which is replaced
    plugins=[my_pkg.mine] what the run was trained with: modules named in a file are not imported

Exit codes: 0 written and checked, 2 wrong input, 1 anything else; 130, 143, 138 by SIGINT, SIGTERM,
SIGUSR1.
"""

import json
import sys
from contextlib import closing
from pathlib import Path

from trainers.commands import readers_may_leave
from trainers.config import ConfigError
from trainers.config.arguments import from_arguments
from trainers.config.export import ExportConfig, ExportError
from trainers.disk import WriteError
from trainers.policies.load import check_run, load_policy, locate_run
from trainers.saving.staging import staged
from trainers.signals import exit_code, interrupt_on_signals, raise_if_interrupted

FAILED, WRONG_INPUT = 1, 2


def main(argv: list[str]) -> int:
    """The exit code: 0 written and checked, 2 wrong input, 1 anything else; or of a signal."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    try:
        return run(from_arguments(ExportConfig, argv))
    except (ConfigError, ExportError, WriteError) as error:
        print(f"export.py: {error}", file=sys.stderr)
        return WRONG_INPUT if isinstance(error, ConfigError) else FAILED
    except KeyboardInterrupt as interruption:
        return exit_code(interruption)


def run(config: ExportConfig) -> int:
    """Export as configured; whatever needs no torch is checked first."""
    config.check_installed()
    run_dir, out = Path(config.run_dir), _directory(config)
    check_run(run_dir, config.which, config.plugins)
    try:
        with staged(out, _is_export) as directory:
            from trainers.policies.export import export

            raise_if_interrupted()
            loaded = load_policy(run_dir, config.which, config.plugins)
            with closing(loaded.envs):
                document = export(loaded, config.format, directory)
    except WriteError as error:  # the staged file that it names is gone
        raise WriteError(error.errno, error.strerror, str(out)) from error
    number, difference = document["check"].values()
    print(f"written: {out / document['file']}, described in {out / 'policy.json'}")
    print(f"policy:  {loaded.source}, after {loaded.frames} frames of {loaded.config.env.id}")
    print(f"checked: in {number} observations its actions are at most {difference:.3g} off")
    return 0


def _directory(config: ExportConfig) -> Path:
    if config.out is not None:
        return Path(config.out)
    place, checkpoint = locate_run(Path(config.run_dir))
    weights = config.which if checkpoint is None else checkpoint.name
    return place / "exports" / f"{weights}-{config.format}"


def _is_export(directory: Path) -> bool:
    """Whether there is what this script has left, and nothing else."""
    if directory.is_symlink() or not directory.is_dir():
        return False
    try:
        document = json.loads((directory / "policy.json").read_bytes())
        files = {"policy.json", document["file"]}
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return "check" in document and {path.name for path in directory.iterdir()} <= files


if __name__ == "__main__":
    interrupt_on_signals()
    with readers_may_leave():
        sys.exit(main(sys.argv[1:]))
