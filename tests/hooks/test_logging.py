"""What is measured, and when a line of it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.doubles import Constant, Lines, StubTrainer, make_trainer, stub
from tensordict import TensorDict
from torch import nn
from torch.optim import SGD

from trainers.hooks import (
    LogEpisodes,
    LogLearningRates,
    LogLosses,
    LogScalar,
    LogTimings,
    LogUpdateRatio,
    WriteMetrics,
    norm,
)
from trainers.loggers import JsonlLogger
from trainers.metrics import STATISTICS
from trainers.phases import Phase
from trainers.updates import Epochs, UpdateRatio

# ------------------------------------------------------------------- LogScalar


def test_statistics_of_an_entry_over_several_rollouts() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(3, 2, 5, 1))
    trainer, hook = stub(), LogScalar(("next", "reward"), "train/reward", STATISTICS)
    for chunk in rewards:
        hook(trainer, TensorDict({"next": {"reward": torch.from_numpy(chunk)}}, [2, 5]))
    assert trainer.metrics.flush() == pytest.approx(
        {
            "train/reward": rewards.mean(),
            "train/reward_min": rewards.min(),
            "train/reward_max": rewards.max(),
            "train/reward_std": rewards.std(),
        }
    )


def test_the_last_data_of_a_stage_is_looked_at_first() -> None:
    trainer = stub()
    batch = TensorDict({"alpha": torch.tensor(1.0), "index": torch.tensor([3, 5])})
    losses = TensorDict({"alpha": torch.tensor(2.0)})
    LogScalar("alpha")(trainer, batch, losses)
    LogScalar("index")(trainer, batch, losses)
    assert trainer.metrics.flush() == {"train/alpha": 2.0, "train/index": 4.0}


def test_an_entry_may_be_turned_into_another_number() -> None:
    trainer = stub()
    actions = TensorDict({"action": torch.tensor([[3.0, 4.0], [0.0, 1.0]])}, [2])
    LogScalar("action", "train/action_norm", of=norm)(trainer, actions)
    assert trainer.metrics.flush() == {"train/action_norm": 3.0}


def test_a_missing_entry_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"'nosuch'.*'action'"):
        LogScalar("nosuch")(stub(), TensorDict({"action": torch.ones(1)}))


def test_an_unknown_statistic_is_refused() -> None:
    with pytest.raises(ValueError, match=r"median.*mean"):
        LogScalar("action", statistics=("median",))


def test_two_entries_are_logged_side_by_side() -> None:
    trainer = make_trainer(total_frames=1)
    trainer.register_hook("post_collect", LogScalar("observation"))
    trainer.register_hook("post_collect", LogScalar(("next", "reward")))
    trainer.train()
    assert trainer.metrics.flush() == {"train/observation": 0.0, "train/next_reward": 0.0}


# ------------------------------------------------------------------- LogLosses


def test_a_logged_loss_is_the_mean_over_all_updates_since_the_last_line() -> None:
    loss = Constant()
    trainer, lines = make_trainer(loss, total_frames=6, update_plan=UpdateRatio(2.5, 1)), Lines()
    expected: list[dict[str, float]] = []
    losses_seen: list[tuple[float, float]] = []

    def by_hand(trainer: Any, batch: Any, losses: TensorDict) -> None:
        losses_seen.append((losses["loss_fit"].item(), losses["guess"].item()))

    def average(trainer: Any, rollout: Any) -> None:
        if trainer.frames % 3 == 0:
            fit, guess = np.mean(losses_seen, 0)
            expected.append({"loss/fit": fit, "train/guess": guess, "updates": trainer.updates})
            losses_seen.clear()

    trainer.register_hook("post_optim", by_hand)
    trainer.register_hook("post_steps", average)
    trainer.register_hook("post_optim", LogLosses())
    trainer.register_hook("post_steps", WriteMetrics([lines], interval=3))
    trainer.train()
    assert [line["updates"] for line in lines.lines] == [5, 12]
    for line, mean in zip(lines.lines, expected, strict=True):
        assert {key: line[key] for key in mean} == pytest.approx(mean)


def test_losses_of_a_delayed_phase_are_averaged_over_its_own_updates() -> None:
    first, second = Constant(), Constant()
    values = iter(range(10))

    def delayed(batch: Any) -> TensorDict:
        second(batch)
        return TensorDict({"loss_delayed": 0 * second.guess.sum() + float(next(values))})

    trainer = make_trainer(first, total_frames=1, update_plan=Epochs(minibatches=6))
    trainer.phases = [
        Phase(first, SGD(first.parameters(), 0.1)),
        Phase(delayed, SGD(second.parameters(), 0.1), every=2),
    ]
    trainer.register_hook("post_optim", LogLosses())
    trainer.train()
    assert trainer.metrics.flush()["loss/delayed"] == 1.0  # of 0, 1, 2


def test_only_scalars_of_a_loss_are_logged() -> None:
    trainer = stub()
    losses = TensorDict({"loss_q": torch.ones(()), "td_error": torch.ones(4), "kl": torch.ones(1)})
    LogLosses()(trainer, TensorDict(), losses)
    assert trainer.metrics.flush() == {"loss/q": 1.0, "train/kl": 1.0}


# ----------------------------------------------------------------- LogEpisodes


@pytest.mark.parametrize("steps", [1, 4, 7, 28])
@pytest.mark.parametrize("saved", [False, True])
def test_episodes_are_summed_over_rollouts(steps: int, saved: bool) -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(3, 28))
    dones = rng.random((3, 28)) < 0.2
    returns = []
    lengths = []
    for env in range(3):
        ends = np.flatnonzero(dones[env]) + 1
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            returns.append(rewards[env, begin:end].sum())
            lengths.append(end - begin)
    assert len(returns) > 6

    trainer, hook = stub(), LogEpisodes()
    for begin in range(0, 28, steps):
        if saved:
            state, hook = hook.state_dict(), LogEpisodes()
            hook.load_state_dict(state)
        part = slice(begin, begin + steps)
        following = {
            "reward": torch.from_numpy(rewards[:, part]).unsqueeze(-1),
            "done": torch.from_numpy(dones[:, part]).unsqueeze(-1),
        }
        hook(trainer, TensorDict({"next": following}, [3, steps]))
    assert trainer.metrics.flush() == pytest.approx(
        {"train/episode_return": np.mean(returns), "train/episode_length": np.mean(lengths)}
    )


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_the_share_of_finished_episodes_that_succeeded(steps: int) -> None:
    done = torch.tensor([[0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]]).bool().unsqueeze(-1)
    success = torch.tensor([[1, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]).bool().unsqueeze(-1)
    following = TensorDict({"reward": torch.ones(2, 6, 1), "done": done}, [2, 6])
    trainer, hook = stub(), LogEpisodes()
    for part in following.set("success", success).split(steps, 1):
        hook(trainer, TensorDict({"next": part}, [2, steps]))
    assert trainer.metrics.flush()["train/success_rate"] == 0.5
    hook(trainer, TensorDict({"next": following.exclude("success")}, [2, 6]))
    assert "train/success_rate" not in trainer.metrics.flush()


def test_episodes_that_the_collector_cuts_short_are_left_out() -> None:
    done = torch.tensor([[0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]]).bool().unsqueeze(-1)
    following = TensorDict({"reward": torch.ones(2, 6, 1), "done": done}, [2, 6])
    trainer, hook = stub(), LogEpisodes()
    trainer.collector.cuts_first = np.array([True, False])
    for trainer.frames, part in zip((2, 4, 6, 8, 10, 12), following.split(1, 1), strict=True):
        hook(trainer, TensorDict({"next": part}, [2, 1]))
        state, hook = hook.state_dict(), LogEpisodes()
        hook.load_state_dict(state)
    # Two steps of the first environment, cut; then four, and six of the other.
    assert trainer.metrics.flush() == {"train/episode_return": 5.0, "train/episode_length": 5.0}


def test_a_saved_sum_is_not_the_running_one() -> None:
    trainer, hook = stub(), LogEpisodes()
    rollout = TensorDict(
        {"next": {"reward": torch.ones(1, 1), "done": torch.zeros(1, 1, dtype=torch.bool)}}, [1]
    )
    hook(trainer, rollout)
    state = hook.state_dict()
    other = LogEpisodes()
    other.load_state_dict(state)
    other(trainer, rollout)
    assert other.state_dict()["returns"].tolist() == [2.0]
    assert hook.state_dict()["returns"].tolist() == [1.0]
    assert state["returns"].tolist() == [1.0]


def test_saved_sums_are_dropped_if_the_collector_starts_episodes_anew() -> None:
    trainer, hook = stub(), LogEpisodes()
    trainer.collector.restored = ("fresh", "")
    rollout = TensorDict(
        {"next": {"reward": torch.ones(1, 1), "done": torch.zeros(1, 1, dtype=torch.bool)}}, [1]
    )
    hook(trainer, rollout)
    hook.load_state_dict(hook.state_dict())
    hook(trainer, rollout)
    hook(trainer, rollout)
    assert hook.state_dict()["returns"].tolist() == [2.0]


def test_rollouts_without_environments_are_one_environment() -> None:
    trainer, hook = stub(), LogEpisodes()
    done = torch.tensor([[False], [True], [False]])
    hook(trainer, TensorDict({"next": {"reward": torch.ones(3, 1), "done": done}}, [3]))
    hook(trainer, TensorDict({"next": {"reward": torch.ones(3, 1), "done": done}}, [3]))
    assert trainer.metrics.flush() == {"train/episode_return": 2.5, "train/episode_length": 2.5}


# ------------------------------------------------------------------ the others


def test_the_learning_rate_of_every_group() -> None:
    one, two, three = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    named = [{"params": [one], "lr": 0.1, "name": "actor"}, {"params": [two], "lr": 0.2}]
    trainer = stub()
    trainer.phases = [Phase(Constant(), [SGD(named)]), Phase(Constant(), SGD([three], 0.3))]
    LogLearningRates()(trainer, TensorDict())
    assert trainer.metrics.flush() == {
        "train/lr/actor": 0.1,
        "train/lr/1": 0.2,
        "train/lr/2": 0.3,
    }


def test_the_achieved_update_ratio() -> None:
    trainer, hook = stub(frames=10), LogUpdateRatio(init_random_frames=10)
    hook(trainer, TensorDict())
    assert trainer.metrics.flush() == {}
    trainer.advance(frames=20, updates=30)
    hook(trainer, TensorDict())
    assert trainer.metrics.flush() == {"train/update_ratio": 1.5}


# ---------------------------------------------------------------- WriteMetrics


class Clock(StubTrainer):
    """A stub whose stopwatch is set by hand."""

    def advance(self, frames: int = 1, updates: int = 0, seconds: float = 1.0) -> None:
        super().advance(frames, updates)
        state = self.stopwatch.state_dict()
        state["seconds"] += seconds
        self.stopwatch.load_state_dict(state)


def clock(**given: int) -> Any:
    """A `Clock`, typed as anything."""
    return Clock(**given)


def test_a_line_is_written_whenever_the_clock_crosses_a_multiple() -> None:
    trainer, lines = clock(), Lines()
    write = WriteMetrics([lines], interval=10)
    for _ in range(9):
        trainer.advance(frames=4, updates=2, seconds=2.0)
        trainer.metrics.add("x", float(trainer.frames))
        write(trainer, TensorDict())
    rates = {"time/frames_per_s": 2.0, "time/updates_per_s": 1.0}
    assert lines.lines == [
        {"frames": 12, "updates": 6, "seconds": 6.0, "x": 8.0, **rates},
        {"frames": 20, "updates": 10, "seconds": 10.0, "x": 18.0, **rates},
        {"frames": 32, "updates": 16, "seconds": 16.0, "x": 28.0, **rates},
    ]
    assert write.last_line == lines.lines[-1]


def test_rates_leave_out_what_was_paused() -> None:
    trainer, lines = clock(), Lines()
    write = WriteMetrics([lines], interval=10)
    trainer.advance(frames=10, updates=0, seconds=5.0)
    write(trainer, TensorDict())
    trainer.stopwatch.load_state_dict({"seconds": 105.0, "paused_seconds": 98.0})
    trainer.iteration_start, trainer.frames, trainer.updates = 10, 20, 8
    write(trainer, TensorDict())
    assert lines.lines[1] == {
        "frames": 20,
        "updates": 8,
        "seconds": 105.0,
        "time/frames_per_s": 5.0,
        "time/updates_per_s": 4.0,
    }


def test_a_line_is_due_when_another_hook_says_so() -> None:
    trainer, lines = clock(), Lines()
    write = WriteMetrics([lines], interval=100)
    for frames in range(1, 5):
        trainer.advance()
        if frames == 3:
            trainer.metrics.set("eval/episode_return", 1.0)
            trainer.metrics.line_due = True
        write(trainer, TensorDict())
    assert [line["frames"] for line in lines.lines] == [3]
    assert lines.lines[0]["eval/episode_return"] == 1.0


def test_without_an_interval_only_what_is_due_is_written() -> None:
    trainer, lines = clock(), Lines()
    write = WriteMetrics([lines], interval=0)
    for _ in range(5):
        trainer.advance(frames=100)
        write(trainer, TensorDict())
    assert lines.lines == []


@pytest.mark.parametrize(
    ("more_frames", "due", "interrupted", "expected"),
    [
        (1, False, False, [10, 11]),
        (0, True, False, [10, 10]),
        (0, False, False, [10]),
        (1, True, True, [10]),
    ],
)
def test_the_end_writes_what_is_left_unless_the_run_goes_on(
    more_frames: int, due: bool, interrupted: bool, expected: list[int]
) -> None:
    trainer, lines = clock(), Lines()
    write = WriteMetrics([lines, lines], interval=10)
    trainer.advance(frames=10)
    write(trainer, TensorDict())
    if more_frames:
        trainer.advance(frames=more_frames)
    trainer.metrics.line_due = due
    trainer.interrupted = interrupted
    write.finish(trainer)
    assert [line["frames"] for line in lines.lines[::2]] == expected
    assert lines.closed == 2


def test_an_open_line_survives_a_resume() -> None:
    class Journal(Lines):
        started, stored = False, None

        def start(self) -> None:
            self.started = True

        def state_dict(self) -> dict[str, int]:
            return {"bytes": 7}

        def load_state_dict(self, state: Any) -> None:
            self.stored = state

    def opened(logger: Lines) -> tuple[Any, WriteMetrics]:
        trainer, write = clock(), WriteMetrics([logger, Lines()], interval=10)
        trainer.advance(frames=10, seconds=10.0)
        write(trainer, TensorDict())
        trainer.advance(frames=6, updates=3, seconds=2.0)
        write(trainer, TensorDict())
        return trainer, write

    straight, resumed = Journal(), Journal()
    trainer, write = opened(straight)
    other = WriteMetrics([resumed, Lines()], interval=10)
    other.load_state_dict(write.state_dict())
    assert (resumed.stored, resumed.started) == ({"bytes": 7}, False)
    other.start(trainer)
    assert resumed.started
    trainer.advance(frames=6, updates=3, seconds=2.0)
    write(trainer, TensorDict())
    other(trainer, TensorDict())
    assert resumed.lines == straight.lines[-1:]
    assert resumed.lines[0]["time/frames_per_s"] == 3.0


def test_a_log_that_has_lost_lines_is_told(tmp_path: Path) -> None:
    before, after = (
        WriteMetrics([JsonlLogger(tmp_path / name), Lines()], interval=10) for name in "ab"
    )
    trainer = clock()
    trainer.advance(frames=10, seconds=1.0)
    before(trainer, TensorDict())
    state = before.state_dict()
    before.load_state_dict(state)
    assert before.restored == ("exact", "")
    after.load_state_dict(state)
    how, why = after.restored
    assert how == "statistical"
    assert why.startswith(f"some lines of {tmp_path / 'b'} are lost, 0 of ")


# ------------------------------------------------------------------ parts, timings


def test_parts_of_a_loss_are_logged_beside_it() -> None:
    trainer = stub()
    names = ("loss_qvalue", "qvalue_0", "qvalue_1", "other_0", "qvalue_max")
    losses = TensorDict({name: torch.tensor(float(i)) for i, name in enumerate(names)})
    LogLosses()(trainer, TensorDict(), losses)
    assert trainer.metrics.flush() == {
        "loss/qvalue": 0.0,
        "loss/qvalue_0": 1.0,
        "loss/qvalue_1": 2.0,
        "train/other_0": 3.0,
        "train/qvalue_max": 4.0,
    }


def test_seconds_of_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations; what happens between ``updated`` and ``start`` counts for neither part."""
    clock = iter([10.0, 11.0, 15.0, 100.0, 103.0, 105.0])
    monkeypatch.setattr("trainers.hooks.logging.time.perf_counter", lambda: next(clock))
    trainer, timings = stub(), LogTimings()
    for _ in range(2):
        timings.start(trainer)
        timings.collected(trainer, TensorDict())
        timings.updated(trainer, TensorDict())
    assert trainer.metrics.flush() == {"time/collect_s": 2.0, "time/update_s": 3.0}
