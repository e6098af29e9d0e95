"""Made-up games: their pictures number themselves, so that each can be told from all others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

STACK = 4


class Games:
    """Rollouts ``[num_envs, steps]`` of games that last for ``lengths``, one after the other.

    Observations are stacks of four pictures of two bytes. Every fifth step costs a life, which
    learning takes for an end; the game goes on.

    Attributes:
        told: observation and next observation of every transition, in the order of time.
    """

    def __init__(self, num_envs: int, lengths: Sequence[int] = (7, 1, 12, 3)) -> None:
        self.num_envs = num_envs
        self.lengths = lengths
        self.told: list[tuple[Tensor, Tensor]] = []
        self._pictures = self._steps = 0
        self._games = list(range(num_envs))
        self.restart()

    def restart(self) -> None:
        """Begin new games, as after a resume that could not bring the old ones back."""
        self._played = [0] * self.num_envs
        self._stacks = [self._first() for _ in range(self.num_envs)]

    def _picture(self) -> Tensor:
        self._pictures += 1
        return torch.tensor([[divmod(self._pictures, 256)]], dtype=torch.uint8)

    def _first(self) -> Tensor:
        return self._picture().repeat(STACK, 1, 1)

    def rollout(self, steps: int) -> TensorDict:
        return torch.stack([self._step() for _ in range(steps)], 1)

    def _step(self) -> TensorDict:
        self._steps += 1
        then, over = [], []
        for env in range(self.num_envs):
            then.append(torch.cat([self._stacks[env][1:], self._picture()]))
            self._played[env] += 1
            over.append(self._played[env] == self.lengths[self._games[env] % len(self.lengths)])
            self.told.append((self._stacks[env], then[env]))
        step = self._transitions(torch.stack(self._stacks), torch.stack(then), torch.tensor(over))
        for env, ends in enumerate(over):
            self._stacks[env] = self._first() if ends else then[env]
            self._played[env] *= not ends
            self._games[env] += ends
        return step

    def _transitions(self, now: Tensor, then: Tensor, over: Tensor) -> TensorDict:
        truncated = (over & (torch.arange(self.num_envs) % 2 == 1)).unsqueeze(-1)
        terminated = over.unsqueeze(-1) & ~truncated | (self._steps % 5 == 0)
        following = {
            "observation": then,
            "reward": torch.full([self.num_envs, 1], float(self._steps)),
            "done": terminated | truncated,
            "terminated": terminated,
            "truncated": truncated,
            "game_score": torch.full([self.num_envs, 1], 100.0),
            "game_over": over.unsqueeze(-1),
        }
        action = torch.arange(self.num_envs) + 10 * self._steps
        data = {"observation": now, "action": action, "next": following}
        return TensorDict(data, [self.num_envs])
