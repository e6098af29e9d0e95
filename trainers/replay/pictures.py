"""The pictures of a replay buffer's transitions, each of them kept once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainers.replay.rows import Empty
from trainers.saving.segments import Rows


class Pictures:
    """Observations that are stacks of pictures, beside a buffer that keeps all else.

    An observation is its step's picture behind those of the steps before it; kept as they come,
    with the next observations, every picture would be there eight times. Here a transition has one
    picture, that of its own step. The others of its stack are those of the transitions before it,
    down to where its episode begins, from there on the same one again; the next observation's
    newest is that of the transition that follows. What nothing follows, at the end of an episode
    and for the time being in the last step of each environment, has the picture in a place apart.

    Whether a transition follows another is seen from its observation: it is the one that the other
    has led to. A game that goes on after the loss of a life, where learning takes an episode for
    over, is no other case, nor is a run that was resumed.

    Transitions are numbered from 0 in the order in which they come, a step of each environment
    after the other. The last ``size`` of them can be asked for.

    Args:
        size: transitions that are kept.
        num_envs: environments that they come from, if more than at first after a resume.
        empty: makes the memory, called like ``torch.empty``.
        device: where the memory is.

    Attributes:
        end: the number of the next transition.
    """

    def __init__(
        self,
        size: int,
        num_envs: int = 1,
        empty: Empty = torch.empty,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size, self.num_envs = size, num_envs
        self.device = torch.device(device)
        self._empty = empty
        self._clear()

    def _clear(self) -> None:
        self.end = 0
        self._first = 0  # the oldest picture there ever was
        self._tables: dict[str, Tensor] = {}
        self._ends: dict[int, Tensor] = {}  # by number, which grows: what nothing follows
        self._led_to: Tensor | None = None  # the last step's next observations

    def _allocate(self, num_envs: int, shape: torch.Size | tuple[int, ...]) -> None:
        """Memory for stacks of ``shape``, with what the oldest transition looks back at."""
        self._stack, *picture = shape
        self._slots = self.size + (self._stack - 1) * num_envs
        kinds = {"picture": torch.uint8, "stride": torch.int32, "begins": torch.bool}
        shapes = {"picture": picture}
        self._tables = {
            name: self._empty([self._slots, *shapes.get(name, [])], dtype=kind, device=self.device)
            for name, kind in kinds.items()
        }

    def add(self, observation: Tensor, following: Tensor) -> None:
        """Take in steps in the order of time.

        Args:
            observation: ``[steps, num_envs, stack, H, W]`` uint8.
            following: the observations that they have led to, likewise.

        Raises:
            ValueError: an episode does not begin with one picture repeated.
        """
        if not self._tables:
            self._allocate(len(observation[0]), observation.shape[2:])
        for now, then in zip(observation.to(self.device), following.to(self.device), strict=True):
            self._add_step(now, then)
        while self._ends and (number := next(iter(self._ends))) < self.end - self.size:
            del self._ends[number]

    def _add_step(self, now: Tensor, then: Tensor) -> None:
        num_envs = len(now)
        same = self._led_to is not None and len(self._led_to) == num_envs
        goes_on = _equal(now, self._led_to) if same else [False] * num_envs
        for env, follows in enumerate(goes_on):
            if follows:
                del self._ends[self.end - num_envs + env]
            elif not torch.equal(now[env], now[env, -1:].expand_as(now[env])):
                raise ValueError("an episode has to begin with the same picture repeated")
            self._ends[self.end + env] = then[env, -1].clone()
        slots = self._slots_of(torch.arange(self.end, self.end + num_envs, device=self.device))
        self._tables["picture"][slots] = now[:, -1]
        self._tables["stride"][slots] = num_envs
        self._tables["begins"][slots] = ~torch.tensor(goes_on, device=self.device)
        self._led_to = then
        self.end += num_envs

    def around(self, number: Tensor) -> tuple[Tensor, Tensor]:
        """Observations of transitions, and what they have led to.

        Args:
            number: ``[...]``; two observations of one share memory, which is nobody else's.

        Returns:
            Both ``[..., stack, H, W]`` uint8.
        """
        picture, stride, begins = (self._tables[k] for k in ("picture", "stride", "begins"))
        last = number.reshape(-1).to(self.device)
        path = [last]
        for _ in range(self._stack - 1):
            slot = self._slots_of(path[0])
            before = path[0] - stride[slot] * ~begins[slot]
            path.insert(0, torch.where(before < self._oldest, path[0], before))
        follower = last + stride[self._slots_of(last)]
        slot = self._slots_of(follower)
        goes_on = (follower < self.end) & ~begins[slot] & (stride[slot] == follower - last)
        path.append(torch.where(goes_on, follower, last))
        slots = self._slots_of(torch.stack(path, -1))  # [B, stack + 1]
        shown = picture.index_select(0, slots.flatten()).unflatten(0, slots.shape)
        for row in (~goes_on).nonzero().flatten().tolist():
            shown[row, -1] = self._ends[int(last[row])]
        shown = shown.view(*number.shape, *shown.shape[1:])
        return shown[..., :-1, :, :], shown[..., 1:, :, :]

    def _slots_of(self, number: Tensor) -> Tensor:
        return number % self._slots

    @property
    def _oldest(self) -> int:
        """Number of the oldest picture that is there."""
        return max(self._first, self.end - self._slots) if self._tables else self.end

    def state_dict(self) -> dict[str, Any]:
        """The pictures by their numbers, and those apart."""
        state: dict[str, Any] = {"pictures": Rows(self._oldest, self.end, self._read)}
        if self._tables:
            apart = {"number": list(self._ends), "picture": torch.stack([*self._ends.values()])}
            assert self._led_to is not None
            state |= {"apart": apart, "stack": self._stack, "num_envs": len(self._led_to)}
        return state

    def _read(self, begin: int, end: int) -> dict[str, Tensor]:
        slots = self._slots_of(torch.arange(begin, end, device=self.device))
        return {name: table[slots] for name, table in self._tables.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; of more than there is room for, the latest."""
        rows = state["pictures"]
        self._clear()
        for begin, end in rows.pieces():
            tables = rows.read(begin, end)
            if not self._tables:
                num_envs = max(state["num_envs"], self.num_envs)
                self._allocate(num_envs, (state["stack"], *tables["picture"].shape[1:]))
            begin, taken = max(begin, rows.end - self._slots), end - begin
            if begin < end:
                slots = self._slots_of(torch.arange(begin, end, device=self.device))
                for name, table in self._tables.items():
                    table[slots] = tables[name][taken - len(slots) :].to(self.device)
        self.end = rows.end
        self._first = rows.first
        if self._tables:
            apart = zip(state["apart"]["number"], state["apart"]["picture"], strict=True)
            oldest = self.end - self.size
            self._ends = {n: each.to(self.device).clone() for n, each in apart if n >= oldest}
            last = torch.arange(self.end - state["num_envs"], self.end, device=self.device)
            self._led_to = self.around(last)[1]


def _equal(one: Tensor, two: Any) -> list[bool]:
    """Which of several observations are the same."""
    return (one == two).flatten(1).all(1).tolist()
