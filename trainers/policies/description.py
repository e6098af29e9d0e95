"""What goes into a policy and what comes out, as plain data that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gymnasium as gym
import numpy as np

from trainers.environments.single import make_env
from trainers.policies.load import LoadedPolicy

_PACKAGES = ("trainers", "torch", "torchrl", "tensordict", "gymnasium", "numpy")


def describe(loaded: LoadedPolicy, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Inputs and outputs of the deterministic policy in its environment's terms, and the run.

    Args:
        loaded: whose policy.
        packages: whose versions are told besides the usual ones.
    """
    config, envs = loaded.config, loaded.envs
    space = envs.action_space
    with closing(make_env(config.env)) as env:
        observation = {"low": 0, "high": 255}  # of pictures
        if isinstance(envs.inputs, int):
            observation = _bounds(env.observation_space) | {"layout": _layout(env)}
    action = _bounds(space) | ({"clipped": envs.clips} if isinstance(space, gym.spaces.Box) else {})
    return {
        "inputs": [
            _array("observation", envs.observation_shape, str(envs.observation_dtype)) | observation
        ],
        "outputs": [_array("action", space.shape, str(space.dtype)) | action],
        "env_id": config.env.id,
        "algo": config.algo.name,
        "seed": config.seed,
        "frames": loaded.frames,
        "weights": loaded.source.name,
        "versions": {name: _version(name) for name in (*_PACKAGES, *packages)},
    }


def _array(name: str, shape: Sequence[int], dtype: str) -> dict[str, Any]:
    return {"name": name, "shape": ["batch", *shape], "dtype": dtype}


def _bounds(space: Any) -> dict[str, Any]:
    """The smallest and largest values, None where there is no limit."""
    if isinstance(space, gym.spaces.Discrete):
        return {"low": int(space.start), "high": int(space.start + space.n) - 1}
    return {"low": _finite(space.low), "high": _finite(space.high)}


def _finite(bound: np.ndarray) -> Any:
    there = np.isfinite(bound)
    values = bound.astype(object)
    values[~there] = None
    return values.tolist() if there.any() else None


def _layout(env: Any) -> list[dict[str, Any]]:
    """Which part of an observation is where in the vector."""
    inner = env.env  # within the recorder
    flattened = isinstance(inner, gym.wrappers.FlattenObservation)
    space = inner.env.observation_space if flattened else inner.observation_space
    layout, start = [], 0
    for name, part in _parts(space, "observation"):
        end = start + gym.spaces.flatdim(part)
        words = " ".join(str(part).split())
        layout.append({"part": name, "start": start, "end": end, "space": words})
        start = end
    return layout


def _parts(space: gym.Space, name: str) -> Iterator[tuple[str, gym.Space]]:
    """The spaces that a nested one consists of, in the order in which they are flattened."""
    if isinstance(space, (gym.spaces.Dict, gym.spaces.Tuple)):
        inner = space.spaces
        for key, part in inner.items() if isinstance(inner, dict) else enumerate(inner):
            yield from _parts(part, f"{name}[{key!r}]")
    else:
        yield name, space


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # not installed, but run from a directory
        return None
