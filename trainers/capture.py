"""Updates as CUDA graphs: what the host would begin operation by operation, begun at once.

An update of small networks is a hundred short operations, each of which takes the host longer to
begin than a GPU to do. What is captured is everything between the last hook of
``process_optim_batch`` that has to run on the host and the first such one of ``post_optim``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from tensordict import TensorDictBase

from trainers.optimization.optimizers import FlatAdam
from trainers.phases import Phase
from trainers.stages import Stage

if TYPE_CHECKING:
    from trainers.timetable import Entry
    from trainers.trainer import Trainer

logger = logging.getLogger("trainers")

# Before a graph is captured: libraries set themselves up, memory is allocated.
WARM_UPS = 3

Update = tuple[TensorDictBase, TensorDictBase]  # the batch, and its losses
Learn = Callable[[TensorDictBase], Update]


class Graph(Protocol):
    """Something that can do again what a function has done, with the same memory."""

    def warm_up(self, work: Callable[[], Update]) -> Update:
        """Do ``work`` as it will be captured."""
        ...

    def capture(self, work: Callable[[], Update]) -> Update:
        """Record ``work``; nothing is done yet, and the results are filled by :meth:`replay`."""
        ...

    def replay(self) -> None:
        """Do it."""
        ...


class CudaGraph:
    """CUDA's, on a stream of its own."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._graph = torch.cuda.CUDAGraph()

    def warm_up(self, work: Callable[[], Update]) -> Update:
        """Autograd remembers the stream of a gradient: it has to be the one of the capture."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            done = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return done

    def capture(self, work: Callable[[], Update]) -> Update:
        """Random numbers go on from replay to replay: torch sees to its own generator."""
        with torch.cuda.graph(self._graph, stream=self._stream):
            return work()

    def replay(self) -> None:
        """On the current stream."""
        self._graph.replay()


def obstacle(trainer: Trainer) -> str | None:
    """Why the updates of ``trainer`` cannot be captured; None if they can."""
    for phase in trainer.phases:
        if not getattr(phase.loss, "capturable", False):
            return f"{type(phase.loss).__name__} does not say that it is capturable"
        for optimizer in phase.optimizers:
            if not isinstance(optimizer, FlatAdam):
                return f"{type(optimizer).__name__} is not this project's own Adam"
    for stage in (Stage.POST_LOSS, Stage.POST_BACKWARD):
        for entry in trainer.timetable.entries(stage):
            if not entry.capturable:
                return f"hook {entry.name!r} at {stage.value} does not say that it is capturable"
    return None


class CapturedUpdates:
    """Makes a trainer's updates by graphs: one for every set of due phases and shape of a batch.

    Args:
        trainer: for which there is no :func:`obstacle`.
        make_graph: of CUDA's, or for tests another one.
    """

    def __init__(self, trainer: Trainer, make_graph: Callable[[], Graph] = CudaGraph) -> None:
        before = trainer.timetable.entries(Stage.PROCESS_OPTIM_BATCH)
        after = trainer.timetable.entries(Stage.POST_OPTIM)
        begin = max((i + 1 for i, entry in enumerate(before) if not entry.capturable), default=0)
        end = next((i for i, entry in enumerate(after) if not entry.capturable), len(after))
        self._on_host = before[:begin], after[end:]
        self._inside = before[begin:], after[:end]
        self._make_graph = make_graph
        self._graphs: dict[Any, _Captured] = {}

    def __call__(self, trainer: Trainer, rollout: TensorDictBase, due: Sequence[Phase]) -> Update:
        """One update from ``rollout``, without the hooks of :attr:`afterwards`."""
        timetable, (before, after) = trainer.timetable, self._inside
        batch = timetable.run(self._on_host[0], trainer, Stage.PROCESS_OPTIM_BATCH, rollout)

        def learn(batch: TensorDictBase) -> Update:
            batch = timetable.run(before, trainer, Stage.PROCESS_OPTIM_BATCH, batch)
            losses = trainer.learn(batch, due)
            timetable.run(after, trainer, Stage.POST_OPTIM, batch, losses)
            return batch, losses

        for phase in due:
            phase.prepare_replay()
        # Where the first captured hook samples a batch, it does not look at the one that comes in.
        copied = not (before and before[0].samples)
        key = (*map(id, due), *(_shapes(batch) if copied else ()))
        if key not in self._graphs:
            self._graphs[key] = _Captured(self._make_graph(), copied)
        return self._graphs[key](learn, batch)

    @property
    def afterwards(self) -> Sequence[Entry]:
        """The hooks of ``post_optim`` that are left to the host."""
        return self._on_host[1]


class _Captured:
    def __init__(self, graph: Graph, copied: bool) -> None:
        self._graph, self._copied = graph, copied
        self._warm_ups = 0
        self._input: dict[Any, torch.Tensor] = {}
        self._done: Update | None = None

    def __call__(self, learn: Learn, batch: TensorDictBase) -> Update:
        if self._warm_ups < WARM_UPS:
            self._warm_ups += 1
            return self._graph.warm_up(lambda: learn(batch))
        if self._done is None:
            given = batch.clone() if self._copied else batch
            self._input = dict(given.items(True, True)) if self._copied else {}
            self._done = self._graph.capture(lambda: learn(given))
        else:
            for key, mine in self._input.items():
                mine.copy_(batch[key])
        self._graph.replay()
        batch, losses = self._done
        # Hooks may put something into them, which is not to be there the next time.
        return batch.copy(), losses.copy()


def _shapes(data: TensorDictBase) -> list[Any]:
    return [(key, value.shape, value.dtype) for key, value in data.items(True, True)]
