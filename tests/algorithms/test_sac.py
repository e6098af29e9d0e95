"""Soft actor-critic: its parts put together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import (
    Lines,
    assert_same,
    env_config,
    owner,
    register_spaces,
    sac_loss,
    timeless,
    tiny_sac,
    watched,
)
from torch import nn
from torch.optim import Adam
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer, TensorDictReplayBuffer
from torchrl.envs import GymEnv
from torchrl.objectives import HardUpdate, SACLoss, SoftUpdate, ValueEstimators
from torchrl.objectives.value import TD0Estimator, TDLambdaEstimator

from trainers import seeding
from trainers.algorithms.sac import SACTrainer, make_loss, make_optimizer
from trainers.build import Built, build
from trainers.config import ConfigError, SACConfig
from trainers.errors import NonFiniteError
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
from trainers.saving import checkpoint
from trainers.stages import Stage
from trainers.trainer import Trainer
from trainers.updates import UpdateRatio

FOUR = env_config("Pendulum-v1", num_envs=4)


def learned(trainer: Trainer) -> dict[str, Any]:
    """Everything that a step could have moved."""
    return {
        "phases": [phase.state_dict() for phase in trainer.phases],
        "replay": owner(trainer, Replay).state_dict(),
    }


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


def test_actor_critics_alpha_and_targets_all_learn(make: Any) -> None:
    trainer = make(tiny_sac())
    before = {k: v.clone() for k, v in sac_loss(trainer).state_dict().items()}
    trainer.train()
    after = sac_loss(trainer).state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    for part in ("actor_network", "qvalue_network", "target_qvalue_network"):
        keys = {k for k in before if k.startswith(f"{part}_params") and "weight" in k}
        assert keys, part
        assert keys <= moved, part
    assert "log_alpha" in moved


@pytest.mark.parametrize("storage", ["memory", "memmap", "device"])
def test_every_storage_trains_alike(make: Any, storage: str) -> None:
    states = []
    for kind in ("memory", storage):
        trainer = make(tiny_sac(algo={"storage": kind}))
        trainer.train()
        states.append(learned(trainer))
    assert_same(*states)


@pytest.mark.parametrize("broken", ["observation", "reward"])
def test_what_is_not_finite_changes_nothing(make: Any, broken: str) -> None:
    kwargs = {"lengths": (30,), "broken": broken, "broken_at": 20}
    trainer = make(tiny_sac(env_config(kwargs=kwargs)))
    states: list[Any] = []
    trainer.register_hook("post_steps", lambda trainer, rollout: states.append(learned(trainer)))
    with pytest.raises(NonFiniteError, match=rf"{broken}.*environment 0.*frame 20"):
        trainer.train()
    assert (trainer.frames, trainer.updates) == (19, 9)
    assert_same(learned(trainer), states[-1])


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
    assert sac_loss(trainer)._alpha == pytest.approx(0.25)
    (optimizer,) = trainer.phases[0].optimizers
    assert [group["name"] for group in optimizer.param_groups] == ["actor", "critic"]


@pytest.mark.parametrize(("given", "expected"), [("auto", -1.0), (-3.0, -3.0)])
def test_the_target_entropy(make: Any, given: Any, expected: float) -> None:
    assert sac_loss(make(tiny_sac(algo={"target_entropy": given}))).target_entropy == expected


def test_the_discount_is_part_of_the_state(make: Any) -> None:
    trainer = make(tiny_sac(algo={"gamma": 0.5}))
    state = sac_loss(trainer).state_dict()
    assert [float(v) for k, v in state.items() if "gamma" in k] == [0.5]


VARIANTS: list[dict[str, Any]] = [
    {},
    {"loss_function": "smooth_l1", "gamma": 0.5},
    {"num_critics": 3, "min_alpha": 0.9, "max_alpha": 1.1},
    {"fixed_alpha": True, "target_entropy": -2.0},
    {"delay_qvalue": False},
    {"separate_losses": True},
    {"skip_done_states": True},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(v) or "default")
def test_every_variant_trains_as_torchrl_s_own_loss_would(make: Any, variant: Any) -> None:
    """The losses draw their noise in the same order, so both runs are the same run."""
    runs = []
    for loss_module in (None, "torchrl"):
        algo = {**variant, "lr": 0.01, "loss_module": loss_module}
        trainer = make(tiny_sac(algo=algo, total_frames=22))
        losses: list[dict[str, float]] = []

        def note(trainer: Trainer, batch: Any, terms: Any, losses: Any = losses) -> None:
            losses.append({k: float(v) for k, v in terms.items() if k.startswith("loss_")})

        trainer.register_hook("post_optim", note)
        trainer.train()
        runs.append(losses)
    assert len(runs[0]) == 12
    for ours, theirs in zip(*runs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_targets_follow_softly_or_hard(make: Any) -> None:
    soft = owner(make(tiny_sac(algo={"tau": 0.1})), TargetUpdate)
    assert (soft.tau, soft.interval) == (0.1, 1)
    hard = make(tiny_sac(algo={"target_update": "hard", "target_update_interval": 5}))
    assert (owner(hard, TargetUpdate).tau, owner(hard, TargetUpdate).interval) == (1.0, 5)
    assert owner(make(tiny_sac(algo={"delay_qvalue": False})), TargetUpdate) is None


FORMS: dict[str, dict[str, Any]] = {
    "the first version": {"value_network": True},
    "prioritized": {"prioritized": True},
    "prioritized, reduction none": {"prioritized": True, "reduction": "none"},
    "prioritized, n-step": {"prioritized": True, "n_steps": 3},
    "prioritized, the first": {"prioritized": True, "value_network": True, "n_steps": 2},
    "n-step": {"n_steps": 3},
    "td1": {"value_estimator": "td1", "slice_length": 4},
    "td_lambda": {"value_estimator": "td_lambda", "slice_length": 2, "lmbda": 0.8},
    "the first, td_lambda": {
        "value_estimator": "td_lambda", "slice_length": 2, "value_network": True,
    },
    "sum": {"reduction": "sum"},
    "noise": {"exploration_noise": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_every_form_learns(make: Any, form: dict[str, Any]) -> None:
    trainer = make(tiny_sac(algo=form))
    trainer.register_hook("post_optim", LogLosses())
    before = parameters(sac_loss(trainer))
    trainer.train()
    assert not any(map(torch.equal, before, parameters(sac_loss(trainer))))
    line = trainer.metrics.flush()
    expected = {"loss/actor", "loss/qvalue", "loss/alpha", "loss/qvalue_0", "loss/qvalue_1"}
    expected |= {"loss/value"} if "value_network" in form else set()
    assert line.keys() == expected | {"train/alpha", "train/entropy"}


def test_importance_weights_weigh_all_losses(make: Any) -> None:
    """Without a reduction they are multiplied, averaged over the batch, and nothing else."""
    trainer = make(tiny_sac(algo={"prioritized": True, "reduction": "none"}, total_frames=20))
    loss, (phase,) = sac_loss(trainer), trainer.phases
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


def test_priorities_are_the_errors_of_the_last_update(make: Any) -> None:
    trainer = make(tiny_sac(algo={"prioritized": True, "priority_alpha": 1.0}))
    replay = owner(trainer, PrioritizedReplay)

    def compare(trainer: Trainer, batch: Any, losses: Any) -> None:
        priorities = replay.state_dict()["sampler"]["priorities"]
        told = dict(zip(batch["index"].tolist(), batch["td_error"].tolist(), strict=True))
        assert [priorities[i] for i in told] == pytest.approx(list(told.values()), abs=1e-6)

    trainer.register_hook("post_optim", compare)
    trainer.train()
    assert replay.buffer.sampler.beta == pytest.approx(0.4 + 0.6 * 39 / 40)


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


@pytest.mark.parametrize(
    "space",
    [gym.spaces.Discrete(3), gym.spaces.Box(-float("inf"), float("inf"), (2,))],
    ids=["discrete", "infinite"],
)
def test_an_environment_it_cannot_act_in_is_refused(space: gym.Space) -> None:
    name = register_spaces("Elsewhere", gym.spaces.Box(-1, 1, (2,)), space)
    with pytest.raises(ConfigError, match=r"sac needs a finite Box.*has .*fits") as caught:
        build(tiny_sac(env_config(name)))
    assert caught.value.key == "algo"
    assert name in str(caught.value)


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


def parameters(module: nn.Module) -> list[torch.Tensor]:
    """Copies."""
    return [parameter.detach().clone() for parameter in module.parameters()]


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
            optimizer=None,  # type: ignore[arg-type]
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


@pytest.mark.parametrize(
    ("num_envs", "backend"), [(1, "sync"), (4, "sync"), (4, "async")], ids=["1", "4", "4 workers"]
)
@pytest.mark.parametrize(
    ("at", "count"), [("frames", 4), ("frames", 16), ("updates", 13), ("updates", 23)]
)
def test_a_resumed_run_is_the_straight_run(
    backend: str, num_envs: int, at: str, count: int, tmp_path: Path
) -> None:
    """Three updates a frame, so that most updates lie between two others that are due."""
    env = env_config("Pendulum-v1", num_envs=num_envs, backend=backend, max_episode_steps=6)
    assert_resumes(env, {}, at, count, tmp_path)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize(("at", "count"), [("frames", 16), ("updates", 23)])
def test_every_form_resumes_exactly(form: Any, at: str, count: int, tmp_path: Path) -> None:
    env = env_config("Pendulum-v1", num_envs=2, max_episode_steps=6)
    assert_resumes(env, form, at, count, tmp_path)


def assert_resumes(env: Any, algo: dict[str, Any], at: str, count: int, tmp_path: Path) -> None:
    settings = {"utd_ratio": 3.0, "lr_schedule": "linear", "buffer_size": 15, "lr": 0.01}
    config = tiny_sac(env, {**settings, "init_random_frames": 8, **algo}, total_frames=20)
    straight, all_lines = watched(config)
    straight.train()
    assert len(straight.state_dict()["hooks"]["replay"]["frames"]) == 15

    stopped, first_lines = watched(config)

    def stop(trainer: Trainer, *data: Any) -> None:
        if getattr(trainer, at) == count:
            trainer.stop("test", interrupted=True)

    stopped.register_hook("post_optim" if at == "updates" else "post_steps", stop)
    stopped.register_hook("checkpoint", lambda t: t.save(tmp_path / "c") if t.ending else None)
    stopped.train()
    assert getattr(stopped, at) == count
    assert not stopped.finished

    seeding.seed_everything(123)
    resumed, more_lines = watched(config)
    resumed.load(tmp_path / "c")
    resumed.train()
    assert_same(resumed.state_dict(), straight.state_dict(), ("/stopwatch", "/window/seconds"))
    assert timeless(first_lines.lines + more_lines.lines) == timeless(all_lines.lines)


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


def test_settings_outlive_a_checkpoint_and_the_rest_does_not(tmp_path: Path) -> None:
    def made(**algo: float) -> Built:
        built = build(tiny_sac(algo=algo))
        built.trainer.collector.shutdown()
        return built

    old = made(lr=1e-3, gamma=0.9, min_alpha=0.01, max_alpha=2.0)
    checkpoint.save(tmp_path / "c", old.trainer.phases[0].state_dict())
    new = made(lr=1e-4, gamma=0.5, min_alpha=0.2, max_alpha=3.0)
    (phase,) = new.trainer.phases
    with torch.no_grad():
        for parameter in phase.parameters():
            parameter.add_(1.0)
    with new.keeping_settings():
        phase.load_state_dict(checkpoint.load(tmp_path / "c"))
    assert {group["lr"] for group in phase.optimizers[0].param_groups} == {1e-4}
    loss = sac_loss(new.trainer)
    buffers = {name.split(".")[-1]: float(b) for name, b in loss.named_buffers() if b.numel() == 1}
    assert buffers["gamma"] == 0.5
    assert buffers["min_log_alpha"] == pytest.approx(math.log(0.2))
    assert buffers["max_log_alpha"] == pytest.approx(math.log(3.0))
    assert_same(dict(sac_loss(old.trainer).named_parameters()), dict(loss.named_parameters()))
