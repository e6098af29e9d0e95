"""Captured updates, without a GPU: the same code, by a graph that does its work again on the CPU.

What a GPU adds is that nothing may wait for it and that all memory stays where it is. Both can be
seen here. Operations that read a tensor on the host are refused. Those of a replay have to be given
the memory of the capture, unless one of themselves has made it; and parameters, gradients, the
optimizers' state and what hooks keep in attributes have to stay where they are, for a replay would
tell nobody of another place.

What cannot be seen: what hooks keep for others elsewhere (in closures, in objects of their own),
what becomes of a graph's own memory, whether CUDA can capture an operation at all, and what waits
without reading a number, as a copy from the host to the device may. The last tests are for a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from support.algorithms import tiny, tiny_c51, tiny_dqn, tiny_ppo, tiny_sac
from support.doubles import make_trainer
from support.states import assert_same, flat, loss_of
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from trainers import arrays, capture, phases
from trainers.build import build
from trainers.capture import CapturedUpdates, Update, obstacle
from trainers.config import TrainConfig
from trainers.errors import NonFiniteError
from trainers.hooks import Replay, TargetUpdate, gradients
from trainers.losses import numpy_q
from trainers.networks.acting import NumpyPolicy
from trainers.phases import Phase
from trainers.replay import rows
from trainers.replay.buffer import FastReplayBuffer
from trainers.stages import Stage
from trainers.trainer import Trainer

READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "aten::item", "is_nonzero")


class Recording(TorchDispatchMode):
    """Refuses what the host would have to wait for, and notes all else with what the host gives.

    Tensors by their shapes and places: the address, or which of the operations' own results it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        self._made: dict[int, int] = {}  # numbers of results by their storages' addresses
        self._alive: list[Any] = []  # so that no address comes up twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in func.name() for name in READS):
            raise RuntimeError(f"the host reads a tensor: {func.name()}")
        given = args, kwargs or {}
        if (
            func is torch.ops.aten.lift_fresh.default
        ):  # a number of the host's: it counts, not where
            self.operations.append(f"{args[0].tolist()}")
            self._count(args, ())
        self.operations.append(f"{func.name()} {tree_map_only(Tensor, self._described, given)}")
        result = func(*given[0], **given[1])
        self._count(result, given)
        self._alive.append((given, result))
        return result

    def _count(self, made: Any, of: Any) -> None:
        before = storages(of)
        for storage in storages(made):
            if storage not in before:
                self._made.setdefault(storage, len(self._made))

    def _described(self, tensor: Tensor) -> str:
        made = self._made.get(tensor.untyped_storage().data_ptr())
        place = hex(tensor.data_ptr()) if made is None else f"{made}[{tensor.storage_offset()}]"
        return f"{list(tensor.shape)} at {place}"


def storages(values: Any) -> list[int]:
    """The addresses of the memory of all tensors in ``values``."""
    tensors = (value for value in tree_leaves(values) if isinstance(value, Tensor))
    return [tensor.untyped_storage().data_ptr() for tensor in tensors]


def kept(trainer: Trainer) -> dict[str, int]:
    """Where tensors that outlast an update are, by name: of phases, and in hooks' attributes."""
    things = {
        "phases": [phase.state_dict() for phase in trainer.phases],
        "gradients": [[each.grad for each in phase.parameters()] for phase in trainer.phases],
        "hooks": {
            f"{stage.value} {entry.name}": vars(getattr(entry.hook, "__self__", entry.hook))
            for stage in Stage
            for entry in trainer.timetable.entries(stage)
            if entry.capturable
        },
    }
    tensors = {name: each for name, each in flat(things).items() if isinstance(each, Tensor)}
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


class Again:
    """A graph on the CPU: does the work again, its results go where those of the capture are."""

    made: list[Again]

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.made.append(self)
        self.replays = 0

    def warm_up(self, work: Callable[[], Update]) -> Update:
        return work()

    def capture(self, work: Callable[[], Update]) -> Update:
        self._work = work
        with Recording() as self._recording:
            self._done = work()  # what a real one would do in its first replay only
        return self._done

    def replay(self) -> None:
        self.replays += 1
        if self.replays > 1:
            before = kept(self._trainer)
            with Recording() as recording:
                done = self._work()
            # A real one would do what was captured, with the numbers and in the memory of then.
            assert recording.operations == self._recording.operations
            assert kept(self._trainer).items() ^ before.items() == set()
            for mine, new in zip(self._done, done, strict=True):
                for (key, memory), value in zip(
                    mine.items(True, True), new.values(True, True), strict=True
                ):
                    assert memory.shape == value.shape, key
                    memory.copy_(value)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> list[Again]:
    """Everything takes the way it takes on a GPU; returns the graphs that are made."""
    monkeypatch.setattr(Phase, "can_skip", True)
    for module in (arrays, gradients, numpy_q, phases, rows):
        monkeypatch.setattr(module, "on_host", lambda tensor: False)
    Again.made = []
    with_cuda = CapturedUpdates.__init__
    monkeypatch.setattr(
        CapturedUpdates,
        "__init__",
        lambda self, trainer: with_cuda(self, trainer, partial(Again, trainer)),
    )
    plain = FastReplayBuffer.__init__

    def init(self: Any, **given: Any) -> None:
        plain(self, **given)
        self.on_host = False

    monkeypatch.setattr(FastReplayBuffer, "__init__", init)
    monkeypatch.setattr(NumpyPolicy, "fits", lambda actor: False)
    return Again.made


def trained(
    config: TrainConfig, captured: bool = True, rates_on_device: bool = True, **hooks: Any
) -> Trainer:
    """A trainer that has trained; with learning rates on the device, if it is ``captured``."""
    trainer = build(config).trainer
    trainer.capture = captured

    def rates(trainer: Trainer, batch: TensorDictBase) -> None:
        for phase in trainer.phases:
            phase.prepare_replay()

    if not captured and rates_on_device:
        trainer.register_hook("process_optim_batch", rates)
    for stage, hook in hooks.items():
        trainer.register_hook(stage, hook)
    trainer.train()
    return trainer


def state(trainer: Trainer) -> dict[str, Any]:
    return {key: value for key, value in trainer.state_dict().items() if key != "stopwatch"}


CONFIGS: dict[str, Callable[[], TrainConfig]] = {
    "sac": lambda: tiny_sac(total_frames=60),
    "sac, clipped and annealed": lambda: tiny_sac(
        total_frames=60, algo={"max_grad_norm": 0.1, "lr_schedule": "linear"}
    ),
    "sac, hard targets": lambda: tiny_sac(
        total_frames=60, algo={"target_update": "hard", "target_update_interval": 3}
    ),
    "sac, n steps": lambda: tiny_sac(total_frames=60, algo={"n_steps": 3}),
    "sac, critics of different rates": lambda: tiny_sac(
        total_frames=60, algo={"critic_lr": 3e-3, "actor_lr": 1e-4, "lr_schedule": "linear"}
    ),
    "dqn": lambda: tiny_dqn(total_frames=60),
    "dqn, duelling, n steps": lambda: tiny_dqn(
        total_frames=60, algo={"duelling": True, "double": False, "n_steps": 3}
    ),
    "c51": lambda: tiny_c51(total_frames=60),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_captured_updates_are_the_others(
    config: Callable[[], TrainConfig], as_on_a_gpu: list[Again]
) -> None:
    plain = state(trained(config(), captured=False))
    assert as_on_a_gpu == []
    assert_same(state(trained(config())), plain)
    (graph,) = as_on_a_gpu
    assert graph.replays == 50 - capture.WARM_UPS


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_a_captured_step_takes_the_rates_of_now(schedule: str, as_on_a_gpu: list[Again]) -> None:
    """Rates on the device are rounded otherwise than numbers, but anneal as they do."""
    config = partial(tiny_sac, total_frames=60)
    annealed = {"algo": {"lr_schedule": "linear", "lr": 0.01}}
    plain = trained(config(**annealed), captured=False, rates_on_device=False)
    mine = trained(config(algo={"lr_schedule": schedule, "lr": 0.01}))
    (graph,) = as_on_a_gpu
    assert graph.replays > 40
    pairs = zip(loss_of(plain).parameters(), loss_of(mine).parameters(), strict=True)
    furthest = max(float((one - other).abs().max()) for one, other in pairs)
    assert (furthest < 1e-4) == (schedule == "linear")


def test_td3_has_a_graph_for_every_set_of_due_phases(as_on_a_gpu: list[Again]) -> None:
    config = tiny("td3", None, {"policy_delay": 3}, 70)
    plain = state(trained(config, captured=False))
    assert as_on_a_gpu == []
    assert_same(state(trained(config)), plain)
    assert [graph.replays for graph in as_on_a_gpu] == [
        40 - capture.WARM_UPS,
        20 - capture.WARM_UPS,
    ]


def test_ppo_has_a_graph_for_every_shape_of_a_minibatch(
    as_on_a_gpu: list[Again], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers.losses.ppo import FastPPOLoss

    monkeypatch.setattr(FastPPOLoss, "is_usual", lambda *_: False)  # numpy is for the host
    monkeypatch.setattr(FastPPOLoss, "number", None)
    config = tiny_ppo(total_frames=17 * 6, algo={"frames_per_batch": 17, "minibatch_size": 9})
    plain = state(trained(config, captured=False))
    assert_same(state(trained(config)), plain)
    assert len(as_on_a_gpu) == 2
    assert [graph.replays for graph in as_on_a_gpu] == [12 - capture.WARM_UPS] * 2


def test_hooks_on_the_host_see_every_update(as_on_a_gpu: list[Again]) -> None:
    seen: list[tuple[int, float, float]] = []

    def look(trainer: Any, batch: TensorDictBase, losses: TensorDictBase) -> None:
        seen.append((trainer.updates, float(losses["loss_qvalue"]), float(batch["td_error"].sum())))
        batch.set("mine", batch["td_error"])
        losses.set("mine", losses["loss_qvalue"])

    for captured in (False, True):
        trained(tiny_sac(), captured, post_optim=look)
    assert seen[:30] == seen[30:]
    assert [updates for updates, *_ in seen[:30]] == list(range(1, 31))
    assert len({loss for _, loss, _ in seen[:30]}) == 30


def test_a_hook_on_the_host_in_between_disables_it(
    as_on_a_gpu: list[Again], caplog: pytest.LogCaptureFixture
) -> None:
    def look(trainer: Any, batch: Any, losses: Any) -> None:
        pass

    def first(trainer: Any, batch: Any) -> None:
        pass

    with caplog.at_level(logging.INFO, "trainers"):
        trained(tiny_sac(), post_loss=look)
    assert "hook 'look' at post_loss does not say that it is capturable" in caplog.text
    assert as_on_a_gpu == []
    plain = state(trained(tiny_sac(), captured=False, process_optim_batch=first))
    assert_same(state(trained(tiny_sac(), process_optim_batch=first)), plain)  # sampled on the host
    assert len(as_on_a_gpu) == 1


def test_what_cannot_be_captured_is_named() -> None:
    assert obstacle(build(tiny_sac()).trainer) is None
    assert obstacle(make_trainer()) == "Constant does not say that it is capturable"
    trainer = build(tiny_sac(algo={"loss_module": "torchrl"})).trainer
    assert obstacle(trainer) == "SACLoss does not say that it is capturable"
    loss_of(trainer).capturable = True
    assert obstacle(trainer) == "Adam is not this project's own Adam"


def test_what_says_that_it_is_capturable() -> None:
    trainer = build(tiny_sac(algo={"max_grad_norm": 1.0, "lr_schedule": "linear"})).trainer
    found = {
        (stage.value, entry.name): entry.capturable
        for stage in (Stage.PROCESS_OPTIM_BATCH, Stage.POST_BACKWARD, Stage.POST_OPTIM)
        for entry in trainer.timetable.entries(stage)
    }
    assert found == {
        ("process_optim_batch", "anneal_lr_0"): False,
        ("process_optim_batch", "replay"): False,  # drawn by the host, for it is on the host
        ("post_backward", "clip_grad_norm"): True,
        ("post_optim", "clip_grad_norm"): False,  # the log
        ("post_optim", "target_update"): True,
    }
    hook = TargetUpdate(loss_of(trainer), tau=1.0, interval=2)
    trainer.register_hook(Stage.POST_OPTIM, hook, name="now and then")
    trainer.register_hook(
        Stage.POST_OPTIM, TargetUpdate(loss_of(trainer)), name="on terms", when=lambda t: True
    )
    assert [e.capturable for e in trainer.timetable.entries(Stage.POST_OPTIM)[-2:]] == [False] * 2


# ------------------------------------------------------------------------- sampling


def test_the_device_draws_from_all_that_is_stored(as_on_a_gpu: list[Again]) -> None:
    trainer = build(tiny_sac(algo={"buffer_size": 600, "batch_size": 600})).trainer
    drawn: list[Tensor] = []

    def look(trainer: Any, batch: TensorDictBase, losses: Any) -> None:
        drawn.append(batch["observation"].unique(dim=0))

    trainer.register_hook(Stage.POST_OPTIM, look)
    trainer.train()
    (replay,) = (
        entry.hook.__self__ for entry in trainer.timetable.entries(Stage.PROCESS_OPTIM_BATCH)
    )
    assert isinstance(replay, Replay)
    assert [len(each) for each in drawn] == list(range(11, 41))  # also in replays
    stored = replay.frames["observation"].unique(dim=0)
    assert torch.equal(drawn[-1], stored)


# ---------------------------------------------------------------------- not finite


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("what", ["reward", "weight"])
def test_a_step_is_skipped_on_the_device(
    captured: bool, what: str, as_on_a_gpu: list[Again]
) -> None:
    """From the first number that is not finite on; the run stops when it next looks."""
    trainer = build(tiny_sac(total_frames=100, algo={"utd_ratio": 3.0})).trainer
    trainer.capture = captured
    loss = loss_of(trainer)
    kept: dict[str, Tensor] = {}

    def spoil(trainer: Any, rollout: TensorDictBase) -> None:
        if trainer.frames == 25:
            kept.update({k: p.detach().clone() for k, p in loss.named_parameters()})
            if what == "reward":
                replay.frames["next", "reward"].fill_(float("nan"))
            else:
                loss.log_alpha.data.fill_(float("nan"))

    (replay,) = (entry.hook.__self__ for entry in trainer.timetable.entries(Stage.POST_COLLECT))
    trainer.register_hook(Stage.PRE_EPOCH, spoil)
    with pytest.raises(NonFiniteError, match=r"loss_.* is nan.*updates up to 45"):
        trainer.train()
    assert trainer.updates == 45
    for name, parameter in loss.named_parameters():
        if not (what == "weight" and name == "log_alpha"):
            assert torch.equal(parameter, kept[name]), name
    with pytest.raises(NonFiniteError):
        trainer.state_dict()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_gradient_that_is_not_finite_is_found_too(
    replaced: bool, as_on_a_gpu: list[Again]
) -> None:
    trainer = build(tiny_sac(algo={"max_grad_norm": 1.0}, total_frames=40)).trainer

    class Spoil:
        capturable = True

        def __call__(self, trainer: Any, batch: Any, losses: Any) -> None:
            log_alpha = loss_of(trainer).log_alpha
            if replaced:
                log_alpha.grad = torch.full_like(log_alpha, float("inf"))
            else:
                log_alpha.grad.fill_(float("inf"))

    trainer.register_hook(Stage.POST_BACKWARD, Spoil())
    with pytest.raises(NonFiniteError, match="a gradient is not finite"):
        trainer.train()


class Once:
    """Something that is not finite, in the fifth update only."""

    capturable = True

    def __init__(self) -> None:
        self.updates = torch.zeros(())
        self.fifth = torch.tensor(float("nan"))

    def in_loss(self, trainer: Any, batch: Any, losses: TensorDictBase) -> None:
        losses.set("loss_alpha", losses["loss_alpha"] + self._now())

    def in_gradient(self, trainer: Any, batch: Any, losses: Any) -> None:
        loss_of(trainer).log_alpha.grad.add_(self._now())

    in_loss_capturable = in_gradient_capturable = True

    def _now(self) -> Tensor:
        self.updates += 1
        return torch.where(self.updates == 5, self.fifth, torch.zeros(()))


@pytest.mark.parametrize(
    ("stage", "where", "found"),
    [
        (Stage.POST_LOSS, Once.in_loss, "loss_alpha is nan"),
        (Stage.POST_BACKWARD, Once.in_gradient, "a gradient is not finite"),
    ],
)
def test_what_has_passed_is_remembered(
    stage: Stage, where: Any, found: str, as_on_a_gpu: list[Again]
) -> None:
    """No step follows it, though the next updates would be finite, and it is named in the end."""
    trainer = build(tiny_sac(algo={"utd_ratio": 20.0})).trainer
    steps: list[float] = []

    def look(trainer: Any, batch: Any, losses: Any) -> None:
        steps.append(loss_of(trainer).log_alpha.item())

    trainer.register_hook(stage, where.__get__(Once()))
    trainer.register_hook(Stage.POST_OPTIM, look)
    with pytest.raises(NonFiniteError, match=found):
        trainer.train()
    assert len(steps) == 20
    assert len(set(steps[:4])) == 4
    assert len(set(steps[3:])) == 1


def test_a_graph_reads_nothing_on_the_host(as_on_a_gpu: list[Again]) -> None:
    """The guard of these tests can fail."""

    class Reads:
        capturable = True

        def __call__(self, trainer: Any, batch: Any, losses: Any) -> None:
            losses["loss_qvalue"].item()

    with pytest.raises(RuntimeError, match="the host reads a tensor"):
        trained(tiny_sac(), post_backward=Reads())


def in_an_attribute(trainer: Any, batch: Any, losses: Any) -> None:
    in_an_attribute.last = losses["loss_qvalue"].clone()  # type: ignore[attr-defined]  # a function keeps it


def read_by_the_next_update(trainer: Any, batch: Any, losses: Any) -> None:
    loss = loss_of(trainer)
    loss.sum = getattr(loss, "sum", torch.zeros(())) + losses["loss_qvalue"]


def a_gradient(trainer: Any, batch: Any, losses: Any) -> None:
    (parameter, *_) = trainer.phases[0].parameters()
    parameter.grad = parameter.grad.clone()


def a_parameter(trainer: Any, batch: Any, losses: Any) -> None:
    (parameter, *_) = trainer.phases[0].parameters()
    parameter.data = parameter.data.clone()


def a_moment(trainer: Any, batch: Any, losses: Any) -> None:
    (state, *_) = trainer.phases[0].optimizers[0].state.values()
    state["exp_avg"] = state["exp_avg"].clone()


@pytest.mark.parametrize(
    "moves", [in_an_attribute, read_by_the_next_update, a_gradient, a_parameter, a_moment]
)
def test_a_graph_leaves_everything_in_its_place(moves: Any, as_on_a_gpu: list[Again]) -> None:
    """The other guard can fail, too."""
    moves.capturable = True
    with pytest.raises(AssertionError):
        trained(tiny_sac(), post_backward=moves)


def test_the_key_turns_it_off(as_on_a_gpu: list[Again]) -> None:
    trainer = build(tiny_sac(capture=False)).trainer
    trainer.train()
    assert as_on_a_gpu == []


def test_a_captured_batch_keeps_what_came(as_on_a_gpu: list[Again]) -> None:
    """Results are handed out without a copy of the memory, but as TensorDicts of their own."""
    given = TensorDict({"x": torch.zeros(2)}, [2])
    graph = capture._Captured(Again(make_trainer()), copied=True)
    for number in range(capture.WARM_UPS + 3):
        batch, losses = graph(lambda b: (b, TensorDict({"loss": b["x"].sum()})), given + number)
        assert losses["loss"] == 2 * number
        batch.set("mine", batch["x"])


# ------------------------------------------------------------------------ on a GPU

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
ON_A_GPU: dict[str, Any] = {
    "total_frames": 60,
    "device": "cuda",
    "algo": {"storage": "device", "max_grad_norm": 1.0},
}


@pytest.fixture
def not_waiting() -> Iterator[dict[str, Any]]:
    """Hooks around each update, which is not to wait for the GPU once all is set up for it.

    Between updates actions are waited for.
    """
    before = torch.cuda.get_sync_debug_mode()

    def begin(trainer: Trainer, rollout: TensorDictBase) -> None:
        if trainer.updates > capture.WARM_UPS:  # the first graph has been captured
            torch.cuda.set_sync_debug_mode("error")

    def end(trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        torch.cuda.set_sync_debug_mode("default")

    yield {"pre_epoch": begin, "post_optim": end}
    torch.cuda.set_sync_debug_mode(before)


@on_a_gpu
def test_on_a_gpu_captured_updates_are_the_others(not_waiting: dict[str, Any]) -> None:
    one, two = (
        trained(tiny_sac(**ON_A_GPU), captured, **not_waiting) for captured in (False, True)
    )
    for name, parameter in loss_of(one).named_parameters():
        torch.testing.assert_close(parameter, dict(loss_of(two).named_parameters())[name])


@on_a_gpu
def test_on_a_gpu_what_waits_is_found(not_waiting: dict[str, Any]) -> None:
    def reads(trainer: Any, batch: Any, losses: Any) -> None:
        losses["loss_qvalue"].item()

    with pytest.raises(RuntimeError, match="synchronizing"):
        trained(tiny_sac(**ON_A_GPU), captured=False, post_backward=reads, **not_waiting)
