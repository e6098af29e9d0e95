"""Who runs what, and how long."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from benchmarks.figures import Samples, speed, time_to_pass
from benchmarks.peers import ROOT, python_of
from benchmarks.rows import (
    ALONE,
    BATCHES,
    DDPG,
    DQN,
    ENV_ID,
    ENVIRONMENTS,
    LEARNING,
    LIMITS,
    PASSING_RETURN,
    PATIENCE,
    PPO,
    SAC,
    STORED,
    TD3,
)
from trainers.config import AlgoConfig

PROGRAMS = ROOT / "benchmarks" / "programs"
START_S = 60.0  # of a program, at most: imports, and what its clock leaves out at first

Marks = list[dict[str, float]]


def _for_ever(samples: Samples) -> None:
    """A program is waited for, however long it takes."""


@dataclass(frozen=True)
class Job:
    """A program, and how the values of one row or of several are read from what it says."""

    who: str
    """The contestant; in a row that grows, the size."""
    command: Sequence[str]
    read: Callable[[str, float], dict[str, float]]
    """From its last line of output and the time of day when it was started, to values by row."""
    limit_s: Callable[[Samples], float | None] = _for_ever
    """From what is measured so far, after how many seconds it is cut off; None: never."""
    on_gpu: bool = False
    """Else none is to be seen."""


class Frames(NamedTuple):
    """Of a run that learns from a replay buffer."""

    warm_up: int
    settling: int  # SBX compiles in there
    measured: int


_SAC = Frames(500, 500, 3_000)
_DQN = Frames(1_000, 1_000, 30_000)  # which go by fast


@dataclass(frozen=True)
class Sizes:
    """How long everything is run."""

    sac: Frames = _SAC  # TD3, DDPG and the others on HalfCheetah as well
    dqn: Frames = _DQN
    lone_updates: int = 2_000  # of a batch of 256; as much work if it is larger
    shipped_updates: int = 1_000  # of algorithms that are measured beside no peer
    ppo_rollouts: int = 8
    ppo8_rollouts: int = 16
    collected_rollouts: int = 10
    settling_rollouts: int = 2
    bare_seconds: float = 3.0
    learning_frames: int = 150_000
    learning_interval: int = 5_000
    passing_return: float = PASSING_RETURN


QUICK = Sizes(
    sac=Frames(100, 50, 100),
    dqn=Frames(100, 100, 1_000),
    lone_updates=100,
    shipped_updates=20,
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
        "sac": partial(_off_policy, "sac", SAC, ("ours", "sb3", "sbx", "torchrl")),
        "td3": partial(_off_policy, "td3", TD3, ("ours", "sb3", "sbx")),
        "ddpg": partial(_off_policy, "ddpg", DDPG, ("ours", "sb3", "sbx")),
        "dqn": partial(_off_policy, "dqn", DQN, ("ours", "sb3")),
        "ppo1": partial(_ppo, "ppo1", 1, ("ours", "sb3", "sbx", "torchrl")),
        "ppo8": partial(_ppo, "ppo8", 8, ("ours", "sb3", "sbx")),
        "collect": _collect,
        "envpool": _envpool,
        "startup": _startup,
        "bare": _bare,
        "scaling": _scaling,
        "algorithms": _alone,
        "gpu": _gpu,
        "learning": _learning,
    }
    return [job for group in groups for job in makers[group](sizes, seed)]


# ------------------------------------------------------------------ the groups


def _off_policy(
    row: str, algo: Mapping[str, Any], contestants: Sequence[str], sizes: Sizes, seed: int
) -> list[Job]:
    frames = sizes.dqn if row == "dqn" else sizes.sac
    settled = frames.warm_up + frames.settling
    settings = {
        **algo,
        "num_envs": 1,
        "warm_up": frames.warm_up,
        "total_frames": settled + frames.measured,
        "mark_every": frames.settling,
        "seed": seed,
    }
    measure = partial(speed, after=settled)
    found = [_training(row, who, settings, measure) for who in contestants]
    if row == "sac":
        rough = {**settings, "matmul_precision": "medium"}
        found.insert(1, replace(_training(row, "ours", rough, measure), who="ours, in bfloat16"))
    return found


def _ppo(
    row: str,
    num_envs: int,
    contestants: Sequence[str],
    sizes: Sizes,
    seed: int,
    device: str = "cpu",
) -> list[Job]:
    rollouts = sizes.ppo_rollouts if num_envs == 1 else sizes.ppo8_rollouts
    settings, measure = _on_policy(num_envs, rollouts, sizes, seed)
    settings["device"] = device
    return [_training(row, who, settings, measure) for who in contestants]


def _collect(sizes: Sizes, seed: int) -> list[Job]:
    return [
        _collection(f"collect{num_envs}", who, num_envs, sizes, seed, by=who)
        for num_envs in (1, 8)
        for who in ("ours", "by hand")
    ]


def _envpool(sizes: Sizes, seed: int) -> list[Job]:
    collection = partial(_collection, "collect32", num_envs=32, sizes=sizes, seed=seed)
    return [
        collection("ours", by="ours", backend="envpool"),
        collection("ours without EnvPool", by="ours"),
        collection("sync vector", by="sync vector"),
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
    bare = _program("bare", {"env_id": ENV_ID, "seconds": sizes.bare_seconds})
    return [
        Job("bare", bare, lambda line, _: json.loads(line)),
        _lone_updates("updates", "ours", SAC["batch_size"], sizes, seed),
    ]


def _scaling(sizes: Sizes, seed: int) -> list[Job]:
    jobs = [_lone_updates("updates_by_batch", str(b), b, sizes, seed) for b in BATCHES]
    for n in ENVIRONMENTS:
        settings, measure = _on_policy(n, sizes.ppo_rollouts, sizes, seed)
        jobs.append(Job(str(n), _program("ours", settings), _reading("ppo_by_envs", measure)))
    jobs += [
        _collection("collect_by_envs", str(n), n, sizes, seed, by="ours") for n in ENVIRONMENTS
    ]
    jobs += [
        _replay(stored, prioritized, sizes) for prioritized in (False, True) for stored in STORED
    ]
    return jobs


def _alone(sizes: Sizes, seed: int) -> list[Job]:
    return [_as_shipped(name, sizes, seed) for name in ALONE]


def _gpu(sizes: Sizes, seed: int) -> list[Job]:
    on_gpu = [
        *_off_policy("sac_gpu", {**SAC, "device": "cuda"}, ("ours",), sizes, seed),
        _lone_updates("updates_gpu", "ours", SAC["batch_size"], sizes, seed, device="cuda"),
        *_ppo("ppo_gpu", 1, ("ours",), sizes, seed, device="cuda"),
    ]
    return [replace(job, on_gpu=True) for job in on_gpu]


def _learning(sizes: Sizes, seed: int) -> list[Job]:
    settings = {
        **SAC,
        "num_envs": 1,
        "total_frames": sizes.learning_frames,
        "mark_every": sizes.learning_interval,
        "until": sizes.passing_return,
        "seed": seed,
    }
    measure = partial(time_to_pass, threshold=sizes.passing_return)
    jobs = [
        _training("learning", who, {**settings, **theirs}, measure)
        for who, theirs in LEARNING.items()
    ]
    return [job if job.who == "ours" else replace(job, limit_s=_patience(job)) for job in jobs]


# ------------------------------------------------------------------ what they are made of


def _patience(peer: Job) -> Callable[[Samples], float | None]:
    """How long a peer is waited for, once one of ours is there: until its limits are decided."""
    times = PATIENCE * LIMITS["learning", peer.who].most

    def limit_s(samples: Samples) -> float | None:
        ours = samples.get(("learning", "ours"))
        return START_S + times * max(ours) if ours else None

    return limit_s


def _training(
    row: str, who: str, settings: Mapping[str, Any], measure: Callable[[Marks], float]
) -> Job:
    program = {"ours": "ours", "torchrl": "torchrl_trainers"}.get(who, "sb3")
    command = _program(program, {**settings, "jax": who == "sbx"}, python_of(who))
    return Job(who, command, _reading(row, measure))


def _on_policy(
    num_envs: int, rollouts: int, sizes: Sizes, seed: int
) -> tuple[dict[str, Any], Callable[[Marks], float]]:
    """The settings of so many of PPO's rollouts after some others, and what is measured."""
    settled = sizes.settling_rollouts * PPO["frames_per_batch"]
    settings = {
        **PPO,
        "num_envs": num_envs,
        "total_frames": settled + rollouts * PPO["frames_per_batch"],
        "mark_every": PPO["frames_per_batch"],
        "seed": seed,
    }
    return settings, partial(speed, after=settled)


def _collection(
    row: str, who: str, num_envs: int, sizes: Sizes, seed: int, by: str, backend: str = "sync"
) -> Job:
    settings, measure = _on_policy(num_envs, sizes.collected_rollouts, sizes, seed)
    command = _program("collection", {**settings, "by": by, "backend": backend})
    return Job(who, command, _reading(row, measure))


def _lone_updates(
    row: str, who: str, batch_size: int, sizes: Sizes, seed: int, device: str = "cpu"
) -> Job:
    # So many that collecting a frame does not count, and as much work if the batch is larger.
    per_frame, updates = (
        max(1, count * SAC["batch_size"] // batch_size) for count in (50, sizes.lone_updates)
    )
    settled = sizes.sac.warm_up + 1
    settings = {
        **SAC,
        "batch_size": batch_size,
        "num_envs": 1,
        "warm_up": sizes.sac.warm_up,
        "updates_per_frame": per_frame,
        "device": device,
        "total_frames": settled + math.ceil(updates / per_frame),
        "mark_every": 1,
        "seed": seed,
    }
    measure = partial(speed, after=settled, unit="updates")
    return Job(who, _program("ours", settings), _reading(row, measure))


def _replay(stored: int, prioritized: bool, sizes: Sizes) -> Job:
    row = "prioritized_by_stored" if prioritized else "uniform_by_stored"
    settings = {
        "stored": stored,
        "prioritized": prioritized,
        "batch_size": SAC["batch_size"],
        "seconds": sizes.bare_seconds,
    }
    return Job(str(stored), _program("replay", settings), _reading(row, lambda each: each))


def _as_shipped(name: str, sizes: Sizes, seed: int) -> Job:
    """So many updates, or of those that learn on-policy as many frames as PPO; a tenth before."""
    algo: Any = AlgoConfig.known[name]()
    rollout = algo.frames_per_batch or 1
    frames, warm_up = sizes.ppo_rollouts * PPO["frames_per_batch"], 0
    if not algo.on_policy:
        frames, warm_up = sizes.shipped_updates / algo.utd_ratio, sizes.sac.warm_up
    measured, settling = (rollout * math.ceil(each / rollout) for each in (frames, frames / 10))
    settings = {
        "algo": name,
        "env_id": None,  # where it can act
        "hidden": (PPO if algo.on_policy else SAC)["hidden"],
        "num_envs": 1,
        "warm_up": warm_up,
        "total_frames": warm_up + settling + measured,
        "mark_every": settling,
        "seed": seed,
    }
    measure = partial(speed, after=warm_up + settling)
    return Job("ours", _program("ours", settings), _reading(name, measure))


def _program(name: str, settings: Mapping[str, Any], python: str = sys.executable) -> list[str]:
    settings = {"until": None, "device": "cpu", "matmul_precision": "highest", **settings}
    return [python, str(PROGRAMS / f"{name}.py"), json.dumps(settings)]


def _reading(row: str, measure: Callable[[Any], float]) -> Callable[[str, float], dict[str, float]]:
    return lambda line, _: {row: measure(json.loads(line))}
