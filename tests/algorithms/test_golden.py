"""Golden losses: twenty updates of every algorithm, from fixed data, are what they were.

The numbers are in ``golden/NAME.json``, bit for bit. Which bits come out depends on the processor,
its instructions, the threads and the versions of torch and numpy, so the file says what it was made
with: where all of that is the same the bits have to be, elsewhere the numbers to a part in 10,000.

An algorithm that is new, or whose losses are meant to be others, gets its file by::

    python tests/algorithms/test_golden.py NAME...      # without a name: every algorithm's
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

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
Losses = list[dict[str, float]]


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
        algo=kind(**small),
        env=env_config(task_of(name), num_envs=NUM_ENVS),
        network=NetworkConfig(hidden=[16, 16]),
        total_frames=10_000,
        device="cpu",
    )


def losses_of(name: str) -> Losses:
    """Every scalar that the loss returns, of the first updates."""
    built, found = build(config_of(name)), []
    trainer = built.trainer
    trainer.collector = FixedRollouts(built)

    def note(trainer: Any, batch: Any, losses: Any) -> None:
        found.append({key: v.item() for key, v in sorted(losses.items()) if v.numel() == 1})
        if len(found) >= UPDATES:
            trainer.stop("enough")

    trainer.register_hook("post_optim", note, name="note")
    trainer.train()
    return found[:UPDATES]


def made_with() -> dict[str, str]:
    """What the bits depend on."""
    now = surroundings(torch.device("cpu"))
    chosen = {key: now[key] for key in ("torch", "numpy", "cpu", "threads")}
    return chosen | {"capability": torch.backends.cpu.get_cpu_capability()}


def write(name: str) -> None:
    """What comes out now is what has to come out from now on."""
    losses = [{key: v.hex() for key, v in update.items()} for update in losses_of(name)]
    GOLDEN.mkdir(exist_ok=True)
    text = json.dumps({"made_with": made_with(), "losses": losses}, indent=1)
    (GOLDEN / f"{name}.json").write_text(text + "\n")


def read(name: str) -> tuple[dict[str, str], Losses]:
    """What they were made with, and the losses."""
    path = GOLDEN / f"{name}.json"
    if not path.is_file():
        pytest.fail(
            f"there are no golden losses of algo={name}: if its losses are right, write {path} "
            f"with `python tests/algorithms/test_golden.py {name}`"
        )
    stored = json.loads(path.read_text())
    losses = [{k: float.fromhex(v) for k, v in update.items()} for update in stored["losses"]]
    return stored["made_with"], losses


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
def test_losses_are_what_they_were(name: str) -> None:
    surroundings_then, expected = read(name)
    assert len(expected) == UPDATES
    bitwise = surroundings_then == made_with()
    found = difference(losses_of(name), expected, bitwise)
    assert found is None, f"{found} ({'bit for bit' if bitwise else 'to 1e-4'}); {__doc__}"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_twice_they_are_the_same(name: str) -> None:
    first, second = losses_of(name), losses_of(name)
    assert difference(first, second, bitwise=True) is None
    assert len(first) == UPDATES
    assert all(np.isfinite(list(update.values())).all() for update in first)


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
        print(f"wrote {GOLDEN / each}.json")
