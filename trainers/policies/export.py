"""A trained policy as a file that needs nothing of this package, and a description of it."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.export import ExportedProgram
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers.config.export import ExportError
from trainers.disk import write_whole, writing
from trainers.environments.envs import Envs
from trainers.networks.acting import NumpyPolicy
from trainers.networks.actors import ActingPolicy
from trainers.networks.q_networks import GreedyPolicy
from trainers.policies.description import describe
from trainers.policies.load import LoadedPolicy
from trainers.seeding import EVALUATION, episode_seed, own_randomness

Array = np.ndarray

_SHAPES = {"observation": {0: torch.export.Dim("batch")}}  # of any size
# Float32 arithmetic in another order; what differs by more is another policy.
_TOLERANCE = 1e-4


class EnvPolicy(nn.Module):
    """The deterministic policy in its environment's terms.

    From observations ``[B, n]`` float32, flattened but not normalised, or pictures ``[B, C, H, W]``
    uint8, to actions ``[B, ...]`` as
    :class:`Envs` would hand them to the environment.
    """

    low: Tensor
    high: Tensor

    def __init__(self, policy: nn.Module, envs: Envs) -> None:
        super().__init__()
        # With memory of its own: an optimizer may have put all weights into one piece.
        actor: Any = copy.deepcopy(policy.actor if isinstance(policy, NumpyPolicy) else policy)
        self.mode = _OwnMode(actor) if hasattr(actor, "mode") else _Mode(actor)
        space = envs.action_space
        self.discrete = isinstance(space, gym.spaces.Discrete)
        self.whole = bool(np.issubdtype(space.dtype, np.integer))
        self.shape = tuple(space.shape)
        self.dtype = torch.from_numpy(np.zeros(0, space.dtype)).dtype
        self.rescale, self.clip = envs.rescales, envs.clips
        if self.discrete:
            self.start = int(space.start)
        else:
            # In the type that numpy computes with, given float32 actions and bounds of this type.
            wide = np.promote_types(np.float32, space.dtype)
            self.register_buffer("low", torch.from_numpy(space.low.astype(wide)))
            self.register_buffer("high", torch.from_numpy(space.high.astype(wide)))
        self.requires_grad_(False)

    def forward(self, observation: Tensor) -> Tensor:
        """Step by step what :class:`Envs` does to a policy's actions."""
        action = self.mode(observation).reshape(-1, *self.shape)
        if self.discrete:
            return (action + self.start).to(self.dtype)
        if self.rescale:
            action = 0.5 * (1.0 - action) * self.low + 0.5 * (1.0 + action) * self.high
        if self.clip:
            action = torch.minimum(torch.maximum(action.to(self.low.dtype), self.low), self.high)
        return (action.round() if self.whole else action).to(self.dtype)


class _OwnMode(nn.Module):
    """Of a policy that knows it: a squashed mean, or the action of the largest logit or value."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        return self.policy.mode(observation)


class _Mode(nn.Module):
    """PPO's: the mean of a Gaussian, or the action with the largest logit."""

    def __init__(self, actor: Any) -> None:
        super().__init__()
        # A trunk, if there is one, and the net; last comes the distribution.
        self.net = nn.Sequential(*(actor[index].module for index in range(len(actor) - 1)))

    def forward(self, observation: Tensor) -> Tensor:
        parameters = self.net(observation)
        return parameters[0] if isinstance(parameters, tuple) else parameters.argmax(-1)


# ------------------------------------------------------------------ formats


class Format(NamedTuple):
    """A kind of file."""

    file: str
    packages: tuple[str, ...]  # besides torch
    usage: str
    write: Callable[[ExportedProgram, Path], Any]
    read: Callable[[Path], Callable[[Array], Array]]


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch's of its own
        torch.onnx.export(
            program,
            f=path,
            input_names=["observation"],
            output_names=["action"],
            dynamic_shapes=_SHAPES,  # for the name of the dimension
            dynamo=True,
            external_data=False,  # one file
            verbose=False,
        )


def _read_onnx(path: Path) -> Callable[[Array], Array]:
    import onnxruntime  # type: ignore  # an extra

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda observation: session.run(None, {"observation": observation})[0]


def _write_torch(program: ExportedProgram, path: Path) -> None:
    content = io.BytesIO()
    torch.export.save(program, content)  # given a path, it aborts the process on a full disk
    path.write_bytes(content.getvalue())


def _read_torch(path: Path) -> Callable[[Array], Array]:
    policy = torch.export.load(path).module()  # may unpickle: this process has just written it
    return lambda observation: policy(torch.from_numpy(observation)).numpy()


FORMATS = {
    "onnx": Format(
        "policy.onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        """\
import numpy, onnxruntime
session = onnxruntime.InferenceSession("policy.onnx")
observation = numpy.zeros((1, {shape}), numpy.{dtype})
(action,) = session.run(None, {{"observation": observation}})""",
        _write_onnx,
        _read_onnx,
    ),
    "torch_export": Format(
        "policy.pt2",
        (),
        """\
import torch  # loading may run code that is in the file: only load what you trust
policy = torch.export.load("policy.pt2").module()
observation = torch.zeros((1, {shape}), dtype=torch.{dtype})
action = policy(observation)""",
        _write_torch,
        _read_torch,
    ),
}


def export(loaded: LoadedPolicy, kind: str, directory: Path) -> dict[str, Any]:
    """Write the policy and its description, and compare what was written with the policy.

    Args:
        loaded: whose policy.
        kind: one of :data:`FORMATS`.
        directory: gets the file and ``policy.json``.

    Returns:
        What is in ``policy.json``.

    Raises:
        ExportError: the actions differ by more than rounding explains.
        WriteError: a file cannot be written.
    """
    form, envs = FORMATS[kind], loaded.envs
    path = directory / form.file
    program = _traced(EnvPolicy(loaded.policy, envs).eval(), envs)
    with writing(path):
        form.write(program, path)
    check = compare(loaded, form.read(path))
    shape = ", ".join(map(str, envs.observation_shape))
    usage = form.usage.format(shape=shape, dtype=envs.observation_dtype).splitlines()
    document = {"file": form.file, "format": kind} | describe(loaded, form.packages)
    document |= {"check": check, "usage": usage}
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(directory / "policy.json", f"{text}\n".encode())
    return document


def _traced(policy: nn.Module, envs: Envs) -> ExportedProgram:
    example = torch.from_numpy(np.zeros((2, *envs.observation_shape), envs.observation_dtype))
    program = torch.export.export(policy, (example,), dynamic_shapes=_SHAPES)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


# ------------------------------------------------------------------ the check


def compare(
    loaded: LoadedPolicy, exported: Callable[[Array], Array], number: int = 1_000
) -> dict[str, Any]:
    """Ask both for ``number`` actions; returns their number and the largest difference.

    Raises:
        ExportError: it is a large one.
    """
    observations = _observations(loaded, number)
    raw, actions = _actions(loaded, observations), exported(observations)
    right = _prepared(loaded, raw)
    if (actions.shape, actions.dtype) != (right.shape, right.dtype):
        kinds = (f"{array.dtype} {list(array.shape)}" for array in (actions, right))
        raise ExportError("the exported policy gives {}, the original {}".format(*kinds))
    apart = np.abs(actions.astype(np.float64) - right.astype(np.float64))
    close = apart <= _TOLERANCE * (1.0 + np.abs(right))  # NaN is not
    if not close.all() and np.issubdtype(right.dtype, np.integer):
        close |= _tied(loaded, observations, raw, actions)
    if not close.all():
        raise ExportError(f"the exported policy differs from the original by {apart.max():.3g}")
    return {"observations": number, "largest_difference": float(apart.max())}


@torch.no_grad()
def _observations(loaded: LoadedPolicy, number: int) -> Array:
    """``[number, ...]``, of episodes of the environment in which the policy explores."""
    envs, seed = loaded.envs, loaded.config.eval.seed
    seen: list[Array] = []
    with own_randomness(seed):
        done = np.ones(1, bool)
        observation = np.zeros(0)
        for step in range(number):
            if done.any():
                observation = envs.reset([episode_seed(seed, EVALUATION, step)])
            seen.append(observation)
            data = TensorDict({"observation": torch.from_numpy(observation)}, [1])
            action = loaded.policy(data)["action"].numpy()
            observation, _, terminated, truncated = envs.step(action)
            done = terminated | truncated
    return np.concatenate(seen)


@torch.no_grad()
def _actions(loaded: LoadedPolicy, observations: Array) -> Array:
    """What the original does, as it leaves the policy."""
    data = TensorDict({"observation": torch.from_numpy(observations)}, [len(observations)])
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        return loaded.policy(data)["action"].numpy()


def _prepared(loaded: LoadedPolicy, actions: Array) -> Array:
    """As the environments hand them on."""
    return np.concatenate([loaded.envs._prepared(action[None]) for action in actions])


def _tied(loaded: LoadedPolicy, observations: Array, raw: Array, actions: Array) -> Array:
    """Where whole numbers are others than the original's, but only by how a tie was broken.

    A tie of several of the best values, or between two numbers to round to.
    """
    space = loaded.envs.action_space
    if not isinstance(space, gym.spaces.Discrete):
        error = _TOLERANCE * (1.0 + np.abs(raw))
        low, high = _prepared(loaded, raw - error), _prepared(loaded, raw + error)
        return (actions == low) | (actions == high)
    values = _values(loaded.policy, torch.from_numpy(observations)).numpy()
    best = values.max(-1, keepdims=True)
    as_good = best - values <= _TOLERANCE * (1.0 + np.abs(best))
    numbers = space.start + np.arange(space.n)
    return (as_good & (actions[:, None] == numbers)).any(-1)


@torch.no_grad()
def _values(policy: nn.Module, observations: Tensor) -> Tensor:
    """Of which the action is the largest, values or logits ``[B, actions]``."""
    actor: Any = policy.actor if isinstance(policy, NumpyPolicy) else policy
    if isinstance(actor, GreedyPolicy):
        return actor.values(observations)
    actor = actor.actor if isinstance(actor, ActingPolicy) else actor
    return actor(TensorDict({"observation": observations}, [len(observations)]))["logits"]
