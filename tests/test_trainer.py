"""The loop, its hooks and its clocks."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.doubles import Constant, Rollouts, make_trainer
from support.states import assert_same
from tensordict import TensorDict, TensorDictBase
from torch import nn
from torch.optim import SGD, Adam

from trainers.errors import NonFiniteError
from trainers.hooks import AnnealLR, StepLRScheduler
from trainers.optimization.optimizers import FlatAdam
from trainers.phases import Phase
from trainers.signals import AtOnce
from trainers.stages import Stage
from trainers.timetable import every
from trainers.trainer import Trainer
from trainers.updates import Epochs, UpdateRatio

WARM_UP = ["post_collect", "post_steps", "checkpoint"]
UPDATE = ["process_optim_batch", "loss", "post_loss", "post_backward", "step", "post_optim"]


class TracedSGD(SGD):
    """Notes its steps."""

    def __init__(self, parameters: Any, trace: list[str], word: str = "step") -> None:
        super().__init__(parameters, lr=0.1)
        self.trace, self.word = trace, word

    def step(self, closure: Any = None) -> Any:
        self.trace.append(self.word)
        return super().step(closure)


class TracedLoss(Constant):
    """Notes its calls."""

    def __init__(self, trace: list[str], word: str = "loss") -> None:
        super().__init__()
        self.trace, self.word = trace, word

    def forward(self, batch: TensorDictBase) -> TensorDict:
        self.trace.append(self.word)
        return super().forward(batch)


def note(trace: list[str], word: str, stage: Stage) -> Callable[..., None]:
    """A hook that fits `stage` and notes `word`."""
    hooks = {
        0: lambda trainer: trace.append(word),
        1: lambda trainer, data: trace.append(word),
        2: lambda trainer, batch, losses: trace.append(word),
    }
    return hooks[len(stage.data)]


def traced(total_frames: int = 4, **given: Any) -> tuple[Trainer, list[str]]:
    """A trainer that notes its stages, and the notes."""
    trace: list[str] = []
    if "phases" not in given:
        loss = TracedLoss(trace)
        given |= {"loss_module": loss, "optimizer": TracedSGD(loss.parameters(), trace)}
    given.setdefault("collector", Rollouts())
    trainer = Trainer(total_frames=total_frames, **given)
    for stage in Stage:
        trainer.register_hook(stage, note(trace, stage.value, stage), name=stage.value)
    return trainer, trace


# ---------------------------------------------------------------------- order


def test_off_policy_skips_the_updates_of_the_warm_up() -> None:
    trainer, trace = traced(update_plan=UpdateRatio(2.0, init_random_frames=2))
    trainer.train()
    iteration = ["post_collect", "pre_epoch", *UPDATE, *UPDATE, "post_steps", "checkpoint"]
    assert trace == ["setup", *2 * WARM_UP, *2 * iteration, "shutdown"]


def test_on_policy_has_epochs_of_minibatches() -> None:
    trainer, trace = traced(total_frames=2, update_plan=Epochs(num_epochs=2, minibatches=3))
    trainer.train()
    epoch = ["pre_epoch", *3 * UPDATE]
    iteration = ["post_collect", *2 * epoch, "post_steps", "checkpoint"]
    assert trace == ["setup", *2 * iteration, "shutdown"]
    assert trainer.updates == 12


def test_a_delayed_phase_takes_every_second_update() -> None:
    trace: list[str] = []
    critic, actor = TracedLoss(trace, "critic"), TracedLoss(trace, "actor")
    phases = [
        Phase(critic, TracedSGD(critic.parameters(), trace, "critic step")),
        Phase(actor, TracedSGD(actor.parameters(), trace, "actor step"), every=2),
    ]
    trainer = Trainer(
        collector=Rollouts(), phases=phases, total_frames=1, update_plan=Epochs(minibatches=4)
    )
    for stage in (Stage.POST_LOSS, Stage.POST_BACKWARD, Stage.POST_OPTIM):
        trainer.register_hook(stage, note(trace, stage.value, stage), name=stage.value)
    trainer.train()
    one = ["critic", "post_loss", "post_backward", "critic step"]
    two = ["actor", "post_loss", "post_backward", "actor step"]
    assert trace == 2 * [*one, "post_optim", *one, *two, "post_optim"]


def test_phases_see_what_earlier_ones_wrote_and_their_losses_are_merged() -> None:
    seen: list[Any] = []
    first, second = Constant(), Constant()

    def write(batch: TensorDictBase) -> TensorDict:
        batch["priority"] = torch.ones(*batch.batch_size)
        return TensorDict({"loss_first": first(batch)["loss_fit"]})

    def read(batch: TensorDictBase) -> TensorDict:
        seen.append(batch["priority"].sum().item())
        return TensorDict({"loss_second": second(batch)["loss_fit"]})

    trainer = Trainer(
        collector=Rollouts(),
        phases=[
            Phase(write, SGD(first.parameters(), 0.1)),
            Phase(read, SGD(second.parameters(), 0.1)),
        ],
        total_frames=1,
    )
    trainer.register_hook(
        "post_optim", lambda trainer, batch, losses: seen.append(sorted(losses.keys()))
    )
    trainer.train()
    assert seen == [1.0, ["loss_first", "loss_second"]]


def test_gradients_exist_before_the_step_and_belong_to_one_update() -> None:
    loss = Constant()
    trainer = make_trainer(loss, total_frames=3, lr=0.25)
    seen: list[tuple[float, float]] = []

    def look(trainer: Trainer, batch: Any, losses: Any) -> None:
        assert loss.guess.grad is not None
        seen.append((loss.guess.item(), loss.guess.grad.item()))

    trainer.register_hook("post_backward", look)
    trainer.train()
    # d/dg (r - g)^2 = 2 (g - r) with rewards 0, 1, 2; a step of 0.25 goes half of the way.
    assert seen == [(0.0, 0.0), (0.0, -2.0), (0.5, -3.0)]
    assert loss.guess.item() == 1.25


# ---------------------------------------------------------------------- hooks


def test_hooks_run_in_order_and_the_last_argument_flows() -> None:
    trainer = make_trainer(total_frames=1)
    seen: list[Any] = []

    def double(trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        return TensorDict({"next": {"reward": torch.full((1, 1, 1), 2.0)}}, [1, 1])

    def look(trainer: Trainer, batch: TensorDictBase) -> None:
        seen.append(batch["next", "reward"].item())

    def look_again(trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        seen.append(losses["loss_fit"].item())

    trainer.register_hook("process_optim_batch", look, name="before")
    trainer.register_hook("process_optim_batch", double)
    trainer.register_hook("process_optim_batch", look, name="before")
    trainer.register_hook("post_loss", look_again)
    trainer.register_hook("post_steps", look, name="before")
    trainer.train()
    assert seen == [0.0, 2.0, 4.0, 0.0]


def test_replaced_losses_are_the_ones_differentiated() -> None:
    loss = Constant()
    trainer = make_trainer(loss, total_frames=1, lr=1.0)

    def weight(trainer: Trainer, batch: Any, losses: TensorDictBase) -> TensorDictBase:
        return TensorDict({"loss_other": 3.0 * loss.guess.sum()})

    trainer.register_hook("post_loss", weight)
    trainer.train()
    assert loss.guess.item() == -3.0


@pytest.mark.parametrize("locked", [False, True])
def test_losses_have_no_graph_after_the_backward_pass(locked: bool) -> None:
    loss, seen = Constant(), []
    trainer = make_trainer(loss, total_frames=1)

    def add(trainer: Trainer, batch: Any, losses: TensorDictBase) -> TensorDictBase:
        inner = TensorDict({"part": loss.guess * 2.0})
        return TensorDict({**losses, "inner": inner}).lock_() if locked else losses

    def look(trainer: Trainer, batch: Any, losses: TensorDictBase) -> None:
        seen.extend(losses.values(True, True))

    trainer.register_hook("post_loss", add)
    trainer.register_hook("post_backward", look)
    trainer.train()
    assert len(seen) > locked
    assert not any(value.requires_grad for value in seen)


@pytest.mark.parametrize(("stage", "returned"), [("post_collect", 1), ("checkpoint", True)])
def test_a_hook_that_returns_something_else_is_named(stage: str, returned: Any) -> None:
    trainer = make_trainer(total_frames=1)
    trainer.register_hook(stage, lambda trainer, *data: returned, name="culprit")
    with pytest.raises(TypeError, match=f"'culprit' at stage '{stage}' returned"):
        trainer.train()


def test_a_hook_without_data_may_not_return_any() -> None:
    trainer = make_trainer(total_frames=1)
    trainer.register_hook("setup", lambda trainer: TensorDict({}), name="culprit")
    with pytest.raises(TypeError, match="returned TensorDict; allowed: None"):
        trainer.train()


@pytest.mark.parametrize(
    ("interval", "frames", "expected"),
    [(4, 1, [4, 8, 12]), (5, 3, [6, 12, 15]), (2, 6, [6, 12, 18]), (0, 1, []), (100, 1, [])],
)
def test_every_is_true_when_the_clock_crosses_a_multiple(
    interval: int, frames: int, expected: list[int]
) -> None:
    trainer = make_trainer(collector=Rollouts(steps=frames), total_frames=13)
    fired: list[int] = []
    trainer.register_hook(
        "post_steps", lambda trainer, rollout: fired.append(trainer.clock), when=every(interval)
    )
    trainer.train()
    assert fired == expected


def test_a_negative_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        every(-1)


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'post_stpes'.*post_steps"):
        make_trainer().register_hook("post_stpes", lambda trainer: None)


@pytest.mark.parametrize(
    ("stage", "hook"),
    [
        ("post_steps", lambda trainer: None),
        ("post_optim", lambda trainer, batch: None),
        ("setup", lambda trainer, rollout: None),
        ("setup", Constant),
        ("setup", "not callable"),
    ],
)
def test_a_wrong_signature_is_refused_at_registration(stage: str, hook: Any) -> None:
    with pytest.raises(TypeError, match="hook"):
        make_trainer().register_hook(stage, hook)


class Counter:
    """A hook with a state, for two stages."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, trainer: Trainer, rollout: Any) -> None:
        self.count += 1

    def other(self, trainer: Trainer) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def test_another_object_under_the_same_name_is_refused() -> None:
    trainer = make_trainer()
    trainer.register_hook("post_steps", Counter())
    with pytest.raises(ValueError, match=r"'counter' is registered already.*pass name="):
        trainer.register_hook("post_steps", Counter())
    trainer.register_hook("post_steps", Counter(), name="second")
    assert sorted(trainer.state_dict()["hooks"]) == ["counter", "second"]


def test_an_owner_at_two_stages_is_saved_once() -> None:
    trainer, counter = make_trainer(total_frames=3), Counter()
    trainer.register_hook(Stage.POST_STEPS, counter)
    trainer.register_hook(Stage.SHUTDOWN, counter.other)
    trainer.train()
    assert trainer.state_dict()["hooks"] == {"counter": {"count": 4}}


def test_a_trainer_may_use_its_own_methods_as_hooks() -> None:
    class Mine(Trainer):
        def __init__(self) -> None:
            loss = Constant()
            super().__init__(
                collector=Rollouts(),
                loss_module=loss,
                optimizer=SGD(loss.parameters(), 0.1),
                total_frames=2,
            )
            self.calls = 0
            self.register_hook("post_steps", self.count)
            self.register_hook("shutdown", self.report)

        def count(self, trainer: Trainer, rollout: Any) -> None:
            self.calls += 1

        def report(self, trainer: Trainer) -> None:
            self.calls += 10

    trainer = Mine()
    trainer.train()
    assert trainer.calls == 12
    assert trainer.state_dict()["hooks"] == {}
    assert "count" in str(trainer)


def test_the_timetable_is_printed() -> None:
    trainer = make_trainer()
    trainer.register_hook("post_steps", Counter(), name="first")
    trainer.register_hook("post_steps", Counter(), name="second", when=every(5))
    lines = str(trainer).splitlines()
    assert lines[0] == "Trainer"
    assert [line.split()[0] for line in lines[1:]] == [stage.value for stage in Stage]
    assert "  post_steps           first, second (conditional)" in lines
    assert "  setup                -" in lines


# ----------------------------------------------------------- losses, optimizers


@pytest.mark.parametrize("optimizer", [None, [], ["adam"]])
def test_without_an_optimizer_there_is_no_trainer(optimizer: Any) -> None:
    with pytest.raises(TypeError, match="optimizer"):
        Trainer(collector=Rollouts(), loss_module=Constant(), optimizer=optimizer, total_frames=1)


def test_a_loss_has_to_be_callable() -> None:
    with pytest.raises(TypeError, match="callable"):
        Trainer(
            collector=Rollouts(),
            loss_module=None,
            optimizer=SGD(Constant().parameters(), 0.1),
            total_frames=1,
        )


def test_phases_exclude_a_loss() -> None:
    loss = Constant()
    optimizer = SGD(loss.parameters(), 0.1)
    with pytest.raises(TypeError, match="not both"):
        Trainer(
            collector=Rollouts(),
            loss_module=loss,
            phases=[Phase(loss, optimizer)],
            total_frames=1,
        )


@pytest.mark.parametrize(
    ("returned", "error", "match"),
    [
        ({"error": 1.0}, ValueError, r"no 'loss_\*' entry.*'error'"),
        ({"loss_fit": [1.0, 2.0]}, ValueError, r"loss_fit must be a scalar, got shape \[2\]"),
        (1.0, TypeError, "must return a TensorDict, got float"),
    ],
)
def test_a_loss_that_cannot_be_differentiated_is_refused(
    returned: Any, error: type[Exception], match: str
) -> None:
    guess = nn.Parameter(torch.zeros(1))

    def loss(batch: TensorDictBase) -> Any:
        if not isinstance(returned, dict):
            return returned
        return TensorDict({key: torch.tensor(v) * guess for key, v in returned.items()})

    trainer = Trainer(
        collector=Rollouts(), loss_module=loss, optimizer=SGD([guess], 0.1), total_frames=1
    )
    with pytest.raises(error, match=match):
        trainer.train()


@pytest.mark.parametrize(
    ("returned", "slope"),
    [({"loss": 3.0}, 3.0), ({"loss": 3.0, "error": 9.0}, 3.0), ({"loss": 3.0, "loss_a": 2.0}, 2.0)],
)
def test_a_loss_may_be_called_just_that(returned: dict[str, float], slope: float) -> None:
    """Beside parts it is their sum, and not counted a second time."""
    guess = nn.Parameter(torch.zeros(1))
    trainer = Trainer(
        collector=Rollouts(),
        loss_module=lambda batch: TensorDict({k: v * guess for k, v in returned.items()}),
        optimizer=SGD([guess], 0.1),
        total_frames=1,
    )
    trainer.train()
    assert guess.item() == pytest.approx(-0.1 * slope)


@pytest.mark.parametrize("key", ["reward", "done", "terminated"])
def test_a_missing_last_dimension_is_refused_before_it_broadcasts(key: str) -> None:
    class Squeezed(Rollouts):
        def rollout(self) -> TensorDict:
            data = super().rollout()
            data["next", key] = data["next", key].squeeze(-1)
            return data

    loss = Constant()
    trainer = make_trainer(loss, Squeezed(num_envs=3))
    with pytest.raises(ValueError, match=rf"'{key}'.*shape \[3, 1\].*must be \[3, 1, 1\]"):
        trainer.train()
    assert loss.guess.item() == 0.0


def test_a_plain_function_is_a_loss() -> None:
    guess = nn.Parameter(torch.zeros(1))

    def loss(batch: TensorDictBase) -> TensorDict:
        return TensorDict({"loss_fit": (batch["next", "reward"] - guess).square().mean()})

    trainer = Trainer(
        collector=Rollouts(), loss_module=loss, optimizer=SGD([guess], 0.5), total_frames=5
    )
    trainer.train()
    assert guess.item() == 4.0  # a step of 0.5 takes the guess to the reward, which is the frame


def test_all_terms_of_a_loss_are_differentiated_by_several_optimizers() -> None:
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def loss(batch: TensorDictBase) -> TensorDict:
        return TensorDict({"loss_a": one.sum(), "loss_b": 2 * two, "other": one.sum()})

    trainer = Trainer(
        collector=Rollouts(),
        loss_module=loss,
        optimizer=[SGD([one], 1.0), SGD([two], 10.0)],
        total_frames=1,
    )
    trainer.train()
    assert (one.item(), two.item()) == (-1.0, -20.0)


# ------------------------------------------------------------ clocks and updates


@pytest.mark.parametrize("ratio", [1.0, 2.0, 0.3, 1.7, 0.0625])
@pytest.mark.parametrize(("num_envs", "steps"), [(1, 1), (4, 1), (3, 7)])
@pytest.mark.parametrize("warm_up", [0, 10])
def test_the_update_count_is_the_formula(
    ratio: float, num_envs: int, steps: int, warm_up: int
) -> None:
    trainer = make_trainer(
        collector=Rollouts(num_envs, steps),
        total_frames=40,
        update_plan=UpdateRatio(ratio, warm_up),
        lr=1e-6,
    )
    counts: list[bool] = []

    def count(trainer: Trainer, rollout: Any) -> None:
        due = math.floor(ratio * max(0, trainer.frames - warm_up))
        counts.append(trainer.updates == due)

    trainer.register_hook("post_steps", count)
    trainer.train()
    assert all(counts)
    per_iteration = num_envs * steps
    assert trainer.frames == math.ceil(40 / per_iteration) * per_iteration
    assert len(counts) == trainer.frames // per_iteration


@pytest.mark.parametrize(("before", "after"), [((1.0, 2), (2.0, 2)), ((2.0, 0), (0.5, 15))])
def test_other_numbers_count_from_the_resume_on(
    before: tuple[float, int], after: tuple[float, int]
) -> None:
    def make(numbers: tuple[float, int]) -> Trainer:
        return make_trainer(total_frames=20, update_plan=UpdateRatio(*numbers), lr=1e-6)

    first = make(before)
    first.stop_at = 10
    first.train()
    changed = make(after)
    changed.load_state_dict(first.state_dict())
    changed.stop_at = 16
    changed.train()
    ratio, warm_up = after
    assert changed.updates == first.updates + math.floor(ratio * (16 - max(10, warm_up)))
    unchanged = make(after)
    unchanged.load_state_dict(changed.state_dict())
    unchanged.train()
    assert unchanged.updates == first.updates + math.floor(ratio * (20 - max(10, warm_up)))


def test_a_run_ends_at_the_first_boundary_and_never_shortens_a_rollout() -> None:
    trainer = make_trainer(collector=Rollouts(steps=4), total_frames=10)
    progress: list[float] = []
    trainer.register_hook("post_steps", lambda t, rollout: progress.append(t.progress))
    trainer.train()
    assert trainer.frames == 12
    assert progress == [0.0, 0.4, 0.8]  # as it was when the rollout was collected


def test_stop_at_ends_early_and_leaves_the_horizon() -> None:
    trainer = make_trainer(total_frames=10)
    trainer.stop_at = 5
    trainer.train()
    assert (trainer.frames, trainer.progress, trainer.finished) == (5, 0.4, True)


def test_no_frames_is_no_run() -> None:
    with pytest.raises(ValueError, match="total_frames"):
        make_trainer(total_frames=0)


def test_stop_waits_for_the_end_of_an_iteration_on_policy() -> None:
    trainer, trace = traced(update_plan=Epochs(num_epochs=2, minibatches=2))
    trainer.register_hook("post_optim", lambda trainer, batch, losses: trainer.stop("enough"))
    trainer.train()
    assert (trainer.frames, trainer.updates, trainer.stop_reason) == (1, 4, "enough")
    assert trace[-3:] == ["post_steps", "checkpoint", "shutdown"]


def test_stop_waits_for_the_end_of_an_update_off_policy() -> None:
    trainer, trace = traced(update_plan=UpdateRatio(4.0))
    trainer.register_hook("post_optim", lambda trainer, batch, losses: trainer.stop("enough"))
    trainer.train()
    assert (trainer.frames, trainer.updates, trainer.finished) == (1, 1, False)
    assert trace == ["setup", "post_collect", "pre_epoch", *UPDATE, "checkpoint", "shutdown"]


def test_a_stop_that_comes_too_late_for_a_checkpoint_has_another() -> None:
    trainer = make_trainer(total_frames=9)
    saved: list[int] = []
    trainer.register_hook(
        "checkpoint", lambda t: saved.append(t.frames), name="save", when=lambda t: t.ending
    )

    def signal(trainer: Trainer) -> None:
        if trainer.frames == 3:
            trainer.stop("SIGTERM", interrupted=True)

    trainer.register_hook("checkpoint", signal)
    trainer.train()
    assert saved == [3]
    trainer.train()  # it stays stopped, and is saved again
    assert saved == [3, 3]


def test_stop_epochs_ends_the_epochs_of_this_iteration_only() -> None:
    trainer = make_trainer(total_frames=2, update_plan=Epochs(num_epochs=3, minibatches=2))
    counts: list[int] = []

    def stop(trainer: Trainer, batch: Any, losses: Any) -> None:
        if trainer.updates == 3:
            trainer.stop_epochs()

    trainer.register_hook("post_optim", stop)
    trainer.register_hook("post_steps", lambda trainer, rollout: counts.append(trainer.updates))
    trainer.train()
    assert counts == [3, 9]


def test_a_collector_that_ends_ends_the_run() -> None:
    trainer, trace = traced(total_frames=10, collector=Rollouts(end=3))
    trainer.train()
    assert trainer.frames == 3
    assert trainer.stop_reason == "the collector ended after 3 frames"
    assert trace[-2:] == ["checkpoint", "shutdown"]


# ------------------------------------------------------------------- schedules


def test_learning_rates_follow_the_clock_in_every_group() -> None:
    loss, other = Constant(), nn.Parameter(torch.zeros(1))
    optimizer = Adam([{"params": loss.parameters(), "lr": 1.0}, {"params": [other], "lr": 0.1}])
    trainer = Trainer(
        collector=Rollouts(),
        loss_module=loss,
        optimizer=optimizer,
        total_frames=4,
        update_plan=UpdateRatio(2.0, init_random_frames=1),
    )
    rates: list[list[float]] = []
    trainer.register_hook("process_optim_batch", AnnealLR(optimizer))
    trainer.register_hook(
        "post_optim",
        lambda trainer, batch, losses: rates.append([g["lr"] for g in optimizer.param_groups]),
    )
    trainer.train()
    assert rates == [
        pytest.approx(pair)
        for pair in [[0.75, 0.075]] * 2 + [[0.5, 0.05]] * 2 + [[0.25, 0.025]] * 2
    ]


def test_a_scheduler_of_torch_steps_once_an_update() -> None:
    loss, other = Constant(), nn.Parameter(torch.zeros(1))
    optimizer = SGD([{"params": loss.parameters(), "lr": 1.0}, {"params": [other], "lr": 0.1}])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    trainer = Trainer(
        collector=Rollouts(),
        loss_module=loss,
        optimizer=optimizer,
        total_frames=1,
        update_plan=Epochs(minibatches=5),
    )
    rates: list[list[float]] = []
    trainer.register_hook(
        "process_optim_batch",
        lambda trainer, batch: rates.append([g["lr"] for g in optimizer.param_groups]),
    )
    trainer.register_hook("post_optim", StepLRScheduler(scheduler))
    trainer.train()
    assert rates == [[1.0, 0.1], [1.0, 0.1], [0.5, 0.05], [0.5, 0.05], [0.25, 0.025]]


# ---------------------------------------------------------------- bad numbers


class Breaking(Constant):
    """A loss that breaks in its third call; its gradient only, or altogether."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.target_guess = nn.Buffer(torch.zeros(1))
        self.how = how
        self.calls = 0

    def forward(self, batch: TensorDictBase) -> TensorDict:
        losses = super().forward(batch)
        self.calls += 1
        if self.calls == 3 and self.how == "gradient":
            # The square root is 0, its slope at 0 infinite.
            losses["loss_fit"] = losses["loss_fit"] + (0 * self.guess).sum().sqrt()
        elif self.calls == 3:
            losses["loss_fit"] = losses["loss_fit"] * float(self.how)
            losses["td_error"] = torch.full((4,), float("nan"))
        return losses


@pytest.mark.parametrize(
    ("how", "source"),
    [
        ("nan", "loss_fit is nan"),
        ("inf", "loss_fit is inf"),
        ("gradient", "the gradient of guess is not finite"),
    ],
)
def test_nothing_moves_after_a_number_that_is_not_finite(how: str, source: str) -> None:
    loss = Breaking(how)
    optimizer = Adam(loss.parameters(), lr=0.1)
    trainer = Trainer(
        collector=Rollouts(steps=2),
        loss_module=loss,
        optimizer=optimizer,
        total_frames=20,
        update_plan=UpdateRatio(0.5),
    )

    def follow(trainer: Trainer, batch: Any, losses: Any) -> None:
        loss.target_guess.copy_(loss.guess.detach())

    trainer.register_hook("post_optim", follow)
    guesses: list[float] = []
    trainer.register_hook("post_steps", lambda t, rollout: guesses.append(loss.guess.item()))
    with pytest.raises(NonFiniteError, match=rf"{source}.* at update 3, frame 6"):
        trainer.train()
    assert loss.guess.item() == loss.target_guess.item() == guesses[-1]
    assert len(guesses) == trainer.updates == 2
    assert all(step["step"] == 2 for step in optimizer.state.values())


def test_a_gradient_without_a_module_is_still_refused() -> None:
    guess = nn.Parameter(torch.zeros(1))
    trainer = Trainer(
        collector=Rollouts(),
        loss_module=lambda batch: TensorDict({"loss_root": guess.sum().sqrt()}),
        optimizer=SGD([guess], 0.1),
        total_frames=1,
    )
    with pytest.raises(NonFiniteError, match="gradient is not finite at update 1, frame 1"):
        trainer.train()
    assert guess.item() == 0.0


@pytest.mark.parametrize("make", [FlatAdam, Adam])
def test_a_gradient_that_a_hook_has_put_there_is_refused(make: Any) -> None:
    loss = Constant()
    optimizer = make([{"params": [loss.guess], "lr": 0.1}])
    trainer = Trainer(collector=Rollouts(), loss_module=loss, optimizer=optimizer, total_frames=1)

    def spoil(trainer: Trainer, batch: Any, losses: Any) -> None:
        loss.guess.grad = torch.full_like(loss.guess, torch.nan)

    trainer.register_hook("post_backward", spoil)
    with pytest.raises(NonFiniteError, match="the gradient of guess is not finite at update 1"):
        trainer.train()
    assert loss.guess.item() == 0.0


# -------------------------------------------------------------------- shutdown


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_shutdown_runs_after_an_error(error: BaseException) -> None:
    trainer, trace = traced()
    collector = trainer.collector

    def fail(trainer: Trainer, rollout: Any) -> None:
        raise error

    trainer.register_hook("post_collect", fail)
    with pytest.raises(type(error)) as caught:
        trainer.train()
    assert caught.value is error
    assert trace == ["setup", "post_collect", "shutdown"]
    assert collector.closed
    assert trainer.interrupted


def test_a_second_signal_closes_the_collector_and_asks_no_hook() -> None:
    trainer, trace = traced()
    collector = trainer.collector

    def end(trainer: Trainer, rollout: Any) -> None:
        raise AtOnce("SIGTERM again")

    trainer.register_hook("post_collect", end)
    with pytest.raises(AtOnce):
        trainer.train()
    assert trace == ["setup", "post_collect"]
    assert collector.closed


def test_a_second_signal_to_the_hooks_of_the_end_closes_the_collector() -> None:
    trainer = make_trainer(total_frames=1)

    def wait(trainer: Trainer) -> None:
        raise AtOnce("SIGTERM again")

    trainer.register_hook("shutdown", wait)
    with pytest.raises(AtOnce):
        trainer.train()
    assert trainer.collector.closed


def test_every_shutdown_hook_runs_and_the_first_error_wins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = make_trainer(total_frames=1)
    done: list[str] = []

    def fail(trainer: Trainer) -> None:
        raise RuntimeError(f"failure {len(done)}")

    trainer.register_hook("shutdown", fail)
    trainer.register_hook("shutdown", lambda trainer: done.append("closed"), name="second")
    trainer.register_hook("shutdown", fail)
    with pytest.raises(RuntimeError, match="failure 0"):
        trainer.train()
    assert done == ["closed"]
    assert trainer.collector.closed
    assert "'fail' failed at shutdown" in caplog.text


def test_a_collector_that_fails_to_close_does_not_hide_the_error() -> None:
    class Stuck(Rollouts):
        def shutdown(self) -> None:
            raise OSError("a worker is gone")

    trainer = make_trainer(collector=Stuck(), total_frames=1)

    def fail(trainer: Trainer, rollout: Any) -> None:
        raise RuntimeError("the cause")

    trainer.register_hook("post_collect", fail)
    with pytest.raises(RuntimeError, match="the cause"):
        trainer.train()


# ----------------------------------------------------------------- side by side


def test_two_trainers_live_side_by_side() -> None:
    def make(seed: int) -> Trainer:
        generator = torch.Generator().manual_seed(seed)
        trainer = make_trainer(total_frames=20, update_plan=UpdateRatio(1.5, 3))

        def noise(trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
            noisy = batch.clone()
            noisy["next", "reward"] += torch.randn(1, 1, 1, generator=generator)
            return noisy

        trainer.register_hook("process_optim_batch", noise)
        trainer.register_hook("post_steps", Counter())
        return trainer

    alone = [make(0), make(1)]
    for trainer in alone:
        trainer.train()

    outer, inner = make(0), make(1)

    def run_the_other(trainer: Trainer, rollout: Any) -> None:
        if trainer.frames == 7:
            inner.train()

    outer.register_hook("post_steps", run_the_other)
    outer.train()
    for left, right in zip(alone, (outer, inner), strict=True):
        assert_same(left.state_dict(), right.state_dict(), ("/random", "/stopwatch"))


# ---------------------------------------------------------------------- states


class Noisy(Constant):
    """A loss that draws random numbers, so that a resume has to restore their state."""

    def forward(self, batch: TensorDictBase) -> TensorDict:
        losses = super().forward(batch)
        losses["loss_fit"] = losses["loss_fit"] + self.guess.sum() * torch.randn(())
        return losses


def _noisy(plan: Any) -> Trainer:
    torch.manual_seed(3)
    loss = Noisy()
    trainer = Trainer(
        collector=Rollouts(num_envs=2, steps=3),
        loss_module=loss,
        optimizer=Adam(loss.parameters(), lr=0.1),
        total_frames=36,
        update_plan=plan,
    )
    trainer.register_hook("post_steps", Counter())
    trainer.register_hook(
        "post_optim",
        lambda trainer, batch, losses: trainer.metrics.add_scalars(dict(losses.items())),
        name="losses",
    )
    return trainer


@pytest.mark.parametrize(
    "plan", [UpdateRatio(0.7, 4), Epochs(num_epochs=2, minibatches=3)], ids=["off", "on"]
)
@pytest.mark.parametrize("stop_after", [1, 5, 12])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    plan: Any, stop_after: int, tmp_path: Path
) -> None:
    straight = _noisy(plan)
    straight.train()

    stopped = _noisy(plan)

    def stop(trainer: Trainer, batch: Any, losses: Any) -> None:
        if trainer.updates == stop_after:
            trainer.stop("test")

    stopped.register_hook("post_optim", stop)
    stopped.register_hook("checkpoint", lambda t: t.save(tmp_path / "c") if t.ending else None)
    stopped.train()
    assert not stopped.finished

    torch.manual_seed(99)
    resumed = _noisy(plan)
    resumed.load(tmp_path / "c")
    assert resumed.updates == stopped.updates
    resumed.train()
    assert resumed.finished
    assert_same(straight.state_dict(), resumed.state_dict(), ("/stopwatch",))


def test_a_run_stopped_between_two_updates_pays_the_rest_first(tmp_path: Path) -> None:
    plan = UpdateRatio(3.0)
    first, _ = traced(update_plan=plan)
    first.register_hook("post_optim", lambda t, batch, losses: t.stop("now"), name="stop")
    first.train()
    first.save(tmp_path / "c")
    second, trace = traced(total_frames=2, update_plan=plan)
    second.load(tmp_path / "c")
    second.train()
    assert trace == [
        *("setup", *UPDATE, *UPDATE, "post_steps", "checkpoint"),
        *("post_collect", "pre_epoch", *3 * UPDATE, "post_steps", "checkpoint", "shutdown"),
    ]


def test_an_ended_run_can_be_saved_though_its_collector_is_closed() -> None:
    class Strict(Rollouts):
        def state_dict(self) -> dict[str, int]:
            assert not self.closed
            return super().state_dict()

    trainer = make_trainer(collector=Strict(), total_frames=3)
    trainer.train()
    assert trainer.state_dict()["collector"] == {"rollouts": 3}


def test_a_collector_without_a_state_can_be_used() -> None:
    source = Rollouts()
    trainer = make_trainer(collector=(source.rollout() for _ in range(5)), total_frames=5)
    trainer.train()
    assert trainer.state_dict()["collector"] == {}
    make_trainer(collector=iter(())).load_state_dict(trainer.state_dict())


def test_hooks_that_came_or_went_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # a run of another test may have asked for more
    before, after = make_trainer(total_frames=3), make_trainer(total_frames=3)
    for trainer, name in ((before, "gone"), (after, "new")):
        trainer.register_hook("post_steps", Counter(), name="kept")
        trainer.register_hook("post_steps", Counter(), name=name)
    before.train()
    after.load_state_dict(before.state_dict())
    assert after.state_dict()["hooks"] == {"kept": {"count": 3}, "new": {"count": 0}}
    assert "hook gone: dropped, this run has none" in caplog.text
    assert "hook new: fresh, the checkpoint knows none" in caplog.text
    assert "hook kept" not in caplog.text


# ------------------------------------------------------------------- resumes that fail


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    """Whatever part of it fails, and however late."""
    source, target = make_trainer(total_frames=9), make_trainer(total_frames=9)
    for trainer in (source, target):
        trainer.register_hook("post_steps", Counter(), name="counter")
    source.train()
    target.stop_at = 4
    target.train()
    before = copy.deepcopy(target.state_dict())

    def broken(part: str) -> dict[str, Any]:
        state = source.state_dict()
        if part == "random":
            return state | {"random": {}}
        if part == "hooks":
            return state | {"hooks": {"counter": {"cuont": 1}}}
        loss = {f"not_{key}": value for key, value in state["phases"][0]["loss"].items()}
        return state | {"phases": [state["phases"][0] | {"loss": loss}]}

    for part in ("random", "hooks", "phases"):
        with pytest.raises((KeyError, RuntimeError)):
            target.load_state_dict(broken(part))
        assert_same(before, target.state_dict(), ignoring=("stopwatch", "seconds"))
    target.load_state_dict(source.state_dict())
    assert target.frames == 9


def test_a_parameter_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    trainer = make_trainer(total_frames=3)
    with torch.no_grad():
        next(trainer.phases[0].parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="networks: phases/0/loss/guess is nan"):
        trainer.save(tmp_path / "c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["observation", ("next", "observation"), ("next", "reward")])
def test_what_another_collector_brings_is_looked_at(key: Any) -> None:
    source = Rollouts()
    first, second = source.rollout(), source.rollout()
    second[key].fill_(torch.inf)
    trainer = make_trainer(collector=iter([first, second]), total_frames=5)
    stored: list[TensorDictBase] = []
    trainer.register_hook("post_collect", lambda _, rollout: stored.append(rollout), name="store")
    with pytest.raises(NonFiniteError, match="is not finite after frame 1") as caught:
        trainer.train()
    assert len(stored) == 1
    assert "rollout" in caught.value.evidence


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"exp_avg": torch.ones(2)}, "exp_avg of parameter 0 has shape"),
        ({"exp_avg_sq": torch.ones(9, 9)}, "exp_avg_sq of parameter 0 has shape"),
    ],
)
def test_moments_of_another_shape_are_refused(change: dict[str, Any], told: str) -> None:
    """Fused steps would write past their ends."""
    loss = Constant()
    phase = Phase(loss, Adam(loss.parameters(), fused=True))
    phase.backward(loss(Rollouts().rollout()))
    phase.step()
    state = copy.deepcopy(phase.state_dict())
    state["optimizers"][0]["state"][0] |= change
    with pytest.raises(ValueError, match=told):
        phase.load_state_dict(state)


@pytest.mark.parametrize("value", [-1, 2.5, "many", None])
def test_a_clock_that_makes_no_sense_is_refused(value: Any) -> None:
    trainer = make_trainer()
    state = trainer.state_dict()
    state["clock"]["updates"] = value
    with pytest.raises(ValueError, match="the clock's updates is"):
        trainer.load_state_dict(state)
