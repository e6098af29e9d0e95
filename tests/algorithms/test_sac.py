"""Soft actor-critic: its parts put together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.algorithms import tiny_sac
from support.doubles import Lines
from support.environments import env_config
from support.states import assert_same, learnt, loss_of, owner, parameters, timeless, watched
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer, TensorDictReplayBuffer
from torchrl.envs import GymEnv
from torchrl.objectives import HardUpdate, SACLoss, SoftUpdate, ValueEstimators
from torchrl.objectives.value import TD0Estimator, TDLambdaEstimator

from trainers import seeding
from trainers.algorithms.sac import SACTrainer, make_loss, make_optimizer
from trainers.build import build
from trainers.config import ConfigError, SACConfig
from trainers.hooks import (
    LogEpisodes,
    LogGradNorm,
    LogLearningRates,
    LogLosses,
    LogScalar,
    NStepReturns,
    PrioritizedReplay,
    Replay,
    TargetUpdate,
    WriteMetrics,
)
from trainers.losses.fast_sac import FastSACLoss
from trainers.losses.sac import CriticwiseSACLoss
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import TanhNormalActor
from trainers.networks.critics import StateActionValue, critic_ensemble
from trainers.replay.samplers import Prioritized
from trainers.stages import Stage
from trainers.trainer import Trainer
from trainers.updates import UpdateRatio

FOUR = env_config("Pendulum-v1", num_envs=4)


# --------------------------------------------------------------------- counting


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize(("ratio", "warm_up"), [(1.0, 10), (0.5, 0), (2.5, 33)])
def test_warm_up_frames_are_stored_and_updates_are_counted(
    make: Any, num_envs: int, ratio: float, warm_up: int
) -> None:
    env = env_config("Pendulum-v1", num_envs=num_envs)
    trainer = make(tiny_sac(env, {"utd_ratio": ratio, "init_random_frames": warm_up}))
    collected: list[torch.Tensor] = []
    trainer.register_hook(
        "post_collect", lambda trainer, rollout: collected.append(rollout["observation"].clone())
    )
    trainer.train()
    assert trainer.frames == 40
    assert trainer.updates == math.floor(ratio * (40 - warm_up))
    stored = owner(trainer, Replay).buffer[:]["observation"]
    assert torch.equal(stored, torch.cat(collected).reshape(40, 3))


def test_longer_rollouts_owe_as_many_updates(make: Any) -> None:
    trainer = make(tiny_sac(FOUR, {"frames_per_batch": 12}))
    trainer.train()
    assert (trainer.frames, trainer.updates) == (48, 38)


def test_the_timetable(make: Any) -> None:
    trainer = make(tiny_sac(algo={"max_grad_norm": 1.0, "lr_schedule": "linear"}))
    assert [line.split() for line in str(trainer).splitlines()[1:]] == [
        ["setup", "weight_sync"],
        ["post_collect", "replay"],
        ["pre_epoch", "-"],
        ["process_optim_batch", "anneal_lr_0,", "replay"],
        ["post_loss", "-"],
        ["post_backward", "clip_grad_norm"],
        ["post_optim", "clip_grad_norm,", "target_update"],
        ["post_steps", "weight_sync"],
        ["checkpoint", "-"],
        ["shutdown", "-"],
    ]


# --------------------------------------------------------------------- learning


@pytest.mark.parametrize("value_network", [False, True])
def test_what_is_logged(make: Any, value_network: bool) -> None:
    trainer = make(tiny_sac(algo={"value_network": value_network}))
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    expected = {"loss/actor", "loss/qvalue", "loss/alpha", "loss/qvalue_0", "loss/qvalue_1"}
    expected |= {"loss/value"} if value_network else set()
    assert trainer.metrics.flush().keys() == expected | {"train/alpha", "train/entropy"}


@pytest.mark.parametrize("storage", ["memory", "memmap", "device"])
def test_every_storage_trains_alike(make: Any, storage: str) -> None:
    states = []
    for kind in ("memory", storage):
        trainer = make(tiny_sac(algo={"storage": kind}))
        trainer.train()
        states.append(learnt(trainer))
    assert_same(*states)


# -------------------------------------------------------------------- keywords


def test_learning_rates_apart(make: Any) -> None:
    trainer = make(tiny_sac(algo={"lr": 1e-3, "actor_lr": 2e-3, "alpha_lr": 3e-3}))
    (optimizer,) = trainer.phases[0].optimizers
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"actor": 2e-3, "critic": 1e-3, "alpha": 3e-3}
    sizes = {
        group["name"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups
    }
    # Pendulum has 3 observations and 1 action: 3-8-2, twice 4-8-1, and a number.
    assert sizes == {"actor": 32 + 18, "critic": 2 * (40 + 9), "alpha": 1}


def test_linear_rates_fall_to_nearly_zero(make: Any) -> None:
    trainer, rates = make(tiny_sac(algo={"lr": 1.0, "lr_schedule": "linear"})), []
    (optimizer,) = trainer.phases[0].optimizers

    def note(trainer: Trainer, batch: Any, losses: Any) -> None:
        rates.append([group["lr"] for group in optimizer.param_groups])

    trainer.register_hook("post_backward", note)
    trainer.train()
    # The share of the run that lay behind the iteration: its last one still learns.
    assert rates[0] == pytest.approx([1 - 10 / 40] * 3)
    assert rates[-1] == pytest.approx([1 / 40] * 3)


def test_alpha_stays_in_its_bounds(make: Any) -> None:
    algo = {"alpha_init": 0.5, "min_alpha": 0.45, "max_alpha": 0.55, "alpha_lr": 0.5}
    trainer, alphas = make(tiny_sac(algo=algo)), []
    trainer.register_hook("post_optim", lambda t, batch, losses: alphas.append(losses["alpha"]))
    trainer.train()
    assert alphas[0] == pytest.approx(0.5)
    assert {round(float(alpha), 4) for alpha in alphas[2:]} & {0.45, 0.55}
    assert all(0.4499 <= alpha <= 0.5501 for alpha in alphas)


def test_a_fixed_alpha_is_fixed(make: Any) -> None:
    trainer = make(tiny_sac(algo={"alpha_init": 0.25, "fixed_alpha": True}))
    trainer.train()
    assert loss_of(trainer)._alpha == pytest.approx(0.25)
    (optimizer,) = trainer.phases[0].optimizers
    assert [group["name"] for group in optimizer.param_groups] == ["actor", "critic"]


@pytest.mark.parametrize(("given", "expected"), [("auto", -1.0), (-3.0, -3.0)])
def test_the_target_entropy(make: Any, given: Any, expected: float) -> None:
    assert loss_of(make(tiny_sac(algo={"target_entropy": given}))).target_entropy == expected


def test_the_discount_is_part_of_the_state(make: Any) -> None:
    trainer = make(tiny_sac(algo={"gamma": 0.5}))
    state = loss_of(trainer).state_dict()
    assert [float(v) for k, v in state.items() if "gamma" in k] == [0.5]


def test_targets_follow_softly_or_hard(make: Any) -> None:
    soft = owner(make(tiny_sac(algo={"tau": 0.1})), TargetUpdate)
    assert (soft.tau, soft.interval) == (0.1, 1)
    hard = make(tiny_sac(algo={"target_update": "hard", "target_update_interval": 5}))
    assert (owner(hard, TargetUpdate).tau, owner(hard, TargetUpdate).interval) == (1.0, 5)
    assert owner(make(tiny_sac(algo={"delay_qvalue": False})), TargetUpdate) is None


def test_importance_weights_weigh_all_losses(make: Any) -> None:
    """Without a reduction they are multiplied, averaged over the batch, and nothing else."""
    trainer = make(tiny_sac(algo={"prioritized": True, "reduction": "none"}, total_frames=20))
    loss, (phase,) = loss_of(trainer), trainer.phases
    each: dict[str, torch.Tensor] = {}

    def twice(batch: Any) -> Any:
        torch.manual_seed(trainer.updates)
        each.update(loss(batch.exclude("priority_weight")))
        torch.manual_seed(trainer.updates)
        return loss(batch)

    def compare(trainer: Trainer, batch: Any, losses: Any) -> None:
        weights = batch["priority_weight"]
        assert weights.max() <= 1
        assert weights.min() < weights.max() or trainer.updates < 3
        for key in ("loss_actor", "loss_qvalue", "loss_alpha"):
            torch.testing.assert_close(losses[key], (weights * each[key]).mean(), rtol=1e-5, atol=0)
        seen.append(trainer.updates)

    seen: list[int] = []
    phase.loss = twice
    trainer.register_hook("post_loss", compare)
    trainer.train()
    assert seen == list(range(10))


def test_targets_after_several_steps_are_torchrl_s(make: Any) -> None:
    runs = []
    for loss_module in (None, "torchrl"):
        algo = {"n_steps": 3, "prioritized": True, "lr": 0.01, "loss_module": loss_module}
        env = env_config("Pendulum-v1", num_envs=2, max_episode_steps=5)
        trainer = make(tiny_sac(env, algo, total_frames=22))
        losses: list[dict[str, float]] = []

        def note(trainer: Trainer, batch: Any, terms: Any, losses: Any = losses) -> None:
            assert set(batch["steps_to_next_obs"].flatten().tolist()) <= {1, 2, 3}
            losses.append({k: float(v) for k, v in terms.items() if k.startswith("loss_")})

        trainer.register_hook("post_optim", note)
        trainer.train()
        runs.append(losses)
    for ours, theirs in zip(*runs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_noise_is_for_collection_only(make: Any) -> None:
    """Where the policy has not moved yet, only the noise makes the difference."""
    frozen = {"lr": 1e-12, "utd_ratio": 0.01, "init_random_frames": 0}
    actions = []
    for noise in (0.0, 0.5):
        built = build(tiny_sac(algo={**frozen, "exploration_noise": noise}))
        assert isinstance(built.policy, NumpyPolicy)  # evaluated without the noise
        built.policy.actor.actor.sample = lambda observation: torch.zeros(len(observation), 1)
        built.policy.act = lambda observation, noise: np.zeros((len(observation), 1), np.float32)
        collected: list[torch.Tensor] = []
        built.trainer.register_hook(
            "post_collect", lambda trainer, rollout, c=collected: c.append(rollout["action"])
        )
        built.trainer.train()
        actions.append(torch.cat(collected).flatten())
    assert actions[0].abs().max() == 0.0
    assert 0.2 < actions[1].std() < 0.8
    assert actions[1].abs().max() <= 1.0


# --------------------------------------------------------------- what cannot act


# ------------------------------------------------------------- TorchRL's own parts


class Parts:
    """What a user of TorchRL has already."""

    def __init__(self, total_frames: int = 40, loss_class: Any = SACLoss) -> None:
        torch.manual_seed(0)
        env = GymEnv("Pendulum-v1", device="cpu")
        env.set_seed(0)
        spec = env.action_spec
        self.actor = TanhNormalActor(3, spec, [8], "relu")
        critics = critic_ensemble(StateActionValue(3, 1, [8], "relu"))
        self.loss = make_loss(self.actor, critics, spec, SACConfig(), loss_class)
        self.collector: Any = Collector(
            env,
            self.actor,
            frames_per_batch=4,
            total_frames=total_frames,
            init_random_frames=12,
            auto_register_policy_transforms=False,
        )
        self.buffer: Any = TensorDictReplayBuffer(storage=LazyTensorStorage(100), batch_size=8)
        self.optimizer = make_optimizer(self.loss, SACConfig())

    def sac(self, target_update: Any = None, **algo: Any) -> SACTrainer:
        """Trained with SAC's timetable."""
        return SACTrainer(
            collector=self.collector,
            loss_module=self.loss,
            optimizer=self.optimizer,
            replay_buffer=self.buffer,
            total_frames=40,
            config=SACConfig(batch_size=8, init_random_frames=12, **algo),
            target_update=target_update,
        )


def test_torchrl_s_collector_loss_and_buffer_train() -> None:
    parts, lines = Parts(), Lines()
    trainer = parts.sac()
    for hook in (LogEpisodes(), LogScalar(("next", "reward"), "train/reward")):
        trainer.register_hook(Stage.POST_COLLECT, hook)
    trainer.register_hook(Stage.POST_BACKWARD, LogGradNorm(parts.loss.parameters()))
    trainer.register_hook(Stage.POST_OPTIM, LogLosses())
    trainer.register_hook(Stage.POST_STEPS, LogLearningRates())
    trainer.register_hook(Stage.POST_STEPS, WriteMetrics([lines], interval=20))
    before = parameters(parts.loss)
    trainer.train()
    assert (trainer.frames, trainer.updates) == (40, 28)
    assert len(parts.buffer) == 40
    assert not any(map(torch.equal, before, parameters(parts.loss)))
    assert [line["frames"] for line in lines.lines] == [20, 40]
    assert lines.lines[1].keys() >= {
        "loss/actor", "loss/qvalue", "loss/alpha", "train/alpha", "train/entropy",
        "train/grad_norm", "train/lr/actor", "train/reward",
    }  # fmt: skip


def test_without_a_configuration_the_warm_up_is_the_collector_s() -> None:
    parts = Parts()
    trainer = SACTrainer(
        collector=parts.collector,
        loss_module=parts.loss,
        optimizer=parts.optimizer,
        replay_buffer=parts.buffer,
        total_frames=40,
    )
    trainer.train()
    assert (trainer.frames, trainer.updates) == (40, 40 - parts.collector.init_random_frames)


def test_they_train_with_the_plain_trainer_as_well() -> None:
    parts = Parts()
    trainer = Trainer(
        collector=parts.collector,
        loss_module=parts.loss,
        optimizer=parts.optimizer,
        total_frames=40,
        update_plan=UpdateRatio(0.5, init_random_frames=12),
    )
    replay = Replay(parts.buffer)
    trainer.register_hook("post_collect", replay.extend)
    trainer.register_hook("process_optim_batch", replay.sample)
    trainer.register_hook("post_optim", TargetUpdate(parts.loss))
    before = parameters(parts.actor)
    trainer.train()
    assert (trainer.frames, trainer.updates, len(parts.buffer)) == (40, 14, 40)
    assert not any(map(torch.equal, before, parameters(parts.actor)))


def test_a_collector_of_torchrl_that_ends_early_ends_the_run() -> None:
    trainer = Parts(total_frames=16).sac()
    trainer.train()
    assert (trainer.frames, trainer.updates) == (16, 4)
    assert trainer.stop_reason == "the collector ended after 16 frames"


def test_a_trainer_of_torchrl_parts_can_be_saved(tmp_path: Path) -> None:
    first = Parts().sac()
    first.train()
    first.save(tmp_path / "c")
    second = Parts().sac()
    second.load(tmp_path / "c")
    ignored = ("/collector", "/stopwatch")  # TorchRL's collector does not store its environments
    assert_same(second.state_dict(), first.state_dict(), ignored)
    second.collector.shutdown()


@pytest.mark.parametrize(
    "make_updater",
    [
        lambda loss: SoftUpdate(loss, tau=1.0 - 1e-9),
        lambda loss: HardUpdate(loss, value_network_update_interval=0),
    ],
    ids=["soft", "hard"],
)
@pytest.mark.filterwarnings("ignore:Found an eps value")
def test_target_updaters_of_torchrl_are_accepted(make_updater: Any) -> None:
    """Both of these copy the critics after every update."""
    parts = Parts()
    trainer = parts.sac(target_update=make_updater(parts.loss))
    trainer.train()
    assert owner(trainer, TargetUpdate) is None
    torch.testing.assert_close(
        parts.loss.target_qvalue_network_params.to_dict(),
        parts.loss.qvalue_network_params.data.to_dict(),
    )


def test_a_user_s_loss_is_taken_as_it_is() -> None:
    class Gentle(SACLoss):
        """Half of the actor's loss."""

        def forward(self, tensordict: Any = None) -> Any:
            losses = super().forward(tensordict)
            losses["loss_actor"] = 0.5 * losses["loss_actor"]
            losses["half"] = losses["loss_actor"].detach()
            return losses

    parts = Parts(loss_class=Gentle)
    trainer = parts.sac()
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    line = trainer.metrics.flush()
    assert line["train/half"] == pytest.approx(line["loss/actor"])


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_a_function_and_several_optimizers_do_for_a_loss() -> None:
    parts = Parts()
    groups = parts.optimizer.param_groups
    trainer = SACTrainer(
        collector=parts.collector,
        loss_module=lambda batch: parts.loss(batch),
        optimizer=[Adam(group["params"], lr=1e-3) for group in groups],
        replay_buffer=parts.buffer,
        total_frames=40,
        config=SACConfig(batch_size=8, init_random_frames=12, lr_schedule="linear"),
    )
    before = parameters(parts.loss)
    trainer.train()
    assert not any(map(torch.equal, before, parameters(parts.loss)))
    rates = [o.param_groups[0]["lr"] for o in trainer.phases[0].optimizers]
    assert rates == pytest.approx([1e-4] * 3)  # a tenth of the run lay ahead of the last rollout
    assert owner(trainer, TargetUpdate) is None  # a function shows no target networks


def test_the_arguments_are_few() -> None:
    """Everything optional is a hook."""
    parts = Parts()
    with pytest.raises(TypeError, match="optimizer"):
        SACTrainer(
            collector=parts.collector,
            loss_module=parts.loss,
            optimizer=None,
            replay_buffer=ReplayBuffer(storage=LazyTensorStorage(10)),
            total_frames=40,
        )
    parts.collector.shutdown()


def renamed(loss: Any) -> Any:
    """A loss that looks elsewhere for everything."""
    loss.set_keys(
        reward="score", done="over", terminated="dead", priority="surprise", priority_weight="w"
    )
    return loss


def rename(rollout: Any) -> Any:
    names = {"reward": "score", "done": "over", "terminated": "dead"}
    for old, new in names.items():
        rollout["next"].rename_key_(old, new)
    return rollout


class Renaming:
    """A collector whose rollouts have names of their own."""

    def __init__(self, collector: Any) -> None:
        self.collector = collector

    def __iter__(self) -> Iterator[Any]:
        return (rename(rollout.copy()) for rollout in self.collector)


@pytest.mark.parametrize("loss_class", [SACLoss, FastSACLoss, CriticwiseSACLoss])
@pytest.mark.parametrize("algo", [{}, {"n_steps": 3, "prioritized": True}], ids=["plain", "other"])
def test_renamed_keys_train_alike(loss_class: Any, algo: dict[str, Any]) -> None:
    learned = []
    for own_names in (False, True):
        parts = Parts(loss_class=loss_class)
        if algo:
            parts.buffer = ReplayBuffer(
                storage=LazyTensorStorage(100), sampler=Prioritized(100, 0.6, 0.4), batch_size=8
            )
        if own_names:
            parts.loss, parts.collector = renamed(parts.loss), Renaming(parts.collector)
        trainer = parts.sac(**algo)
        before = parameters(parts.loss)
        seeding.seed_everything(3)
        trainer.train()
        learned.append(parameters(parts.loss))
        assert not any(map(torch.equal, before, learned[-1]))
    assert_same(*learned)


@pytest.mark.parametrize("loss_class", [SACLoss, FastSACLoss, CriticwiseSACLoss])
def test_selected_outputs_train(loss_class: Any) -> None:
    parts = Parts(loss_class=loss_class)
    parts.loss.select_out_keys("loss_actor", "loss_qvalue")
    trainer = parts.sac()
    trainer.register_hook("post_optim", LogLosses())
    alpha, before = parts.loss.log_alpha.item(), parameters(parts.actor)
    trainer.train()
    assert parts.loss.log_alpha.item() == alpha  # nothing teaches it
    assert not any(map(torch.equal, before, parameters(parts.actor)))
    assert trainer.metrics.flush().keys() == {"loss/actor", "loss/qvalue"}


def test_a_value_estimator_of_its_own_trains() -> None:
    parts = Parts()
    parts.loss.make_value_estimator(TD0Estimator, gamma=0.25, value_network=None)
    trainer = parts.sac(n_steps=3)
    trainer.train()
    hook = owner(trainer, NStepReturns)
    assert hook.discounts.tolist() == [1.0, 0.25, 0.0625]


@pytest.mark.parametrize("kind", [ValueEstimators.TD1, ValueEstimators.TDLambda, TDLambdaEstimator])
def test_estimators_over_time_need_slices(kind: Any) -> None:
    parts = Parts()
    given = {} if isinstance(kind, ValueEstimators) else {"value_network": None, "lmbda": 0.9}
    parts.loss.make_value_estimator(kind, gamma=0.9, **given)
    with pytest.raises(ConfigError, match=r"slice_length.*follows episodes over time"):
        parts.sac()
    trainer = parts.sac(value_estimator="td_lambda", slice_length=4)
    trainer.register_hook("post_optim", lambda t, batch, losses: shapes.append(batch.batch_size))
    shapes: list[Any] = []
    trainer.train()
    assert set(shapes) == {(2, 4)}


def test_an_estimator_over_time_by_default_needs_slices_too() -> None:
    class Mine(SACLoss):
        default_value_estimator = ValueEstimators.TDLambda

    parts = Parts()
    parts.loss.__class__ = Mine
    parts.loss._value_estimator = None
    with pytest.raises(ConfigError, match=r"TDLambda follows episodes"):
        parts.sac()
    parts.collector.shutdown()


def test_a_prioritized_buffer_is_seen() -> None:
    parts = Parts()
    parts.buffer = ReplayBuffer(
        storage=LazyTensorStorage(100), sampler=Prioritized(100, 0.6, 0.4), batch_size=8
    )
    trainer = parts.sac()
    trainer.train()
    priorities = owner(trainer, PrioritizedReplay).state_dict()["sampler"]["priorities"]
    assert len(set(priorities.tolist())) > 8
    with pytest.raises(ValueError, match="needs a buffer with a PrioritizedSampler"):
        Parts().sac(prioritized=True)


# ------------------------------------------------------------------------ resume


def test_two_runs_live_side_by_side() -> None:
    """They share the process's generators, so each gets its own state while it runs."""
    configs = [tiny_sac(seed=1), tiny_sac(FOUR, seed=2)]
    alone = []
    for config in configs:
        trainer, lines = watched(config)
        trainer.train()
        alone.append((trainer.state_dict(), timeless(lines.lines)))

    outer, outer_lines = watched(configs[0])
    inner_state: dict[str, Any] = {}
    inner_lines: list[Lines] = []

    def run_the_other(trainer: Trainer, rollout: Any) -> None:
        if trainer.frames == 25:
            with seeding.own_randomness(0):
                inner, lines = watched(configs[1])
                inner.train()
                inner_state.update(inner.state_dict())
                inner_lines.append(lines)

    outer.register_hook("post_steps", run_the_other)
    outer.train()
    ignored = ("/stopwatch", "/window/seconds")
    assert_same(outer.state_dict(), alone[0][0], ignored)
    assert_same(inner_state, alone[1][0], ignored)
    assert timeless(outer_lines.lines) == alone[0][1]
    assert timeless(inner_lines[0].lines) == alone[1][1]
