"""Seeds and random states."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers import seeding
from trainers.saving import checkpoint


def draw() -> tuple[float, ...]:
    """One number of every generator; the normal ones keep a spare that is part of the state."""
    return (
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
        float(torch.randn(())),
    )


def test_a_seed_fixes_every_generator() -> None:
    seeding.seed_everything(7)
    first = [draw() for _ in range(3)]
    seeding.seed_everything(7)
    assert [draw() for _ in range(3)] == first
    seeding.seed_everything(8)
    other = draw()
    assert all(left != right for left, right in zip(other, first[0], strict=True))


def test_random_states_survive_a_checkpoint(tmp_path: Path) -> None:
    seeding.seed_everything(7)
    draw()
    checkpoint.save(tmp_path / "c", seeding.random_state())
    expected = [draw() for _ in range(700)]  # past the end of a Mersenne Twister's block
    seeding.seed_everything(1)
    seeding.set_random_state(checkpoint.load(tmp_path / "c"))
    assert [draw() for _ in range(700)] == expected


def test_a_part_may_have_its_own_randomness() -> None:
    seeding.seed_everything(7)
    expected = draw()
    seeding.seed_everything(1)
    before = draw()
    seeding.seed_everything(1)

    def fail() -> None:
        with seeding.own_randomness(7):
            assert draw() == expected
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert draw() == before


def test_every_episode_has_its_own_seed() -> None:
    seeds = [
        seeding.episode_seed(seed, env, episode)
        for seed in (0, 1, 2**32 - 1)
        for env in range(10)
        for episode in range(100)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seeds[0] == seeding.episode_seed(0, 0, 0)


@pytest.mark.parametrize("there", [0, 1, 3])
def test_generators_of_gpus_that_are_gone_are_left_out(
    there: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = seeding.random_state()
    saved = [torch.tensor([7, n], dtype=torch.uint8) for n in range(2)]
    restored: dict[int, torch.Tensor] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: restored.update({device: state})
    )
    assert seeding.set_random_state(state | {"cuda": saved}) == max(0, 2 - there)
    assert restored == dict(enumerate(saved[:there]))
