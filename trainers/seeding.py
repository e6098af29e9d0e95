"""Seeds, and every random state of the process as data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch. Call it before anything is built: networks draw too."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


EVALUATION = 2**32 - 1
"""Stands for the number of an environment in the seeds of evaluation, which no training shares."""


def episode_seed(seed: int, env: int, episode: int) -> int:
    """A seed of its own for every episode of every environment of a run."""
    return int(np.random.SeedSequence([seed, env, episode]).generate_state(1)[0])


def random_state() -> dict[str, Any]:
    """The state of the global generators, in tensors, numbers and strings."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "words": list(words), "gauss": gauss},
        "numpy": {
            "name": name,
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": position,
            "has_gauss": has_gauss,
            "cached": cached,
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> int:
    """Restore :func:`random_state`; returns for how many generators of GPUs there is no GPU."""
    python, numpy_ = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    keys = numpy_["keys"].numpy().astype(np.uint32)
    np.random.set_state(
        (numpy_["name"], keys, numpy_["position"], numpy_["has_gauss"], numpy_["cached"])
    )
    torch.set_rng_state(state["torch"])
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device, generator in enumerate(state["cuda"][:here]):
        torch.cuda.set_rng_state(generator, device)
    return max(0, len(state["cuda"]) - here)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed every generator for what happens inside; afterwards they are as they were before."""
    state = random_state()
    seed_everything(seed)
    try:
        yield
    finally:
        set_random_state(state)
