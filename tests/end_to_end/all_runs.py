"""Runs that have to survive whatever ends them: of every algorithm, and of its other forms.

An algorithm that is added to the registry is among them as it is shipped. A form is here if it
keeps state that the shipped one does not have, or leaves it to somebody else.
"""

from __future__ import annotations

from support.algorithms import ALL, command

FOUR = ("env.num_envs=4", "algo.utd_ratio=10", "algo.init_random_frames=60", "total_frames=92")
CARTPOLE = ("env=gym", "env.id=CartPole-v1")
OVERLAPPING = ("collector.async=true",)
PRIORITIZED = ("algo.prioritized=true", "algo.n_steps=3", "algo.buffer_size=60")
WANDERING = ("algo.noise=ornstein_uhlenbeck", "algo.noise_dt=1", "algo.exploration_noise=0.3")
WORKERS = ("env.num_envs=2", "env.backend=async", "algo.frames_per_batch=8")
TORCHRL = ("algo.loss_module=torchrl",)
ALONE = ("algo.baseline=false",)

_FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "a2c": {
        "four environments": ("env.num_envs=4", "env.stagger=false"),
        "discrete, adam": (*CARTPOLE, "algo.optimizer=adam"),
        "overlapping, v-trace": (
            *OVERLAPPING, "env.num_envs=2", "algo.value_estimator=vtrace",
        ),
    },
    "c51": {"prioritized": ("algo.prioritized=true", "algo.reduction=none")},
    "ddpg": {
        "workers": WORKERS,
        "overlapping": (*OVERLAPPING, *WANDERING),
        "torchrl's": TORCHRL,
    },
    "dqn": {
        "four environments, hard targets": (
            *("env.num_envs=4", "algo.target_update=hard", "algo.target_update_interval=7"),
            *("algo.utd_ratio=2", "algo.lr_schedule=linear"),
        ),
        "duelling, prioritized": (*PRIORITIZED, "algo.duelling=true", "algo.frames_per_batch=4"),
        "overlapping": OVERLAPPING,
        "td_lambda": ("algo.value_estimator=td_lambda", "algo.slice_length=4"),
        "torchrl's": (*TORCHRL, "algo.prioritized=true"),
    },
    "ppo": {
        "workers": ("env.num_envs=2", "env.backend=async"),
        "kl": ("algo.loss=kl", "algo.shared_trunk=true", "algo.normalize_observation=false"),
        "discrete": CARTPOLE,
        "functional, all that anneals": (
            *("algo.functional=true", "algo.clip_schedule=linear", "algo.clip_value=true"),
            *("algo.target_kl=0.01", "algo.num_epochs=5", "env.num_envs=4", "env.stagger=false"),
        ),
    },
    "reinforce": {
        "no baseline": (*ALONE, "env.num_envs=2"),
        "no baseline, discrete": (*ALONE, *CARTPOLE, "algo.normalize_advantage=true"),
    },
    "sac": {
        "four environments": FOUR,
        "workers": WORKERS,
        "overlapping": OVERLAPPING,
        "a ring that goes round": ("algo.buffer_size=60",),
        "prioritized": PRIORITIZED,
        "a value network": ("algo.value_network=true",),
        "linear, few updates": (
            *("algo.lr_schedule=linear", "algo.utd_ratio=0.1", "log.interval=5"),
        ),
    },
    "td3": {
        "delayed by three, all that anneals": (
            *("algo.policy_delay=3", "algo.target_update_interval=4", "algo.num_critics=3"),
            *("algo.lr_schedule=linear", "algo.max_grad_norm=0.1", *PRIORITIZED),
        ),
        "four wandering": (*FOUR, *WANDERING),
        "torchrl's": TORCHRL,
    },
}  # fmt: skip
RUNS = {name: command(name) for name in ALL} | {
    f"{name}, {form}": (*command(name), *more)
    for name, forms in _FORMS.items()
    for form, more in forms.items()
}
