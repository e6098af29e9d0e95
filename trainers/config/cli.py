"""The command line of `scripts/train.py`: check everything first, then let Hydra start the jobs."""

from __future__ import annotations

import os
import sys
import traceback
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainers.commands import as_value, command
from trainers.config.composer import (
    CONFIG_DIR,
    CONFIG_NAME,
    VERSION_BASE,
    Composer,
    composing,
    first_line,
    plain,
    resolved,
)
from trainers.config.env_file import check_env_file
from trainers.config.errors import ConfigError
from trainers.config.files import load_config
from trainers.config.resume import changes, on_top_of
from trainers.config.run_dir import CONFIG_FILE, claimed, locate
from trainers.config.train import TrainConfig
from trainers.signals import exit_code

FAILED, WRONG_INPUT, STOPPED = 1, 2, 75


@dataclass(frozen=True)
class Plan:
    """What a command line comes to, after every check that needs no torch."""

    argv: list[str]  # for Hydra
    configs: list[TrainConfig] = field(default_factory=list)  # one for each job
    swept: list[str] = field(default_factory=list)  # keys that tell the jobs apart, next to seed
    notes: list[str] = field(default_factory=list)  # what a resumed run changes


class JobFailed(Exception):
    """A job of a sweep ended with this exit code; the others go on."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def main() -> int:
    """Run the command line; the exit code: 0, 1, 2, 75, or that of a signal, above 128."""
    try:
        plan = preflight(sys.argv[1:])
        for note in plan.notes:
            print(f"resume: {note}", file=sys.stderr)
        _run(plan)
    except ConfigError as error:
        return _refuse(error)
    except JobFailed as failure:
        return failure.code
    except KeyboardInterrupt as interruption:
        print(f"{_program()}: {_name(interruption)}: ended, nothing was saved", file=sys.stderr)
        return exit_code(interruption)
    return 0


def preflight(argv: list[str]) -> Plan:
    """Compose and check every job of the command line; `ConfigError` names what is wrong."""
    args = _parse(argv)
    if args.help or args.hydra_help or args.info or args.shell_completion:
        return Plan(argv)
    flags = [argument for argument in argv if argument not in args.overrides]
    with composing(args.config_dir) as composer:
        overrides = composer.parse(args.overrides)
        multirun = args.multirun or "hydra.mode=MULTIRUN" in args.overrides
        if not multirun:
            hint = "--multirun runs one job for each value"
            return _plan(composer, flags, composer.single(overrides, hint))
        jobs = composer.jobs(overrides)
        configs = [_checked(composer, job, composer.compose(job)) for job in jobs]
        _check_sweep(configs)
        swept = [o.key_or_group for o in overrides if o.is_sweep_override()]
        swept = [key for key in swept if key != "seed" and key not in composer.groups]
        arguments = [composer.argument(override) for override in overrides]
        return Plan([*flags, *arguments], configs, swept)


def _parse(argv: list[str]) -> Namespace:
    args, unknown = get_args_parser().parse_known_intermixed_args(argv)
    if unknown:
        hint = f"without dashes? {unknown[0].lstrip('-')}"
        raise ConfigError("command line", unknown[0], "a key=value or an option of Hydra", hint)
    for name in ("config_path", "config_name", "experimental_rerun"):
        if getattr(args, name):
            flag = "--" + name.replace("_", "-")
            hint = "--config-dir adds a directory of yours to the search path"
            raise ConfigError(flag, getattr(args, name), "not to be given", hint)
    if args.config_dir and not Path(args.config_dir).is_dir():
        raise ConfigError("--config-dir", args.config_dir, "a directory")
    return args


def _checked(composer: Composer, arguments: list[str], composed: DictConfig) -> TrainConfig:
    try:
        config = TrainConfig.from_dict(plain(composed))
    except ConfigError as error:
        raise composer.with_source(error, arguments) from error
    check_env_file(config.env, composer, arguments)
    config.env.check_installed()
    config.eval.check_installed()
    config.logger.check_installed()
    locate(config.run_dir, config.resume)
    return config


def _check_sweep(configs: list[TrainConfig]) -> None:
    places: set[Path] = set()
    for config in configs:
        if config.resume is not None:
            hint = "resume the runs one by one"
            raise ConfigError("resume", config.resume, "null in a sweep", hint)
        if config.run_dir is None:
            continue
        place = Path(config.run_dir).resolve()
        if place in places:
            hint = "leave it out, or put what differs into it: run_dir='runs/mine-${seed}'"
            raise ConfigError("run_dir", config.run_dir, "another one for each job", hint)
        places.add(place)


def _plan(composer: Composer, flags: list[str], arguments: list[str]) -> Plan:
    """A single job: a new run, or the one that `resume` names."""
    composed = composer.compose(arguments)
    run_dir, resume = (
        TrainConfig.accept(key, resolved(composed, key)) for key in ("run_dir", "resume")
    )
    place, source = locate(run_dir, resume) if resume else (None, None)
    if place is None or source is None:
        return Plan([*flags, *arguments], [_checked(composer, arguments, composed)])
    stored = load_config(place / CONFIG_FILE)
    arguments = on_top_of(stored, composer, arguments, again=resume == "auto")
    config = _checked(composer, arguments, composer.compose(arguments))
    return Plan([*flags, *arguments], [config], notes=changes(stored, config))


def _run(plan: Plan) -> None:
    """Hand over to Hydra, which writes nothing of its own in a single run."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra swallows exceptions and exits with 1
    sys.argv[1:] = plan.argv
    start = hydra.main(str(CONFIG_DIR), CONFIG_NAME, VERSION_BASE)
    try:
        start(lambda config: _job(config, plan.swept))()
    except HydraException as error:
        allowed, reason = "what Hydra understands", first_line(error)
        raise ConfigError("command line", plan.argv, allowed, reason) from error


def _job(composed: DictConfig, swept: list[str]) -> None:
    """One run. A single one, or one that was stopped, ends the process with its exit code."""
    started = HydraConfig.get()
    code = _guarded(composed, swept, list(started.overrides.task))
    if code == 0:
        return
    if code == STOPPED or started.mode == RunMode.RUN:
        sys.exit(code)
    raise JobFailed(code)


def _guarded(composed: DictConfig, swept: list[str], arguments: list[str] | None = None) -> int:
    """The exit code of a run; `arguments` are what Hydra, if it is there, composed it from."""
    config: TrainConfig | None = None
    run_dir: Path | None = None
    try:
        config = TrainConfig.from_dict(plain(composed))
        run_dir, source = locate(config.run_dir, config.resume)
        label = "".join(f"-{key}-{OmegaConf.select(composed, key)}" for key in swept)
        with claimed(run_dir, config, label) as run_dir:
            from trainers.run import run  # torch: seconds that a wrong configuration never waits

            return run(config, run_dir, source)
    except ConfigError as error:
        if arguments is not None:
            error = Composer([]).with_source(error, arguments)
        return _refuse(error)
    except KeyboardInterrupt as interruption:
        if config is None or run_dir is None or not any(run_dir.glob("checkpoints/[0-9]*")):
            raise
        again = command("train.py", f"resume={as_value(run_dir)}", plugins=config.plugins)
        said = f"{_name(interruption)}: ended; go on with: {again}"
        print(f"{_program()}: {said}", file=sys.stderr)
        return STOPPED
    except Exception:
        traceback.print_exc()
        return FAILED


def _refuse(error: ConfigError) -> int:
    print(f"{_program()}: {error}", file=sys.stderr)
    return WRONG_INPUT


def _program() -> str:
    return Path(sys.argv[0]).name


def _name(interruption: KeyboardInterrupt) -> str:
    return str(interruption) or "SIGINT"
