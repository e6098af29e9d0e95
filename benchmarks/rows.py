"""What is measured, with which settings, and what must be reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config import AlgoConfig

GROUPS = (
    *("sac", "ppo1", "ppo8", "td3", "ddpg", "dqn", "collect", "envpool"),
    *("startup", "bare", "scaling", "algorithms", "gpu", "learning"),
)
DEFAULT_GROUPS = GROUPS[:-1]  # learning takes hours
TRAINED = {"sac", "td3", "ddpg", "dqn", "ppo1", "ppo8", "learning"}  # by the peers as well

ENV_ID = "HalfCheetah-v5"
SAC = {
    "algo": "sac",
    "env_id": ENV_ID,
    "lr": 3e-4,
    "gamma": 0.99,
    "hidden": [256, 256],
    "batch_size": 256,
    "tau": 0.005,
    "buffer_size": 1_000_000,
    "updates_per_frame": 1,
}
TD3 = {
    **SAC,
    "algo": "td3",
    "exploration_noise": 0.1,
    "policy_delay": 2,
    "policy_noise": 0.2,
    "noise_clip": 0.5,
}
DDPG = {**SAC, "algo": "ddpg", "exploration_noise": 0.1}
# An update for every fourth frame, as in the paper and by default in SB3. Its other defaults are
# for Atari: rate, batch and targets here are of the size that is usual for CartPole.
DQN = {
    "algo": "dqn",
    "env_id": "CartPole-v1",
    "lr": 1e-3,
    "gamma": 0.99,
    "hidden": [64, 64],
    "batch_size": 128,
    "tau": 1.0,
    "buffer_size": 100_000,
    "frames_per_batch": 4,
    "updates_per_frame": 0.25,
    "frames_per_target_update": 256,
    "epsilon_start": 1.0,
    "epsilon_end": 0.05,
    "exploration_fraction": 0.1,
    "max_grad_norm": 10.0,
}
PPO = {
    "algo": "ppo",
    "env_id": ENV_ID,
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
# What a user gets on HalfCheetah who sets nothing: of ours its preset, of others their defaults.
# Of the settings above these differ in nothing else.
LEARNING = {
    "ours": {"lr": 1e-3, "warm_up": 5_000},
    "sb3": {"lr": 3e-4, "warm_up": 100},
    "sbx": {"lr": 3e-4, "warm_up": 100},
}
# What is measured beside no peer: whatever else is in the registry, as shipped.
ALONE = tuple(name for name in AlgoConfig.known if name not in ("sac", "td3", "ddpg", "dqn", "ppo"))
GFLOP_OF_AN_UPDATE = 0.5816  # the matrix multiplications of SAC's update with these settings
PASSING_RETURN = 4_000.0
PATIENCE = 1.05  # a peer is waited for so many times as long as decides its limits


PUBLISHED = "LeanRL's README (H100)"  # torch.compile with CUDA graphs; not run beside ours
REFERENCES = {
    ("sac_gpu", PUBLISHED): 725.0,
    ("updates_gpu", "4,000"): 4_000.0,
    ("ppo_gpu", PUBLISHED): 1_774.0,
}


@dataclass(frozen=True)
class Row:
    """A measurement. A rate is better high and a time low; an excess is a time above another's."""

    title: str
    unit: str
    kind: Literal["rate", "time", "excess"] = "rate"


@dataclass(frozen=True)
class Growth(Row):
    """A measurement of ours at several sizes: what becomes of it as the work grows."""

    sizes: tuple[int, ...] = ()
    at_most: float | None = None
    """How many times its value at the smallest size that at the largest may be."""


BATCHES = (256, 512, 1_024, 2_048, 4_096)
ENVIRONMENTS = (1, 4, 16, 64)
STORED = (10_000, 100_000, 1_000_000)

ROWS = {
    "sac": Row("SAC, one environment", "frames/s"),
    "td3": Row("TD3, one environment", "frames/s"),
    "ddpg": Row("DDPG, one environment", "frames/s"),
    "dqn": Row("DQN on CartPole-v1, one environment", "frames/s"),
    "updates": Row("SAC, updates alone", "updates/s"),
    "ppo1": Row("PPO, one environment", "frames/s"),
    "ppo8": Row("PPO, eight environments", "frames/s"),
    "sac_gpu": Row("SAC on a GPU, one environment", "frames/s"),
    "updates_gpu": Row("SAC on a GPU, updates alone", "updates/s"),
    "ppo_gpu": Row("PPO on a GPU, one environment", "frames/s"),
    **{
        name: Row(f"algo={name} as shipped, in HalfCheetah-v5 or else CartPole-v1", "frames/s")
        for name in ALONE
    },
    "collect1": Row("collection, one environment", "frames/s"),
    "collect8": Row("collection, eight environments", "frames/s"),
    "collect32": Row("collection with EnvPool, 32 environments", "frames/s"),
    "startup": Row("start-up", "s", "excess"),
    "learning": Row(f"SAC until its evaluation passes {PASSING_RETURN:.0f}", "s", "time"),
    "matmul_256": Row("matrix multiplication, 256", "GFLOP/s"),
    "matmul_2048": Row("matrix multiplication, 2048", "GFLOP/s"),
    "env": Row("environment alone", "steps/s"),
    "updates_by_batch": Growth("SAC, updates alone, by batch", "updates/s", sizes=BATCHES),
    "ppo_by_envs": Growth("PPO, by environments", "frames/s", sizes=ENVIRONMENTS),
    "collect_by_envs": Growth("collection, by environments", "frames/s", sizes=ENVIRONMENTS),
    "uniform_by_stored": Growth(
        "uniform replay, a batch, by stored frames", "µs", "time", STORED, at_most=1.5
    ),
    # log(1,000,000) is 1.5 times log(10,000).
    "prioritized_by_stored": Growth(
        "prioritized replay, a batch and its new priorities, by stored frames",
        *("µs", "time", STORED),
        at_most=1.5,
    ),
}


@dataclass(frozen=True)
class Limit:
    """What must be reached against another, and what is aimed at."""

    must: float | None
    goal: float | None = None

    @property
    def most(self) -> float:
        """The one that takes longer to decide."""
        return max(self.must or 0.0, self.goal or 0.0)


LIMITS = {
    ("sac", "sbx"): Limit(1.05, 1.2),
    ("sac", "sb3"): Limit(1.9),
    ("sac", "torchrl"): Limit(3.0),
    ("td3", "sbx"): Limit(1.0),
    ("ddpg", "sbx"): Limit(1.0),
    ("dqn", "sb3"): Limit(2.0),
    ("updates", "bound"): Limit(0.6, 0.7),
    ("ppo1", "sb3"): Limit(2.2, 4.0),
    ("ppo1", "sbx"): Limit(2.0),
    ("ppo1", "torchrl"): Limit(4.0),
    ("ppo8", "sb3"): Limit(2.5),
    ("ppo8", "sbx"): Limit(1.4, 2.2),
    ("collect1", "by hand"): Limit(1.0, 1.5),
    ("collect8", "by hand"): Limit(1.0, 1.5),
    ("collect32", "sync vector"): Limit(2.0, 3.0),
    ("startup", "import"): Limit(2.0, 1.0),
    ("learning", "sbx"): Limit(1.0),
    ("learning", "sb3"): Limit(None, 2.0),
    ("sac_gpu", PUBLISHED): Limit(2.0, 4.0),
    ("updates_gpu", "4,000"): Limit(1.0, 2.0),
    ("ppo_gpu", PUBLISHED): Limit(2.0, 3.0),
}
