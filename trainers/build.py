"""From configuration to objects: the only module that knows both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torchrl.data import Categorical

from trainers import plugins
from trainers.algorithms.a2c import A2C
from trainers.algorithms.c51 import C51
from trainers.algorithms.common import Algorithm, keeping_settings
from trainers.algorithms.crossq import CROSSQ
from trainers.algorithms.ddpg import DDPG
from trainers.algorithms.discrete_sac import DISCRETE_SAC
from trainers.algorithms.dqn import DQN
from trainers.algorithms.off_policy import make_buffer, make_pictures
from trainers.algorithms.ppo import PPO
from trainers.algorithms.redq import REDQ
from trainers.algorithms.reinforce import REINFORCE
from trainers.algorithms.sac import SAC
from trainers.algorithms.td3 import TD3
from trainers.algorithms.tqc import TQC
from trainers.collection.collectors import GymCollector
from trainers.config import ConfigError, TrainConfig
from trainers.environments.envs import Envs
from trainers.replay.memory import check_memory
from trainers.seeding import seed_everything
from trainers.trainer import Trainer

_PAGES = (A2C, C51, CROSSQ, DDPG, DISCRETE_SAC, DQN, PPO, REDQ, REINFORCE, SAC, TD3, TQC)
ALGORITHMS: dict[str, Algorithm] = {page.trainer.config_class.name: page for page in _PAGES}


@dataclass(frozen=True)
class Built:
    """A trainer that would train, and the policy it trains."""

    trainer: Trainer
    policy: torch.nn.Module
    keeping_settings: Callable[[], AbstractContextManager[None]]
    """Inside it a checkpoint can be loaded, and what is configured stays as configured."""
    memory: str = ""
    """What the replay buffer will take, in a line; nothing if there is none."""


def build(config: TrainConfig, will_train: bool = True) -> Built:
    """Environment, networks, loss and timetable; nothing is written to disk.

    Args:
        config: a valid configuration.
        will_train: else only the policy is wanted: there need not be room for the replay buffer,
            and what its algorithm asks of the environment is not looked into.

    Raises:
        ConfigError: the environment does not exist, the algorithm cannot learn in it, a name is
            unknown, the device is not there, or the replay buffer would not fit into memory.
    """
    device = _device(config)
    # Before anything is built: networks draw their weights.
    seed_everything(config.seed)
    envs = Envs(config.env)
    try:
        _check_fit(config, envs, will_train)
        memory = ""
        if will_train and not config.algo.on_policy:
            algo: Any = config.algo
            memory = check_memory(algo, envs.inputs, envs.action_spec, device)
        make = _build_on_policy if config.algo.on_policy else _build_off_policy
        built = replace(make(config, envs, device), memory=memory)
        for name in config.hooks:
            plugins.hooks.make(name, built.trainer)
    except BaseException:
        envs.close()
        raise
    built.trainer.stop_at = config.stop_at
    built.trainer.capture = config.capture
    return built


def _build_off_policy(config: TrainConfig, envs: Envs, device: torch.device) -> Built:
    algo: Any = config.algo
    algorithm = ALGORITHMS[algo.name]
    agent = algorithm.make_agent(envs.inputs, envs.action_spec.to(device), config.network, algo)
    collector = GymCollector(
        envs,
        agent.explorer,
        seed=config.seed,
        frames_per_batch=algo.frames_per_batch,
        init_random_frames=algo.init_random_frames,
        overlap=config.collector.async_,
        stagger=config.env.stagger,
        device=device,
    )
    trainer = algorithm.trainer(
        collector=collector,
        loss_module=agent.loss,
        optimizer=agent.optimizer,
        replay_buffer=make_buffer(algo, device),
        pictures=make_pictures(algo, envs.inputs, envs.num_envs, device),
        total_frames=config.total_frames,
        config=algo,
    )
    return _built(trainer, agent.policy, agent.loss, algorithm.settings)


def _build_on_policy(config: TrainConfig, envs: Envs, device: torch.device) -> Built:
    algo: Any = config.algo
    algorithm = ALGORITHMS[algo.name]
    agent = algorithm.make_agent(envs.inputs, envs.action_spec.to(device), config.network, algo)
    policy = agent.networks.policy
    collector = GymCollector(
        envs,
        policy,
        seed=config.seed,
        frames_per_batch=algo.frames_per_batch,
        overlap=config.collector.async_,
        stagger=config.env.stagger,
        device=device,
    )
    trainer = algorithm.trainer(
        collector=collector,
        loss_module=agent.loss,
        optimizer=agent.optimizer,
        value_estimator=agent.value_estimator,
        total_frames=config.total_frames,
        config=algo,
        normalizer=agent.networks.norm,
    )
    return _built(trainer, policy, agent.loss, algorithm.settings)


def _built(
    trainer: Trainer, policy: torch.nn.Module, loss: torch.nn.Module, settings: Sequence[str]
) -> Built:
    optimizers = [each for phase in trainer.phases for each in phase.optimizers]
    return Built(trainer, policy, partial(keeping_settings, loss, optimizers, settings))


def _device(config: TrainConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device", "cuda", "auto or cpu: no CUDA device is available")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def _check_fit(config: TrainConfig, envs: Envs, will_train: bool) -> None:
    algorithm, in_pictures = ALGORITHMS[config.algo.name], not isinstance(envs.inputs, int)

    def fits(other: Algorithm) -> bool:
        sees = other.sees_pictures or not in_pictures
        return sees and other.action_space.accepts(envs.action_spec)

    if fits(algorithm):
        if will_train:
            spec = envs.action_spec
            config.algo.check_actions(spec.n if isinstance(spec, Categorical) else None)
            if algorithm.check is not None:
                algorithm.check(config)
        return
    fitting = [name for name, other in ALGORITHMS.items() if fits(other)]
    fit = f"algo={' or '.join(fitting)} fits" if fitting else "no algorithm of this version fits"
    needs, has = algorithm.action_space.name, envs.action_space
    if algorithm.action_space.accepts(envs.action_spec):
        needs, has = "vectors of numbers", f"pictures {list(envs.inputs)}"
    raise ConfigError(
        "algo",
        config.algo.name,
        f"an algorithm that can learn in {config.env.id}",
        f"{config.algo.name} needs {needs}, {config.env.id} has {has}: {fit}",
    )
