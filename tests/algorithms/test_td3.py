"""TD3 and DDPG: their parts put together."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from support import algorithms
from support.environments import env_config, register_spaces
from support.states import loss_of, owner, parameters, watched
from torch import nn
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import GymEnv
from torchrl.objectives import DDPGLoss, TD3Loss

from trainers.algorithms import ddpg, td3
from trainers.build import ALGORITHMS, build
from trainers.collection.exploration import GaussianNoise, OrnsteinUhlenbeck
from trainers.config import ConfigError, DDPGConfig, TD3Config, TrainConfig
from trainers.hooks import LogGradNorm, LogLosses, PrioritizedReplay, Replay, TargetUpdate
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import TanhActor
from trainers.networks.critics import StateActionValue, critic_ensemble
from trainers.stages import Stage
from trainers.trainer import Trainer

CONFIGS: dict[str, Any] = {"td3": TD3Config, "ddpg": DDPGConfig}
both = pytest.mark.parametrize("algo", list(CONFIGS))


def tiny(algo: str, env: Any = None, total_frames: int = 40, **given: Any) -> TrainConfig:
    return algorithms.tiny(algo, env, given, total_frames)


# -------------------------------------------------------------------------- timetable


@both
def test_the_timetable(make: Any, algo: str) -> None:
    trainer = make(tiny(algo, max_grad_norm=1.0, lr_schedule="linear"))
    only = "(conditional)"
    last = f"clip_grad_norm_actor {only}" if algo == "td3" else "clip_grad_norm_actor"
    lines = [line.split(maxsplit=1) for line in str(trainer).splitlines()[1:]]
    assert lines == [
        ["setup", "weight_sync"],
        ["post_collect", "replay"],
        ["pre_epoch", "-"],
        ["process_optim_batch", "anneal_lr_0, anneal_lr_1, replay"],
        ["post_loss", "-"],
        [
            "post_backward",
            "clip_grad_norm_critic (conditional), clip_grad_norm_actor (conditional)",
        ],
        ["post_optim", f"clip_grad_norm_critic, {last}, target_update"],
        ["post_steps", "weight_sync"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]


def test_each_phase_has_its_norm(make: Any) -> None:
    """With or without clipping, of the updates that it is taken in."""
    found = []
    for max_norm in (None, 1e9):
        trainer = make(tiny("td3", policy_delay=3, max_grad_norm=max_norm))
        if max_norm is None:
            for phase in trainer.phases:
                log = LogGradNorm(phase.parameters(), phase.name)
                trainer.register_hook("post_optim", log, log.metric, when=phase.was_taken)
        trainer.train()
        line = trainer.metrics.flush()
        found.append([line["train/grad_norm/critic"], line["train/grad_norm/actor"]])
        assert "train/grad_norm" not in line
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][0] != pytest.approx(found[0][1], rel=0.01)


@pytest.mark.parametrize(
    ("algo", "given", "every", "targets"),
    [
        ("ddpg", {}, 1, 1),
        ("ddpg", {"target_update_interval": 4}, 1, 4),
        ("td3", {}, 2, 2),
        ("td3", {"policy_delay": 3}, 3, 3),
        ("td3", {"policy_delay": 3, "target_update_interval": 1}, 3, 1),
    ],
)
def test_two_phases_share_a_loss(
    make: Any, algo: str, given: Any, every: int, targets: int
) -> None:
    trainer = make(tiny(algo, **given))
    critics, actor = trainer.phases
    assert (critics.every, actor.every) == (1, every)
    assert critics.loss is actor.loss
    assert (critics.keeps_loss, actor.keeps_loss) == (True, False)
    assert owner(trainer, TargetUpdate).interval == targets
    mine = {id(tensor) for tensor in critics.parameters()}
    assert not mine & {id(tensor) for tensor in actor.parameters()}


def test_actor_and_targets_move_in_every_third_update_only(make: Any) -> None:
    """Also counted over a stop and a resume between two of them."""
    moved: dict[str, list[int]] = {"actor": [], "qvalue": [], "target": []}

    def watch(trainer: Trainer) -> None:
        last = {name: parameters_of(trainer, name) for name in moved}

        def look(trainer: Trainer, batch: Any, losses: Any) -> None:
            for name in moved:
                now = parameters_of(trainer, name)
                if not all(map(torch.equal, last[name], now)):
                    moved[name].append(trainer.updates)
                last[name] = now
            assert ("loss_actor" in losses.keys()) == (trainer.updates % 3 == 0)  # noqa: SIM118  # a TensorDict knows no other way

        trainer.register_hook("post_optim", look)

    first, second = (make(tiny("td3", policy_delay=3, total_frames=27)) for _ in range(2))
    first.stop_at = 17
    watch(first)
    first.train()
    assert first.updates == 7
    second.load_state_dict(first.state_dict())
    watch(second)
    second.train()
    assert moved["qvalue"] == list(range(1, 18))
    assert moved["actor"] == moved["target"] == [3, 6, 9, 12, 15]


def parameters_of(trainer: Trainer, network: str) -> list[torch.Tensor]:
    state = loss_of(trainer).state_dict()
    return [v.clone() for k, v in state.items() if k.startswith(network) and "weight" in k]


@both
def test_each_phase_clips_its_own_gradients(make: Any, algo: str) -> None:
    trainer = make(tiny(algo, max_grad_norm=1e-3))
    norms: list[list[float]] = []

    def look(trainer: Trainer, batch: Any, losses: Any) -> None:
        gradients = [p.grad for p in trainer.phase.parameters()]
        norms.append([float(torch.nn.utils.get_total_norm(gradients)), trainer.phase.every])

    trainer.register_hook("post_backward", look)
    trainer.train()
    assert len(norms) == 30 + 30 // trainer.phases[1].every
    assert max(norm for norm, _ in norms) <= 1.001e-3
    assert sum(norm > 0.99e-3 for norm, _ in norms) > 20


def test_the_optimizer_is_a_pair() -> None:
    parts = Parts("td3")
    for wrong in (Adam(parts.loss.parameters()), [Adam(parts.loss.parameters())], None):
        parts.optimizers = wrong
        with pytest.raises(TypeError, match=r"optimizer must be a pair, .* actor's"):
            parts.trainer()
    parts.collector.shutdown()


# --------------------------------------------------------------------------- learning


@both
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_what_is_logged(make: Any, algo: str, max_grad_norm: float | None) -> None:
    trainer = make(tiny(algo, max_grad_norm=max_grad_norm))
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    expected = {"loss/actor", "loss/qvalue"}
    expected |= {"loss/qvalue_0", "loss/qvalue_1"} if algo == "td3" else set()
    norms = {"train/grad_norm/critic", "train/grad_norm/actor"}
    expected |= norms if max_grad_norm else set()
    assert trainer.metrics.flush().keys() == expected


@both
def test_priorities_of_torchrl_s_losses_are_sizes_of_errors(make: Any, algo: str) -> None:
    """Where they would write the squares."""
    given = {"prioritized": True, "priority_alpha": 1.0, "loss_module": "torchrl"}
    trainer = make(tiny(algo, **given))
    replay, seen = owner(trainer, PrioritizedReplay), []

    def compare(trainer: Trainer, batch: Any, losses: Any) -> None:
        priorities = replay.state_dict()["sampler"]["priorities"]
        told = dict(zip(batch["index"].tolist(), batch["td_error"].tolist(), strict=True))
        assert [priorities[i] for i in told] == pytest.approx(list(told.values()), abs=1e-6)
        seen.append(min(told.values()))

    trainer.register_hook("post_optim", compare)
    trainer.train()
    assert len(seen) == 30
    assert min(seen) >= 0


def test_learning_rates_apart(make: Any) -> None:
    trainer = make(tiny("td3", lr=1e-3, actor_lr=2e-3))
    groups = [
        group for phase in trainer.phases for o in phase.optimizers for group in o.param_groups
    ]
    assert {group["name"]: group["lr"] for group in groups} == {"critic": 1e-3, "actor": 2e-3}
    # Pendulum has 3 observations and 1 action: twice 4-8-1, and 3-8-1.
    assert [sum(p.numel() for p in g["params"]) for g in groups] == [2 * (40 + 9), 32 + 9]


def test_noise_of_the_targets_counts_in_the_actions_range(make: Any) -> None:
    low, high = torch.tensor([-2.0, 0.0]).numpy(), torch.tensor([4.0, 0.5]).numpy()
    name = register_spaces("Wide", gym.spaces.Box(-1, 1, (2,)), gym.spaces.Box(low, high))
    env = env_config(name, rescale_actions=False)
    loss = loss_of(make(tiny("td3", env, policy_noise=0.2, noise_clip=0.5)))
    assert loss.policy_noise.tolist() == pytest.approx([0.6, 0.05])
    assert loss.noise_clip.tolist() == pytest.approx([1.5, 0.125])
    loss = loss_of(make(tiny("td3", env_config(name), policy_noise=0.2)))
    assert loss.policy_noise == 0.2


# ------------------------------------------------------------------------ exploration


@both
def test_noise_is_for_collection_only(algo: str) -> None:
    """Where the policy does nothing, only the noise makes the difference."""
    built = build(tiny(algo, exploration_noise=0.5, init_random_frames=0, lr=1e-12))
    explorer = built.trainer.collector.policy
    assert type(explorer) is (GaussianNoise if algo == "td3" else OrnsteinUhlenbeck)
    assert isinstance(built.policy, NumpyPolicy)
    assert explorer.policy is built.policy
    with torch.no_grad():
        for parameter in built.policy.parameters():
            parameter.zero_()
    collected: list[torch.Tensor] = []
    built.trainer.register_hook(
        "post_collect", lambda trainer, rollout: collected.append(rollout["action"])
    )
    built.trainer.train()
    actions = torch.cat(collected).flatten()
    steps = actions.diff() if algo == "ddpg" else actions
    deviation = 0.5 * 0.01**0.5 if algo == "ddpg" else 0.5
    assert steps.std().item() == pytest.approx(deviation, rel=0.4)
    assert abs(built.policy.act(torch.ones(1, 3).numpy(), None).item()) < 1e-9


# ---------------------------------------------------------------- what cannot be built


def test_ddpg_has_one_critic() -> None:
    from trainers import plugins

    plugins.networks._entries["two"] = lambda *sizes: [
        StateActionValue(*sizes, [8], "relu") for _ in range(2)
    ]
    try:
        with pytest.raises(ConfigError, match=r"algo.critic: got \"two\", .* one critic.*td3"):
            build(tiny("ddpg", critic="two"))
        built = build(tiny("td3", critic="two"))
        built.trainer.collector.shutdown()
    finally:
        del plugins.networks._entries["two"]


# --------------------------------------------------------------- TorchRL's own parts


class Parts:
    """What a user of TorchRL has already."""

    def __init__(self, algo: str) -> None:
        torch.manual_seed(0)
        env = GymEnv("Pendulum-v1", device="cpu")
        env.set_seed(0)
        spec = env.action_spec
        self.actor = TanhActor(3, spec, [8], "relu")
        critics = critic_ensemble(StateActionValue(3, 1, [8], "relu"))
        self.config: Any = CONFIGS[algo](batch_size=8, init_random_frames=12)
        if algo == "td3":
            self.loss: Any = td3.make_loss(self.actor, critics, spec, self.config)
        else:
            self.loss = ddpg.make_loss(self.actor, critics[0], self.config)
        self.collector: Any = Collector(
            env,
            OrnsteinUhlenbeck(self.actor, spec, 0.2),
            frames_per_batch=4,
            total_frames=40,
            init_random_frames=12,
            auto_register_policy_transforms=False,
            trust_policy=True,
        )
        self.buffer: Any = TensorDictReplayBuffer(storage=LazyTensorStorage(100), batch_size=8)
        self.optimizers: Any = ddpg.make_optimizers(self.loss, self.config)
        self.algo = algo

    def trainer(self) -> Trainer:
        """Trained with the algorithm's timetable."""
        return ALGORITHMS[self.algo].trainer(
            collector=self.collector,
            loss_module=self.loss,
            optimizer=self.optimizers,
            replay_buffer=self.buffer,
            total_frames=40,
            config=self.config,
        )


@both
def test_torchrl_s_collector_loss_and_buffer_train(algo: str) -> None:
    parts = Parts(algo)
    assert type(parts.loss) in (TD3Loss, DDPGLoss)
    trainer = parts.trainer()
    trainer.register_hook(Stage.POST_OPTIM, LogLosses())
    before = parameters(parts.loss)
    trainer.train()
    assert (trainer.frames, trainer.updates) == (40, 28)
    assert len(parts.buffer) == 40
    assert not any(map(torch.equal, before, parameters(parts.loss)))
    assert trainer.metrics.flush().keys() >= {"loss/actor", "loss/qvalue"}


def test_lines_have_both_losses() -> None:
    trainer, lines = watched(tiny("td3"))
    trainer.train()
    last = lines.lines[-1]
    assert {"loss/actor", "loss/qvalue", "train/lr/actor", "train/lr/critic"} <= set(last)
    assert isinstance(owner(trainer, Replay), Replay)
    assert isinstance(loss_of(trainer), nn.Module)
