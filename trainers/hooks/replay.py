"""The replay buffer: filled after collection, sampled for every update."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import ReplayBuffer, RoundRobinWriter

from trainers.replay.buffer import FastReplayBuffer
from trainers.replay.pictures import Pictures
from trainers.saving.restoring import Continuity, How
from trainers.saving.segments import Rows
from trainers.trainer import Trainer

logger = logging.getLogger("trainers")

_FOR_THE_LOG = {"success", "game_score", "game_over"}  # under "next"


class Replay:
    """Stores every collected frame once, and samples batches of them.

    Register :meth:`extend` at ``post_collect`` (warm-up frames are stored too) and :meth:`sample`
    at ``process_optim_batch``.

    Args:
        buffer: any TorchRL replay buffer with a tensor storage.
        batch_size: frames of a batch; default: the buffer's own.
        device: where batches go; default: where the storage is.
        time_major: keep frames in the order of time, so that :meth:`following` can walk along
            episodes; batches get an ``index`` then.
        pictures: keeps observations that are stacks of pictures, in place of the buffer; frames are
            in the order of time then.

    Raises:
        ValueError: ``time_major`` with transforms in the buffer, which what is read beside the
            sampled frames would not go through.
    """

    name = "replay"
    samples = True

    def __init__(
        self,
        buffer: ReplayBuffer,
        batch_size: int | None = None,
        device: Any = None,
        time_major: bool = False,
        pictures: Pictures | None = None,
    ) -> None:
        time_major = time_major or pictures is not None
        if time_major and len(buffer.transform):  # type: ignore[arg-type]  # a Compose
            raise ValueError(
                "n-step returns, slices and pictures need a replay buffer without transforms"
            )
        self.buffer = buffer
        self.batch_size = batch_size
        self.device = None if device is None else torch.device(device)
        self.time_major = time_major
        self.pictures = pictures
        self.restored: tuple[How, str] = ("exact", "")
        self._num_envs = 0  # until there are frames in the order of time
        self._continuity = Continuity()

    def extend(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        """Store the frames of ``rollout``, whatever its batch dimensions.

        All but what is for the log: nothing learns from it, and ``("next", "success")`` may turn
        up in the middle of a run, where a storage has no place for it yet.
        """
        following: Any = rollout["next"]
        logged = _FOR_THE_LOG.intersection(following.keys())
        if logged:
            rollout = rollout.exclude(*(("next", key) for key in logged))
        if self.time_major:
            self._keep_order(trainer, rollout.numel() // rollout.batch_size[-1])
            rollout = rollout.reshape(-1, rollout.batch_size[-1]).transpose(0, 1)
        if self.pictures is not None:
            self.pictures.add(rollout["observation"], rollout["next", "observation"])
            rollout = rollout.exclude("observation", ("next", "observation"))
        if isinstance(self.buffer, FastReplayBuffer):
            self.buffer.store(rollout)
        else:
            self.buffer.extend(rollout.reshape(-1))

    @property
    def sample_capturable(self) -> bool:
        """Whether a batch is drawn on the device, without the host."""
        drawn_there = isinstance(self.buffer, FastReplayBuffer) and self.buffer.drawn_on_device
        return drawn_there and not self.time_major and self.buffer.storage.device == self.device  # type: ignore[attr-defined]  # a tensor storage's

    def sample(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        """A batch ``[batch_size]``; the incoming one (the rollout) is dropped."""
        sampled, info = self.buffer.sample(self.batch_size, return_info=True)
        if self.time_major:
            sampled.set("index", info["index"])
            sampled = self.with_pictures(sampled, info["index"])
        return sampled if self.device in (None, sampled.device) else sampled.to(self.device)

    # ------------------------------------------------------------- order of time

    @property
    def frames(self) -> TensorDictBase:
        """What is stored, not copied."""
        return self.buffer.storage[:]

    @property
    def memory(self) -> Any:
        """The same, and the slots that nothing is stored in yet: nothing has to be cut out."""
        return self.buffer.storage._storage  # type: ignore[attr-defined]  # a tensor storage's

    def at(self, index: Tensor) -> TensorDictBase:
        """Whole transitions ``[...]``, copied."""
        return self.with_pictures(self.frames[index.to(self.frames.device)], index)

    def led_to(self, index: Tensor) -> dict[str, Tensor]:
        """All that is under ``next`` of the frames at ``index`` ``[...]``, copied."""
        taken = {key: values[index] for key, values in self.memory["next"].items()}
        if self.pictures is not None:
            taken["observation"] = self.pictures.around(self._number(index))[1].to(index.device)
        return taken

    def with_pictures(self, frames: TensorDictBase, index: Tensor) -> TensorDictBase:
        """Give ``frames``, which are those at ``index``, the observations that are kept apart."""
        if self.pictures is not None:
            observation, following = self.pictures.around(self._number(index))
            frames.set("observation", observation)
            frames.set(("next", "observation"), following)
        return frames

    def _number(self, index: Tensor) -> Tensor:
        """By which number the pictures know the frames at ``index``."""
        assert self.pictures is not None
        filled = len(self.buffer)
        return self.pictures.end - filled + (index - self._oldest) % filled

    def starts(self, steps: int) -> int:
        """How many frames have ``steps - 1`` others of their environment after them."""
        return max(0, len(self.buffer) - (steps - 1) * self._num_envs)

    def nth_oldest(self, age: Tensor) -> Tensor:
        """Indices of frames by their age, 0 for the oldest."""
        return (age + self._oldest) % len(self.buffer)

    def following(self, index: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The frames of the same environments from ``index`` on.

        Args:
            index: ``[B]``.
            steps: so many frames each, that of ``index`` included.

        Returns:
            Their indices ``[B, steps]``, and which of them are stored already; the index of one
            that is not means nothing.
        """
        filled = len(self.buffer)
        oldest_first = (index - self._oldest) % filled
        ahead = self._num_envs * torch.arange(steps, device=index.device)
        path = oldest_first.unsqueeze(-1) + ahead
        return self.nth_oldest(path), path < filled

    @property
    def _oldest(self) -> int:
        filled = len(self.buffer)
        return self.buffer.write_count % filled if filled == self.buffer.storage.max_size else 0

    def _keep_order(self, trainer: Trainer, num_envs: int) -> None:
        """Stored frames that the coming ones do not follow count as the last of their episodes."""
        same = num_envs == self._num_envs
        broken = self._continuity.is_broken(trainer.collector)
        if len(self.buffer) and (broken or not same):
            self._end_episodes(num_envs if same else len(self.buffer))
            if self._num_envs and not same:
                logger.warning(
                    "frames stored so far are of %d environments, the coming ones of %d: n-step "
                    "returns and slices do not lead from one stored frame to another",
                    *(self._num_envs, num_envs),
                )
        self._num_envs = num_envs

    def _end_episodes(self, newest: int) -> None:
        """So many frames, the newest ones, count as the last of their episodes."""
        for key in ("done", "truncated"):
            if (flags := self.frames.get(("next", key), None)) is not None:
                flags[self.nth_oldest(len(self.buffer) - 1 - torch.arange(newest))] = True

    # --------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """The stored frames, numbered in the order in which they came, and where the next goes."""
        filled = len(self.buffer)
        end = self.buffer.write_count if self._is_ring else filled
        # Of the storage itself: the buffer's transforms have been applied to what is in it.
        tables = dict(self.frames.flatten_keys("/").items()) if filled else {}
        state = {
            "frames": Rows(end - filled, end, partial(_read, tables, self._size)),
            "writer": self.buffer.writer.state_dict(),
            "sampler": self.sampler_state(),
        }
        if self.pictures is not None:
            state["pictures"] = self.pictures.state_dict()
        return state | {"num_envs": self._num_envs} if self.time_major else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Fill the buffer with the stored frames; with the latest, if it is a smaller one now.

        Frames that were not kept in the order of time count as the last of their episodes, where
        that order is asked for now.
        """
        self._continuity.resumed()
        frames = state["frames"]
        self.buffer.empty()
        self._fill(frames)
        self._load_writer(state["writer"], frames)
        if self.pictures is not None:
            self.pictures.load_state_dict(state["pictures"])
        costs = [self.load_sampler_state(state["sampler"])]
        if len(frames) > self._size:
            costs.append(f"the last {self._size} of {len(frames)} frames")
        self._num_envs = state.get("num_envs", 0)
        if self.time_major and "num_envs" not in state and len(frames):
            self._end_episodes(len(self.buffer))
            costs.append(
                "n-step returns and slices do not lead from one stored frame to another, whose "
                "order in time was not kept"
            )
        why = ", ".join(filter(None, costs))
        self.restored = ("statistical", why) if why else ("exact", "")

    def _load_writer(self, state: dict[str, Any], frames: Rows) -> None:
        writer: Any = self.buffer.writer
        writer.load_state_dict(state)
        if isinstance(writer, RoundRobinWriter):
            if writer._write_count == frames.end:  # a ring, perhaps of another size
                writer._write_count = frames.end - self._slot_shift(frames)
                writer._cursor = writer._write_count % self._size
            if not 0 <= writer._cursor < self._size:
                raise ValueError(f"the cursor is at {writer._cursor} of {self._size} slots")

    @property
    def _size(self) -> int:
        return self.buffer.storage.max_size

    @property
    def _is_ring(self) -> bool:
        """Whether a frame's slot tells when it came: no writer of another kind was at work."""
        writer: Any = self.buffer.writer
        return (
            isinstance(writer, RoundRobinWriter)
            and writer._write_count % self._size == writer._cursor
            and len(self.buffer) == min(writer._write_count, self._size)
        )

    def _fill(self, frames: Rows) -> None:
        """Put the frames, if need be only the latest, into their slots."""
        shift, oldest = self._slot_shift(frames), frames.end - self._size
        entries: Any = None
        for begin, end in frames.pieces():
            if end <= oldest:
                continue
            tables = dict(frames.read(begin, end))
            entries = entries or tables.keys()
            if tables.keys() != entries:
                raise ValueError(f"frame {begin} has other entries than those before it")
            rows = TensorDict(tables, [end - begin]).unflatten_keys("/")
            position = max(0, oldest - begin)
            for slots in _slots(begin + position - shift, end - shift, self._size):
                number = slots.stop - slots.start
                self.buffer.storage.set(slots, rows[position : position + number])  # type: ignore  # a slice will do
                position += number

    def _slot_shift(self, frames: Rows) -> int:
        """Frame ``number`` is in slot ``(number - shift) % size``."""
        # A ring that is not full begins at slot 0, whatever it was before it was made larger.
        return frames.first if len(frames) < self._size else 0

    def sampler_state(self) -> dict[str, Any]:
        """What the sampler remembers."""
        return self.buffer.sampler.state_dict()

    def load_sampler_state(self, state: dict[str, Any]) -> str | None:
        """Restore :meth:`sampler_state`; what of it is not as it was, if anything."""
        self.buffer.sampler.load_state_dict(state)
        lost = "priorities" in state and len(self.buffer) > 0
        return "frames are drawn alike, without their priorities" if lost else None


def _read(tables: dict[str, Tensor], size: int, begin: int, end: int) -> dict[str, Tensor]:
    """The frames ``[begin, end)`` of a ring of ``size`` slots."""
    slots = _slots(begin, end, size)
    if len(slots) == 1:
        return {name: table[slots[0]] for name, table in tables.items()}
    return {name: torch.cat([table[part] for part in slots]) for name, table in tables.items()}


def _slots(begin: int, end: int, size: int) -> list[slice]:
    """Where a ring of ``size`` slots has the frames ``[begin, end)``, at most ``size`` of them."""
    first, number = begin % size, end - begin
    if first + number <= size:
        return [slice(first, first + number)]
    return [slice(first, size), slice(0, first + number - size)]
