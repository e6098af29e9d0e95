"""TD3 and DDPG: their parts put together."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from helpers import (
    assert_same,
    env_config,
    owner,
    register_spaces,
    tiny_off_policy,
    watched,
)
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
from trainers.hooks import LogLosses, PrioritizedReplay, Replay, TargetUpdate
from trainers.losses.fast_td3 import FastDDPGLoss, FastTD3Loss
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import TanhActor
from trainers.networks.critics import StateActionValue, critic_ensemble
from trainers.stages import Stage
from trainers.trainer import Trainer

CONFIGS: dict[str, Any] = {"td3": TD3Config, "ddpg": DDPGConfig}
both = pytest.mark.parametrize("algo", list(CONFIGS))


def tiny(algo: str, env: Any = None, total_frames: int = 40, **given: Any) -> TrainConfig:
    return tiny_off_policy(CONFIGS[algo], env, given, total_frames)


def loss_of(trainer: Trainer) -> Any:
    return trainer.phases[0].loss


def parameters(module: Any, of: str = "") -> list[torch.Tensor]:
    """Copies."""
    return [p.detach().clone() for name, p in module.named_parameters() if name.startswith(of)]


# -------------------------------------------------------------------------- timetable


@both
def test_the_timetable(make: Any, algo: str) -> None:
    trainer = make(tiny(algo, max_grad_norm=1.0, lr_schedule="linear"))
    last = "clip_grad_norm_1 (conditional)" if algo == "td3" else "clip_grad_norm_1"
    lines = [line.split(maxsplit=1) for line in str(trainer).splitlines()[1:]]
    assert lines == [
        ["setup", "weight_sync"],
        ["post_collect", "replay"],
        ["pre_epoch", "-"],
        ["process_optim_batch", "anneal_lr_0, anneal_lr_1, replay"],
        ["post_loss", "-"],
        ["post_backward", "clip_grad_norm_0 (conditional), clip_grad_norm_1 (conditional)"],
        ["post_optim", f"clip_grad_norm_0, {last}, target_update"],
        ["post_steps", "weight_sync"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]


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
            assert ("loss_actor" in losses.keys()) == (trainer.updates % 3 == 0)  # noqa: SIM118

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
def test_all_networks_learn(make: Any, algo: str) -> None:
    trainer = make(tiny(algo))
    before = {k: v.clone() for k, v in loss_of(trainer).state_dict().items() if "weight" in k}
    trainer.train()
    after = loss_of(trainer).state_dict()
    assert len(before) == 8
    assert not [key for key, value in before.items() if torch.equal(value, after[key])]


@both
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"loss_function": "smooth_l1", "gamma": 0.5},
        {"delay_qvalue": False},
        {"delay_actor": False},
        {"n_steps": 3, "prioritized": True},
        {"reduction": "sum"},
    ],
    ids=lambda v: "-".join(v) or "default",
)
def test_every_variant_trains_as_torchrl_s_own_loss_would(
    make: Any, algo: str, variant: dict[str, Any]
) -> None:
    """The losses draw their noise in the same order, so both runs are the same run."""
    runs, kinds = [], []
    env = env_config("Pendulum-v1", num_envs=2, max_episode_steps=5)
    for loss_module in (None, "torchrl"):
        trainer = make(tiny(algo, env, 22, **variant, lr=0.01, loss_module=loss_module))
        kinds.append(type(loss_of(trainer)))
        losses: list[dict[str, float]] = []

        def note(trainer: Trainer, batch: Any, terms: Any, losses: Any = losses) -> None:
            losses.append({k: float(v) for k, v in terms.items()})

        trainer.register_hook("post_optim", note)
        trainer.train()
        runs.append(losses)
    assert kinds == [FastTD3Loss, TD3Loss] if algo == "td3" else [FastDDPGLoss, DDPGLoss]
    assert len(runs[0]) == 12
    for ours, theirs in zip(*runs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


FORMS: dict[str, dict[str, Any]] = {
    "prioritized": {"prioritized": True},
    "prioritized, reduction none": {"prioritized": True, "reduction": "none"},
    "n-step": {"n_steps": 3},
    "td1": {"value_estimator": "td1", "slice_length": 4},
    "td_lambda": {"value_estimator": "td_lambda", "slice_length": 2, "lmbda": 0.8},
    "hard": {"target_update": "hard", "target_update_interval": 5},
    "clipped": {"max_grad_norm": 0.1},
    "gaussian": {"noise": "gaussian"},
    "wandering": {"noise": "ornstein_uhlenbeck", "noise_theta": 1.0, "noise_dt": 0.1},
    "torchrl": {"loss_module": "torchrl"},
}


@both
@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_every_form_learns(make: Any, algo: str, form: dict[str, Any]) -> None:
    trainer = make(tiny(algo, **form))
    trainer.register_hook("post_optim", LogLosses())
    before = parameters(loss_of(trainer))
    trainer.train()
    assert not any(map(torch.equal, before, parameters(loss_of(trainer))))
    expected = {"loss/actor", "loss/qvalue"}
    expected |= {"loss/qvalue_0", "loss/qvalue_1"} if algo == "td3" else set()
    expected |= {"train/grad_norm"} if "max_grad_norm" in form else set()
    assert trainer.metrics.flush().keys() == expected


@both
def test_priorities_are_sizes_of_errors(make: Any, algo: str) -> None:
    for loss_module in (None, "torchrl"):
        given = {"prioritized": True, "priority_alpha": 1.0, "loss_module": loss_module}
        trainer = make(tiny(algo, **given))
        replay, checked = owner(trainer, PrioritizedReplay), []

        def compare(
            trainer: Trainer, batch: Any, losses: Any, replay: Any = replay, seen: Any = checked
        ) -> None:
            priorities = replay.state_dict()["sampler"]["priorities"]
            told = dict(zip(batch["index"].tolist(), batch["td_error"].tolist(), strict=True))
            assert [priorities[i] for i in told] == pytest.approx(list(told.values()), abs=1e-6)
            seen.append(batch["td_error"].mean().item())

        trainer.register_hook("post_optim", compare)
        trainer.train()
        assert len(checked) == 30


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


@pytest.mark.parametrize("overlap", [False, True])
@both
def test_a_run_goes_on_as_it_was(make: Any, algo: str, overlap: bool) -> None:
    """State of the noise, and of the phases, included."""
    from dataclasses import replace

    from trainers.config import CollectorConfig

    env = env_config("Pendulum-v1", num_envs=2, max_episode_steps=7)
    config = tiny(algo, env, 60, noise="ornstein_uhlenbeck", noise_dt=1.0)
    config = replace(config, collector=CollectorConfig(async_=overlap))
    whole = make(config)
    whole.train()
    first = make(config)
    first.stop_at = 34
    first.train()
    state = first.state_dict()  # before another one is built, which seeds all generators
    second = make(config)
    second.load_state_dict(state)
    assert all(each.how == "exact" for each in second.restored)
    second.train()
    assert_same(second.state_dict(), whole.state_dict(), ("/stopwatch",))


# ---------------------------------------------------------------- what cannot be built


@both
@pytest.mark.parametrize(
    ("space", "fits"),
    [(gym.spaces.Discrete(3), "ppo"), (gym.spaces.Box(-float("inf"), float("inf"), (2,)), "ppo")],
    ids=["discrete", "infinite"],
)
def test_an_environment_it_cannot_act_in_is_refused(algo: str, space: Any, fits: str) -> None:
    name = register_spaces("Elsewhere", gym.spaces.Box(-1, 1, (2,)), space)
    with pytest.raises(ConfigError, match=rf"{algo} needs a finite Box.*has .*{fits}.* fits") as e:
        build(tiny(algo, env_config(name)))
    assert e.value.key == "algo"
    assert name in str(e.value)


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


def test_they_are_registered() -> None:
    assert ALGORITHMS["td3"].trainer is td3.TD3Trainer
    assert ALGORITHMS["ddpg"].trainer is ddpg.DDPGTrainer


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
            OrnsteinUhlenbeck(self.actor, spec, 0.2),  # type: ignore[arg-type]  # a policy
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
