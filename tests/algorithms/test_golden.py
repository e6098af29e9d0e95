"""Golden losses: twenty updates of every algorithm, from fixed data, are what they were.

The numbers are in ``golden/NAME.json``, bit for bit. Which bits come out depends on the processor,
its instructions, the threads and the versions of torch and numpy, so the file has a record for each
of these it was made with. Where there is one of the same the bits have to be the same; from all
others the numbers may differ by a part in 10,000.

An algorithm that is new, or whose losses are meant to be others, and a machine that has no record,
get theirs by::

    python tests/algorithms/test_golden.py NAME...      # without a name: every algorithm's

Records of other machines stay if the numbers are near theirs, and else are gone.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # as tests/conftest.py and pytest have it
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np
import pytest
import torch
from support.algorithms import task_of
from support.environments import env_config
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical

from trainers.build import ALGORITHMS, Built, build
from trainers.config import AlgoConfig, NetworkConfig, TrainConfig
from trainers.environments.envs import Envs
from trainers.saving.restoring import surroundings

GOLDEN = Path(__file__).parent / "golden"
UPDATES = 20
NUM_ENVS, STEPS = 2, 8
# Whichever of these an algorithm has: many updates from few frames.
SMALL: dict[str, Any] = {
    "batch_size": 16,
    "buffer_size": 1_000,
    "init_random_frames": 32,
    "minibatch_size": 8,
    "num_epochs": 2,
    "v_min": -100.0,
    "v_max": 100.0,
}
# Actors step several times, and the warm-up of all of CrossQ's normalisations ends.
OWN: dict[str, dict[str, Any]] = {
    "crossq": {"policy_delay": 2, "renorm_warm_up": 8},
    "redq": {"policy_delay": 4},
}
Losses = list[dict[str, float]]


class Record(NamedTuple):
    """Losses, and what their bits depend on."""

    made_with: dict[str, str]
    losses: Losses


class FixedRollouts:
    """A collector of made-up rollouts; a quarter of the frames ends an episode, somehow."""

    def __init__(self, built: Built) -> None:
        self.built = built
        self.envs: Envs = built.trainer.collector.envs
        self.random = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[TensorDict]:
        while True:
            rollout = self._rollout()
            if hasattr(self.built.policy, "describe"):
                self.built.policy.describe(rollout)  # log-probabilities, as our collector does
            yield rollout

    def _rollout(self) -> TensorDict:
        shape = (NUM_ENVS, STEPS)

        def normal(*last: int) -> Tensor:
            return torch.randn(*shape, *last, generator=self.random)

        ends = torch.rand(*shape, 1, generator=self.random)
        observation = normal(self.envs.num_observations)
        terminated, truncated = ends < 0.125, (ends >= 0.125) & (ends < 0.25)
        done = terminated | truncated
        fresh = normal(self.envs.num_observations)
        following = {
            "observation": torch.where(
                done, fresh, torch.cat([observation[:, 1:], fresh[:, :1]], 1)
            ),
            "reward": normal(1),
            "done": done,
            "terminated": terminated,
            "truncated": truncated,
        }
        data = {
            "observation": observation,
            "action": self._action(shape),
            "next": TensorDict(following, shape),
        }
        return TensorDict(data, shape)

    def _action(self, shape: tuple[int, int]) -> Tensor:
        spec: Any = self.envs.action_spec
        if isinstance(spec, Categorical):
            return torch.randint(spec.n, shape, generator=self.random)
        unit = torch.rand(*shape, spec.shape[-1], generator=self.random)
        return spec.space.low + (spec.space.high - spec.space.low) * unit

    def state_dict(self) -> dict[str, Any]:
        return {}

    def shutdown(self) -> None:
        self.envs.close()


def config_of(name: str) -> TrainConfig:
    """As configured by default, on small batches and networks."""
    kind = AlgoConfig.known[name]
    known = {spec.name for spec in fields(kind)}
    small = {key: value for key, value in SMALL.items() if key in known}
    if kind.on_policy:
        small["frames_per_batch"] = NUM_ENVS * STEPS
    return TrainConfig(
        algo=kind(**(small | OWN.get(name, {}))),
        env=env_config(task_of(name), num_envs=NUM_ENVS),
        network=NetworkConfig(hidden=[16, 16]),
        total_frames=10_000,
        device="cpu",
    )


def trained(name: str) -> tuple[Built, Losses]:
    """Every scalar that the loss returns, of the first updates, and what has made these."""
    built, found = build(config_of(name)), []
    trainer = built.trainer
    trainer.collector = FixedRollouts(built)

    def note(trainer: Any, batch: Any, losses: Any) -> None:
        found.append({key: v.item() for key, v in sorted(losses.items()) if v.numel() == 1})
        if len(found) >= UPDATES:
            trainer.stop("enough")

    trainer.register_hook("post_optim", note, name="note")
    trainer.train()
    return built, found[:UPDATES]


@cache
def losses_of(name: str) -> Losses:
    """What comes out now."""
    return trained(name)[1]


def path_of(name: str) -> Path:
    """Of an algorithm's records."""
    return GOLDEN / f"{name}.json"


def made_with() -> dict[str, str]:
    """What the bits depend on."""
    now = surroundings(torch.device("cpu"))
    chosen = {key: now[key] for key in ("torch", "numpy", "cpu", "threads")}
    return chosen | {"capability": torch.backends.cpu.get_cpu_capability()}


def write(name: str) -> None:
    """What comes out now is what has to come out from now on."""
    now, losses = made_with(), losses_of(name)
    kept = [
        each
        for each in (read(name) if path_of(name).is_file() else [])
        if each.made_with != now and difference(losses, each.losses, bitwise=False) is None
    ]
    records = [
        {
            "made_with": each.made_with,
            "losses": [{key: v.hex() for key, v in update.items()} for update in each.losses],
        }
        for each in [*kept, Record(now, losses)]
    ]
    GOLDEN.mkdir(exist_ok=True)
    path_of(name).write_text(json.dumps(records, indent=1) + "\n")


def read(name: str) -> list[Record]:
    """All there are."""
    path = path_of(name)
    if not path.is_file():
        pytest.fail(
            f"there are no golden losses of algo={name}: if its losses are right, write {path} "
            f"with `python tests/algorithms/test_golden.py {name}`"
        )
    return [
        Record(
            each["made_with"],
            [{k: float.fromhex(v) for k, v in update.items()} for update in each["losses"]],
        )
        for each in json.loads(path.read_text())
    ]


def difference(found: Losses, expected: Losses, bitwise: bool) -> str | None:
    """The first one, in words; None if there is none."""
    if len(found) != len(expected):
        return f"{len(found)} updates, expected {len(expected)}"
    for number, (one, two) in enumerate(zip(found, expected, strict=True), start=1):
        if one.keys() != two.keys():
            return f"update {number} has {sorted(one)}, expected {sorted(two)}"
        for key, value in two.items():
            # At least a part in 10,000 of 1: what is left of large numbers has their errors.
            near = math.isclose(one[key], value, rel_tol=1e-4, abs_tol=1e-4)
            if not (one[key].hex() == value.hex() if bitwise else near):
                return f"{key} of update {number} is {one[key]!r}, expected {value!r}"
    return None


@pytest.mark.parametrize("name", ALGORITHMS)
def test_losses_are_near_what_they_were_anywhere(name: str) -> None:
    for record in read(name):
        assert len(record.losses) == UPDATES
        found = difference(losses_of(name), record.losses, bitwise=False)
        assert found is None, f"{found} (to 1e-4; {record.made_with}); {__doc__}"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_losses_are_bit_for_bit_what_they_were_here(name: str) -> None:
    here = [record for record in read(name) if record.made_with == made_with()]
    if not here:
        pytest.skip(f"no bitwise record for this machine: {made_with()}")
    found = difference(losses_of(name), here[0].losses, bitwise=True)
    assert found is None, f"{found} (bit for bit); {__doc__}"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_twice_they_are_the_same(name: str) -> None:
    first, (_, second) = losses_of(name), trained(name)
    assert difference(first, second, bitwise=True) is None
    assert len(first) == UPDATES
    assert all(np.isfinite(list(update.values())).all() for update in first)


@pytest.mark.parametrize(
    "name", [n for n in ALGORITHMS if "policy_delay" in AlgoConfig.known[n].__dataclass_fields__]
)
def test_an_actor_that_is_delayed_steps_several_times(name: str) -> None:
    steps = [number for number, losses in enumerate(losses_of(name)) if "loss_actor" in losses]
    assert 3 <= len(steps) < UPDATES


def test_the_warm_up_of_all_normalisations_ends() -> None:
    built, _ = trained("crossq")
    state = built.trainer.phases[0].loss.state_dict()
    batches = [value for key, value in state.items() if key.endswith("batches")]
    assert len(batches) == 6  # before each layer of the actor, and of the critics
    assert all((each > OWN["crossq"]["renorm_warm_up"]).all() for each in batches)


def test_records_of_several_machines_are_kept_while_they_are_near(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "GOLDEN", tmp_path)
    nudged = [{key: value + 1e-6 for key, value in update.items()} for update in losses_of("dqn")]
    wrong = [{key: value + 1.0 for key, value in update.items()} for update in losses_of("dqn")]
    for cpu, losses in [("another", wrong), ("near", nudged), (None, losses_of("dqn"))]:
        now = made_with() | ({"cpu": cpu} if cpu else {})
        with monkeypatch.context() as there:
            there.setattr(sys.modules[__name__], "made_with", lambda now=now: now)
            there.setattr(sys.modules[__name__], "losses_of", lambda name, losses=losses: losses)
            write("dqn")
            write("dqn")
    assert [record.made_with["cpu"] for record in read("dqn")] == ["near", made_with()["cpu"]]
    assert [record.losses for record in read("dqn")] == [nudged, losses_of("dqn")]


def test_a_difference_is_seen() -> None:
    losses = [{"loss_actor": 1.0, "alpha": 0.0}, {"loss_actor": 2.0, "alpha": 0.5}]
    nudged = [losses[0], {**losses[1], "alpha": math.nextafter(0.5, 1.0)}]
    assert difference(losses, losses, bitwise=True) is None
    assert "alpha of update 2" in (difference(nudged, losses, bitwise=True) or "")
    assert difference(nudged, losses, bitwise=False) is None
    assert difference([losses[0], {**losses[1], "alpha": 0.51}], losses, bitwise=False) is not None
    assert "1 updates" in (difference(losses[:1], losses, bitwise=True) or "")
    assert "update 1 has" in (difference([{"alpha": 0.0}, losses[1]], losses, bitwise=True) or "")


def test_no_file_is_left_of_an_algorithm_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} <= set(ALGORITHMS)


def test_an_algorithm_without_a_file_is_told_how_to_get_one() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"test_golden\.py nosuch"):
        read("nosuch")


if __name__ == "__main__":
    for each in sys.argv[1:] or ALGORITHMS:
        write(each)
        print(f"wrote {path_of(each)}")
