"""What did an episode bring, after it has ended?"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase

from trainers.advantages import discounted_sum
from trainers.collection.rollouts import rollout_from, rollout_state
from trainers.saving.restoring import Continuity
from trainers.trainer import Trainer


class WholeEpisodes:
    """Makes of rollouts ``[..., T]`` the frames ``[M]`` of episodes that have ended.

    Their ``advantage`` ``[M, 1]`` is the return, discounted, from each frame to its episode's end.
    The frames of open episodes are kept back, and come when these have ended: with a return up to
    where the rollout ends they would teach that long episodes bring little, and left out, long
    episodes would be left out. An action is then learnt from by the policy of a later rollout; with
    rollouts longer than episodes, by the next.

    After a truncation there is no value to go on from: the return is what was seen. First episodes
    that the collector cuts short, so that they do not all end together, are left out.

    Register it at ``pre_epoch``: the hooks that follow see these frames. What is kept back grows
    with the episodes, which have to end for anything to be learnt.

    Args:
        gamma: discount.
    """

    name = "whole_episodes"

    def __init__(self, gamma: float) -> None:
        self.gamma = gamma
        self._open: list[Any] = []  # rollouts: what there is of each environment's episode
        self._skipped: list[bool] = []  # it is cut short
        self._continuity = Continuity()

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> TensorDictBase:
        # Whether an episode was a success may be reported from some later rollout on.
        frames: Any = rollout.exclude(("next", "success"))
        frames = frames.reshape(-1, frames.batch_size[-1])
        broken = self._continuity.is_broken(trainer.collector)
        if broken or len(self._open) != len(frames):
            first = trainer.frames == rollout.numel()
            cut = getattr(trainer.collector, "cuts_first", None) if first else None
            self._skipped = [False] * len(frames) if cut is None else cut.tolist()
            self._open = [each[:0] for each in frames]
        ended: Any = torch.cat([self._ended(env, new) for env, new in enumerate(frames)])
        reward, done = (ended["next", key].squeeze(-1) for key in ("reward", "done"))
        returns = discounted_sum(reward, self.gamma * ~done)  # which ends where an episode does
        return ended.set("advantage", returns.unsqueeze(-1))

    def _ended(self, env: int, new: Any) -> Any:
        frames: Any = torch.cat([self._open[env].to(new.device), new])
        ends = frames["next", "done"].squeeze(-1).nonzero().flatten().tolist()
        begin, end = 0, ends[-1] + 1 if ends else 0
        if ends and self._skipped[env]:
            begin, self._skipped[env] = ends[0] + 1, False
        self._open[env] = frames[end:].clone()
        return frames[begin:end]

    def state_dict(self) -> dict[str, Any]:
        """The frames that are kept back."""
        return {"open": [rollout_state(each) for each in self._open], "skipped": self._skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; of use only if the collector goes on where it was."""
        self._continuity.resumed()
        self._open = [rollout_from(each) for each in state["open"]]
        self._skipped = list(state["skipped"])
