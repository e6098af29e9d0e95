"""From configuration to objects: the only module that knows both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, ReplayBuffer
from torchrl.modules import ValueOperator
from torchrl.objectives import SACLoss

from trainers import plugins
from trainers.acting import NumpyPolicy
from trainers.algorithms import ppo, sac
from trainers.algorithms.common import keeping_settings
from trainers.collectors import GymCollector
from trainers.config import ConfigError, PPOConfig, SACConfig, TrainConfig
from trainers.envs import Envs
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.sac import CriticwiseSACLoss
from trainers.networks import (
    ActingPolicy,
    NoisyPolicy,
    StateActionValue,
    StateValue,
    TanhNormalActor,
    critic_ensemble,
)
from trainers.replay_buffer import UniformReplayBuffer
from trainers.samplers import Prioritized
from trainers.seeding import seed_everything
from trainers.trainer import Trainer


@dataclass(frozen=True)
class Built:
    """A trainer that would train, and the policy it trains."""

    trainer: Trainer
    policy: torch.nn.Module
    keeping_settings: Callable[[], AbstractContextManager[None]]
    """Inside it a checkpoint can be loaded, and what is configured stays as configured."""


def build(config: TrainConfig) -> Built:
    """Environment, networks, loss and timetable; nothing is written to disk.

    Raises:
        ConfigError: the environment does not exist, the algorithm cannot act in it, a name is
            unknown, or the device is not there.
    """
    device = _device(config)
    # Before anything is built: networks draw their weights.
    seed_everything(config.seed)
    envs = Envs(config.env)
    try:
        _check_fit(config, envs)
        built = BUILDERS[config.algo.name](config, envs, device)
        for name in config.hooks:
            plugins.hooks.make(name, built.trainer)
    except BaseException:
        envs.close()
        raise
    built.trainer.stop_at = config.stop_at
    built.trainer.capture = config.capture
    return built


def build_sac(config: TrainConfig, envs: Envs, device: torch.device) -> Built:
    """SAC as configured."""
    algo, network = cast(SACConfig, config.algo), config.network
    sizes = (envs.num_observations, envs.action_spec.shape[-1])
    spec = envs.action_spec.to(device)
    actor = TanhNormalActor(sizes[0], spec, network.hidden, network.activation)
    actor.to(device)
    make_critic = (
        partial(StateActionValue, hidden=network.hidden, activation=network.activation)
        if algo.critic is None
        else partial(plugins.networks.make, algo.critic)
    )
    critic = make_critic(*sizes)
    if isinstance(critic, torch.nn.Module):  # else a list of all of them
        critic = [critic, *(make_critic(*sizes) for _ in range(algo.num_critics - 1))]
    critics = [each.to(device) for each in critic_ensemble(critic)]
    value = None
    if algo.value_network:
        module = StateValue(sizes[0], network.hidden, network.activation).to(device)
        value = ValueOperator(module, ["observation"])
    if algo.loss_module == "torchrl":
        loss_class = SACLoss
    elif algo.loss_module is not None:
        loss_class = plugins.losses.get(algo.loss_module)
    else:
        fast = FastSACLoss.fits(actor, critics, algo)
        loss_class = FastSACLoss if fast else CriticwiseSACLoss
    with _fitting(algo.loss_module):
        loss = sac.make_loss(actor, critics, spec, algo, loss_class, value)
    policy = ActingPolicy(actor)  # the loss trains these very parameters
    policy = NumpyPolicy(policy) if NumpyPolicy.fits(policy) else policy
    noise = algo.exploration_noise
    collector = GymCollector(
        envs,
        NoisyPolicy(policy, spec, noise) if noise > 0 else policy,
        seed=config.seed,
        frames_per_batch=algo.frames_per_batch,
        init_random_frames=algo.init_random_frames,
        overlap=config.collector.async_,
        stagger=config.env.stagger,
        device=device,
    )
    optimizer = sac.make_optimizer(loss, algo)
    trainer = sac.SACTrainer(
        collector=collector,
        loss_module=loss,
        optimizer=optimizer,
        replay_buffer=_replay_buffer(algo, device),
        total_frames=config.total_frames,
        config=algo,
    )
    return Built(trainer, policy, partial(keeping_settings, loss, optimizer, sac.SETTINGS))


def build_ppo(config: TrainConfig, envs: Envs, device: torch.device) -> Built:
    """PPO as configured."""
    algo = cast(PPOConfig, config.algo)
    networks = ppo.make_networks(envs.num_observations, envs.action_spec, config.network, algo)
    for network in (networks.actor, networks.critic):
        network.to(device)
    loss_class = None
    if algo.loss_module == "torchrl":
        loss_class = ppo.LOSSES[algo.loss]
    elif algo.loss_module is not None:
        loss_class = plugins.losses.get(algo.loss_module)
    with _fitting(algo.loss_module):
        loss = ppo.make_loss(networks, algo, loss_class)
    policy = NumpyPolicy(networks.actor) if NumpyPolicy.fits(networks.actor) else networks.actor
    collector = GymCollector(
        envs,
        policy,
        seed=config.seed,
        frames_per_batch=algo.frames_per_batch,
        stagger=config.env.stagger,
        device=device,
    )
    optimizer = ppo.make_optimizer(loss, algo)
    trainer = ppo.PPOTrainer(
        collector=collector,
        loss_module=loss,
        optimizer=optimizer,
        value_estimator=ppo.make_value_estimator(networks.critic, algo).to(device),
        total_frames=config.total_frames,
        config=algo,
        normalizer=networks.norm,
    )
    return Built(trainer, policy, partial(keeping_settings, loss, optimizer, ppo.SETTINGS))


BUILDERS: dict[str, Callable[[TrainConfig, Envs, torch.device], Built]] = {
    "ppo": build_ppo,
    "sac": build_sac,
}
ALGORITHMS = {"ppo": ppo, "sac": sac}


@contextmanager
def _fitting(loss_module: str | None) -> Iterator[None]:
    """A registered loss is called like the algorithm's own."""
    try:
        yield
    except TypeError as error:
        if loss_module is None:
            raise
        allowed = "a loss that is called like the algorithm's own"
        raise ConfigError("algo.loss_module", loss_module, allowed, str(error)) from error


def _device(config: TrainConfig) -> torch.device:
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ConfigError("device", "cuda", "auto or cpu: no CUDA device is available")
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def _check_fit(config: TrainConfig, envs: Envs) -> None:
    algorithm = ALGORITHMS[config.algo.name]
    if algorithm.accepts(envs.action_spec):
        return
    fitting = [name for name, other in ALGORITHMS.items() if other.accepts(envs.action_spec)]
    fits = f"algo={' or '.join(fitting)} fits" if fitting else "no algorithm of this version fits"
    raise ConfigError(
        "algo",
        config.algo.name,
        f"an algorithm that can act in {config.env.id}",
        f"{config.algo.name} needs {algorithm.ACTION_SPACE}, {config.env.id} has "
        f"{envs.action_space}: {fits}",
    )


def _replay_buffer(algo: SACConfig, device: torch.device) -> ReplayBuffer:
    if algo.storage == "memmap":
        storage = LazyMemmapStorage(algo.buffer_size)
    else:
        where = device if algo.storage == "device" else torch.device("cpu")
        storage = LazyTensorStorage(algo.buffer_size, device=where)
    if not algo.prioritized:
        return UniformReplayBuffer(storage=storage, batch_size=algo.batch_size)
    sampler = Prioritized(algo.buffer_size, algo.priority_alpha, algo.priority_beta)
    return ReplayBuffer(storage=storage, sampler=sampler, batch_size=algo.batch_size)
