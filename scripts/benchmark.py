"""Measure this project beside Stable-Baselines3, SBX and TorchRL's own trainers: `make bench`.

Every contestant is a small program in `benchmarks/`. All are told the same settings; they run in
turn, several times; speed is the difference of frames over wall clock between marks taken inside
the training loops, after warm-up and compilation.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "benchmarks"
ENVIRONMENTS = ROOT / ".bench"
RESULTS = PROGRAMS / "results"

GROUPS = ("sac", "ppo1", "ppo8", "collect", "startup", "bare", "learning")
DEFAULT_GROUPS = GROUPS[:-1]  # learning takes hours
PACKAGES = {
    "ours": ("torch", "torchrl", "tensordict", "gymnasium", "mujoco", "numpy"),
    "sb3": ("stable-baselines3", "torch"),
    "sbx": ("sbx-rl", "jax", "flax"),
}

SAC = {
    "algo": "sac",
    "lr": 3e-4,
    "gamma": 0.99,
    "hidden": [256, 256],
    "batch_size": 256,
    "tau": 0.005,
    "buffer_size": 1_000_000,
    "updates_per_frame": 1,
}
PPO = {
    "algo": "ppo",
    "lr": 3e-4,
    "gamma": 0.99,
    "hidden": [64, 64],
    "batch_size": 64,
    "frames_per_batch": 2_048,
    "num_epochs": 10,
    "gae_lambda": 0.95,
    "clip_epsilon": 0.2,
    "critic_coeff": 0.5,
    "entropy_coeff": 0.0,
    "max_grad_norm": 0.5,
}
GFLOP_OF_AN_UPDATE = 0.5816  # the matrix multiplications of SAC's update with these settings
PASSING_RETURN = 4_000.0


@dataclass(frozen=True)
class Row:
    """A measurement. A rate is better high and a time low; an excess is a time above another's."""

    title: str
    unit: str
    kind: Literal["rate", "time", "excess"] = "rate"


ROWS = {
    "sac": Row("SAC, one environment", "frames/s"),
    "updates": Row("SAC, updates alone", "updates/s"),
    "ppo1": Row("PPO, one environment", "frames/s"),
    "ppo8": Row("PPO, eight environments", "frames/s"),
    "collect1": Row("collection, one environment", "frames/s"),
    "collect8": Row("collection, eight environments", "frames/s"),
    "startup": Row("start-up", "s", "excess"),
    "learning": Row(f"SAC until its evaluation passes {PASSING_RETURN:.0f}", "s", "time"),
    "matmul_256": Row("matrix multiplication, 256", "GFLOP/s"),
    "matmul_2048": Row("matrix multiplication, 2048", "GFLOP/s"),
    "env": Row("environment alone", "steps/s"),
}


@dataclass(frozen=True)
class Limit:
    """What must be reached against another, and what is aimed at."""

    must: float | None
    goal: float | None = None


LIMITS = {
    ("sac", "sbx"): Limit(1.05, 1.2),
    ("sac", "sb3"): Limit(1.9),
    ("sac", "torchrl"): Limit(3.0),
    ("updates", "bound"): Limit(0.6, 0.7),
    ("ppo1", "sb3"): Limit(2.2, 4.0),
    ("ppo1", "sbx"): Limit(2.0),
    ("ppo1", "torchrl"): Limit(4.0),
    ("ppo8", "sb3"): Limit(2.5),
    ("ppo8", "sbx"): Limit(1.4, 2.2),
    ("collect1", "by hand"): Limit(1.0, 1.5),
    ("collect8", "by hand"): Limit(1.0, 1.5),
    ("startup", "import"): Limit(2.0, 1.0),
    ("learning", "sbx"): Limit(1.0),
    ("learning", "sb3"): Limit(None, 2.0),
}

Samples = dict[tuple[str, str], list[float]]


class MeasurementError(Exception):
    """A program failed, or said something else than what was asked."""


# ------------------------------------------------------------------ numbers


def speed(marks: Sequence[Mapping[str, float]], after: int, unit: str = "frames") -> float:
    """``unit`` a second from the first mark at or after frame ``after`` to the last mark.

    Raises:
        MeasurementError: there are no two such marks, or no time between them.
    """
    steady = [mark for mark in marks if mark["frames"] >= after]
    if len(steady) < 2 or steady[-1]["seconds"] <= steady[0]["seconds"]:
        raise MeasurementError(f"no two marks, one after the other, from frame {after} on")
    first, last = steady[0], steady[-1]
    return (last[unit] - first[unit]) / (last["seconds"] - first["seconds"])


def time_to_pass(marks: Sequence[Mapping[str, float]], threshold: float) -> float:
    """Seconds from the first mark to the first evaluation that passes; infinite if none does."""
    for mark in marks:
        if mark.get("return", -math.inf) >= threshold:
            return mark["seconds"] - marks[0]["seconds"]
    return math.inf


def advantage(kind: str, ours: float, theirs: float) -> float:
    """How many times as good ours is; of an excess, how many seconds more it takes."""
    if kind == "excess":
        return ours - theirs
    if kind == "time":
        return theirs / ours if math.isfinite(ours) else 0.0
    return ours / theirs


def verdict(kind: str, figure: float, limit: Limit) -> str:
    """``goal``, ``must`` or ``missed``."""

    def reached(bound: float | None) -> bool:
        return bound is not None and (figure <= bound if kind == "excess" else figure >= bound)

    if reached(limit.goal):
        return "goal"
    if limit.must is None:
        return "not the goal"
    return "must" if reached(limit.must) else "MISSED"


def add_bound(samples: Samples) -> None:
    """Updates a second if nothing but the matrix multiplications took time, at the higher peak."""
    peaks = zip(
        samples.get(("matmul_256", "bare"), []),
        samples.get(("matmul_2048", "bare"), []),
        strict=True,
    )
    bounds = [max(each) / GFLOP_OF_AN_UPDATE for each in peaks]
    if bounds and ("updates", "ours") in samples:
        samples["updates", "bound"] = bounds


def table(samples: Samples) -> str:
    """Medians, spreads, and what they say against the limits, in Markdown."""
    lines = [
        "| measurement | who | median | min - max | runs | ours to it | must | goal | reached |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, who), values in sorted(
        samples.items(), key=lambda item: list(ROWS).index(item[0][0])
    ):
        row = ROWS[name]
        median = f"{number(statistics.median(values))} {row.unit}"
        spread = f"{number(min(values))} - {number(max(values))}"
        cells = [row.title, who, median, spread, str(len(values))]
        ours = samples.get((name, "ours"))
        if who == "ours" or ours is None:
            cells += [""] * 4
        else:
            figure = advantage(row.kind, statistics.median(ours), statistics.median(values))
            limit = LIMITS.get((name, who))
            cells.append(shown(row.kind, figure))
            cells += (
                ["", "", ""]
                if limit is None
                else [
                    shown(row.kind, limit.must),
                    shown(row.kind, limit.goal),
                    verdict(row.kind, figure, limit),
                ]
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits at least."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def shown(kind: str, figure: float | None) -> str:
    """A ratio, or seconds more."""
    if figure is None:
        return ""
    return f"{figure:+.2f} s" if kind == "excess" else f"{figure:.2f}x"


# ------------------------------------------------------------------ what is run


@dataclass(frozen=True)
class Job:
    """A program, and how the values of one row or of several are read from what it says."""

    who: str
    command: Sequence[str]
    read: Callable[[str, float], dict[str, float]]
    """From its last line of output and the time of day when it was started, to values by row."""


@dataclass(frozen=True)
class Sizes:
    """How long everything is run."""

    sac_warm_up: int = 500
    sac_settling: int = 500  # SBX compiles in there
    sac_frames: int = 3_000
    lone_updates: int = 2_000
    ppo_rollouts: int = 8
    ppo8_rollouts: int = 16
    collected_rollouts: int = 10
    settling_rollouts: int = 2
    bare_seconds: float = 3.0
    learning_frames: int = 150_000
    learning_interval: int = 5_000
    passing_return: float = PASSING_RETURN


QUICK = Sizes(
    sac_warm_up=100,
    sac_settling=50,
    sac_frames=100,
    lone_updates=100,
    ppo_rollouts=1,
    ppo8_rollouts=1,
    collected_rollouts=1,
    settling_rollouts=1,
    bare_seconds=0.3,
    learning_frames=1_000,
    learning_interval=500,
    passing_return=-1e6,  # by any policy
)


def jobs(groups: Sequence[str], sizes: Sizes, seed: int) -> list[Job]:
    """One round: every contestant of every row once, one after the other."""
    makers = {
        "sac": _sac,
        "ppo1": partial(_ppo, "ppo1", 1, ("ours", "sb3", "sbx", "torchrl")),
        "ppo8": partial(_ppo, "ppo8", 8, ("ours", "sb3", "sbx")),
        "collect": _collect,
        "startup": _startup,
        "bare": _bare,
        "learning": _learning,
    }
    return [job for group in groups for job in makers[group](sizes, seed)]


def _sac(sizes: Sizes, seed: int) -> list[Job]:
    settled = sizes.sac_warm_up + sizes.sac_settling
    settings = {
        **SAC,
        "num_envs": 1,
        "warm_up": sizes.sac_warm_up,
        "total_frames": settled + sizes.sac_frames,
        "mark_every": sizes.sac_settling,
        "seed": seed,
    }
    measure = partial(speed, after=settled)
    return [_training("sac", who, settings, measure) for who in ("ours", "sb3", "sbx", "torchrl")]


def _ppo(row: str, num_envs: int, contestants: Sequence[str], sizes: Sizes, seed: int) -> list[Job]:
    rollouts = sizes.ppo_rollouts if num_envs == 1 else sizes.ppo8_rollouts
    settled = sizes.settling_rollouts * PPO["frames_per_batch"]
    settings = {
        **PPO,
        "num_envs": num_envs,
        "total_frames": settled + rollouts * PPO["frames_per_batch"],
        "mark_every": PPO["frames_per_batch"],
        "seed": seed,
    }
    return [_training(row, who, settings, partial(speed, after=settled)) for who in contestants]


def _collect(sizes: Sizes, seed: int) -> list[Job]:
    settled = sizes.settling_rollouts * PPO["frames_per_batch"]
    settings = {
        **PPO,
        "total_frames": settled + sizes.collected_rollouts * PPO["frames_per_batch"],
        "mark_every": PPO["frames_per_batch"],
        "seed": seed,
    }
    return [
        Job(
            who,
            _program("collection", {**settings, "num_envs": num_envs, "ours": who == "ours"}),
            _reading(f"collect{num_envs}", partial(speed, after=settled)),
        )
        for num_envs in (1, 8)
        for who in ("ours", "by hand")
    ]


def _startup(sizes: Sizes, seed: int) -> list[Job]:
    train = [str(ROOT / "scripts" / "train.py"), "algo=sac", "env=HalfCheetah", "run_dir=run"]
    plugin = ["plugins=[first_frame]", "hooks=[first_frame]", f"seed={seed}"]
    imports = "import time, torchrl.data, torchrl.modules, torchrl.objectives; print(time.time())"

    def read(line: str, started: float) -> dict[str, float]:
        return {"startup": float(line) - started}

    return [
        Job("ours", [sys.executable, *train, *plugin], read),
        Job("import", [sys.executable, "-c", imports], read),
    ]


def _bare(sizes: Sizes, seed: int) -> list[Job]:
    # So many updates on each frame that collecting it does not count.
    per_frame = 50
    settled = sizes.sac_warm_up + 1
    settings = {
        **SAC,
        "num_envs": 1,
        "warm_up": sizes.sac_warm_up,
        "updates_per_frame": per_frame,
        "total_frames": settled + sizes.lone_updates // per_frame,
        "mark_every": 1,
        "seed": seed,
    }
    measure = partial(speed, after=settled, unit="updates")
    return [
        Job(
            "bare",
            _program("bare", {"seconds": sizes.bare_seconds}),
            lambda line, _: json.loads(line),
        ),
        _training("updates", "ours", settings, measure),
    ]


def _learning(sizes: Sizes, seed: int) -> list[Job]:
    # Everyone's defaults: of all the settings above they differ in these only.
    defaults = {
        "ours": {"lr": 1e-3, "warm_up": 5_000},
        "sb3": {"lr": 3e-4, "warm_up": 100},
        "sbx": {"lr": 3e-4, "warm_up": 100},
    }
    settings = {
        **SAC,
        "num_envs": 1,
        "total_frames": sizes.learning_frames,
        "mark_every": sizes.learning_interval,
        "until": sizes.passing_return,
        "seed": seed,
    }
    measure = partial(time_to_pass, threshold=sizes.passing_return)
    return [
        _training("learning", who, {**settings, **theirs}, measure)
        for who, theirs in defaults.items()
    ]


def _training(
    row: str,
    who: str,
    settings: Mapping[str, Any],
    measure: Callable[[list[dict[str, float]]], float],
) -> Job:
    program = {"ours": "ours", "torchrl": "torchrl_trainers"}.get(who, "sb3")
    settings = {"until": None, **settings, "jax": who == "sbx"}
    return Job(who, _program(program, settings, python_of(who)), _reading(row, measure))


def _program(name: str, settings: Mapping[str, Any], python: str = sys.executable) -> list[str]:
    settings = {"until": None, **settings}
    return [python, str(PROGRAMS / f"{name}.py"), json.dumps(settings)]


def _reading(
    row: str, measure: Callable[[list[dict[str, float]]], float]
) -> Callable[[str, float], dict[str, float]]:
    return lambda line, _: {row: measure(json.loads(line))}


def run(job: Job, environment: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """The values a job gave, by row and contestant.

    Raises:
        MeasurementError: it failed, or its output is not what it should be.
    """
    with tempfile.TemporaryDirectory() as directory:
        started = time.time()
        done = subprocess.run(
            job.command, capture_output=True, text=True, cwd=directory, env=environment, check=False
        )
    if done.returncode:
        raise MeasurementError(f"exit code {done.returncode}: {done.stderr.strip()[-1_000:]}")
    try:
        values = job.read(done.stdout.splitlines()[-1], started)
    except (LookupError, ValueError) as error:
        raise MeasurementError(f"its output was not understood: {done.stdout[-200:]!r}") from error
    return {(row, job.who): value for row, value in values.items()}


def surroundings(threads: int) -> dict[str, str]:
    """Environment variables of every program: as many threads for everyone, and no GPU."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(PROGRAMS)]),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # As `scripts/train.py` has it: numpy's matrices are too small for more than one thread.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_DYNAMIC": "false",
        "MKL_DYNAMIC": "false",
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
    }


# ------------------------------------------------------------------ environments of the peers


def python_of(who: str) -> str:
    """The interpreter a contestant runs in; TorchRL's trainers have ours, and our versions."""
    if (PROGRAMS / "requirements" / f"{who}.txt").exists():
        return str(ENVIRONMENTS / who / "bin" / "python")
    return sys.executable


def set_up(peer: str) -> None:
    """Make a peer's environment, unless it is there already with these very versions.

    Raises:
        MeasurementError: it could not be installed.
    """
    requirements = PROGRAMS / "requirements" / f"{peer}.txt"
    constraints = ROOT / "constraints.txt"
    stamp = ENVIRONMENTS / peer / "installed.txt"
    wanted = f"{sys.version}\n{requirements.read_text()}{constraints.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {ENVIRONMENTS / peer}", file=sys.stderr, flush=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENTS / peer)],
        [python_of(peer), *install, str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            output = (done.stdout + done.stderr).strip()[-2_000:]
            raise MeasurementError(f"{' '.join(command)} failed: {output}")
    # Last: what broke off or failed is begun anew.
    stamp.write_text(wanted)


# ------------------------------------------------------------------ the report


def conditions(threads: int, repeats: int, peers: Sequence[str]) -> dict[str, Any]:
    """What the figures depend on, as the run begins."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "commit": commit or "unknown",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "repeats": repeats,
        "load": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES["ours"]},
            **{peer: _versions(peer) for peer in peers},
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions(peer: str) -> dict[str, str]:
    script = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    command = [python_of(peer), "-c", script, *PACKAGES[peer]]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report(samples: Samples, about: Mapping[str, Any]) -> str:
    """The table under the conditions it holds for, in Markdown."""
    versions = []
    for name, value in about["versions"].items():
        inner = value if isinstance(value, str) else ", ".join(f"{k} {v}" for k, v in value.items())
        versions.append(f"{name} {inner}" if isinstance(value, str) else f"{name} ({inner})")
    return "\n".join(
        [
            f"HalfCheetah-v5, {about['date']}, commit {about['commit']}, {about['cpu']}, "
            f"{about['threads']} of {about['cores']} cores, load before the run "
            f"{about['load']:.2f}, {about['repeats']} rounds in turn.",
            "",
            f"Versions: {'; '.join(versions)}.",
            "",
            table(samples),
            "",
        ]
    )


def keep(samples: Samples, about: Mapping[str, Any], directory: Path = RESULTS) -> Path:
    """Write the report, and every single value, into files of this date."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = about["date"].replace(" ", "-").replace(":", "")
    path = directory / f"{stem}-cpu.md"
    path.write_text(report(samples, about))
    rows: dict[str, dict[str, list[float]]] = {}
    for (row, who), values in samples.items():
        rows.setdefault(row, {})[who] = values
    settings = {"sac": SAC, "ppo": PPO}
    content = {**about, "settings": settings, "values": rows}
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    return path


# ------------------------------------------------------------------ the command


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
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise argparse.ArgumentTypeError(f"got {unknown[0]!r}, expected any of {', '.join(GROUPS)}")
    return tuple(group for group in GROUPS if group in names)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1 on")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """The exit code: 0 everything was measured, 2 wrong arguments, 1 something failed."""
    arguments = parse(argv)
    # Inherited by every program: JAX takes as many threads as it finds cores.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    trained = {"sac", "ppo1", "ppo8", "learning"} & set(arguments.only)
    peers = ("sb3", "sbx") if trained else ()
    try:
        for peer in peers:
            set_up(peer)
    except MeasurementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = conditions(arguments.threads, arguments.repeats, peers)
    if about["load"] > 0.5:
        print(f"warning: the load is {about['load']:.2f}: something else runs", file=sys.stderr)
    samples, failed = measured(arguments)
    print(report(samples, about))
    if not arguments.quick:
        print(f"kept in {keep(samples, about)}", file=sys.stderr)
    return 1 if failed else 0


def measured(arguments: argparse.Namespace) -> tuple[Samples, bool]:
    """All values of all rounds, and whether anything failed."""
    sizes = QUICK if arguments.quick else Sizes()
    environment = surroundings(arguments.threads)
    samples: Samples = {}
    failed = False
    for repeat in range(arguments.repeats):
        for job in jobs(arguments.only, sizes, seed=repeat):
            try:
                values = run(job, environment)
            except MeasurementError as error:
                failed = True
                print(f"error: {job.who}: {error}", file=sys.stderr, flush=True)
                continue
            for (row, who), value in values.items():
                samples.setdefault((row, who), []).append(value)
                said = f"{ROWS[row].title}, {who}: {number(value)} {ROWS[row].unit}"
                print(f"{repeat + 1}/{arguments.repeats} {said}", file=sys.stderr, flush=True)
    add_bound(samples)
    return samples, failed


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
