"""Batches that look further than one step: n-step returns, slices of episodes."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase

from trainers.hooks.replay import Replay
from trainers.tensordicts import tensordict_of
from trainers.trainer import Trainer


class NStepReturns:
    """Makes transitions over up to ``steps`` frames of the sampled ones.

    The reward becomes the discounted sum of the rewards up to the last frame used, ``next`` that of
    the last frame, and ``steps_to_next_obs`` ``[B, 1]`` says how many frames that were: fewer where
    an episode ends before, or where no more are stored. TorchRL's value estimators discount the
    next value accordingly. Register it after :meth:`Replay.sample`.

    Args:
        replay: with ``time_major``.
        steps: frames of a transition at most.
        gamma: the discount.
        reward_key: under ``next``.
        done_key: under ``next``.

    Raises:
        ValueError: the replay buffer does not know the order of time.
    """

    def __init__(
        self,
        replay: Replay,
        steps: int,
        gamma: float,
        reward_key: Any = "reward",
        done_key: Any = "done",
    ) -> None:
        _check_order(replay)
        self.replay = replay
        self.steps = steps
        self.discounts = gamma ** torch.arange(steps).float()
        self.reward_key, self.done_key = reward_key, done_key

    def __call__(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        following = self.replay.memory["next"]
        path, stored = self.replay.following(batch["index"].to(following.device), self.steps)
        done = following[self.done_key][path].squeeze(-1)
        ended_before = done.cumsum(-1) - done.long() > 0
        used = stored & ~ended_before
        reward = following[self.reward_key][path].squeeze(-1)
        discounts = self.discounts.to(reward.device)
        steps = used.sum(-1, keepdim=True)
        last = path.gather(-1, steps - 1).squeeze(-1)
        taken = self.replay.led_to(last)
        batch["next"] = tensordict_of(taken, last.shape, following.device).to(batch.device)
        returns = torch.where(used, discounts * reward, 0.0).sum(-1, keepdim=True)
        batch["next", self.reward_key] = returns.to(batch["action"].device)
        batch["steps_to_next_obs"] = steps.to(batch["action"].device)
        return batch


class Slices:
    """Batches ``[batch_size // length, length]`` of frames in a row, each row of one environment.

    An episode may end within a slice: its flags say so. Register it at ``process_optim_batch``, in
    place of :meth:`Replay.sample`.

    Args:
        replay: with ``time_major``.
        length: frames of a slice.

    Raises:
        ValueError: the replay buffer does not know the order of time, or its batches cannot be made
            of such slices; when called: it does not hold a single one yet.
    """

    def __init__(self, replay: Replay, length: int) -> None:
        _check_order(replay)
        frames = replay.batch_size or replay.buffer.batch_size
        if frames is None or frames % length:
            raise ValueError(f"a batch of {frames} frames is not made of slices of {length} each")
        self.replay = replay
        self.length = length
        self.number = frames // length

    def __call__(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        replay, starts = self.replay, self.replay.starts(self.length)
        if starts == 0:
            raise ValueError(
                f"a slice is {self.length} frames of one environment; among the "
                f"{len(replay.buffer)} stored there is none yet: warm up for longer"
            )
        index = replay.nth_oldest(torch.randint(starts, (self.number,)))
        path, _ = replay.following(index, self.length)
        slices = replay.at(path)
        return slices if replay.device is None else slices.to(replay.device)


def _check_order(replay: Replay) -> None:
    if not replay.time_major:
        raise ValueError("n-step returns and slices need a Replay(..., time_major=True)")
