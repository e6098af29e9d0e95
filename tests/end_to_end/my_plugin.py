"""What a user might bring along: an environment, a loss, a critic and hooks."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR
from torchrl.objectives import SACLoss, ValueEstimators
from torchrl.objectives.value import TD0Estimator

from trainers.hooks import Replay, StepLRScheduler
from trainers.plugins import hooks, losses, networks, wrappers
from trainers.trainer import Trainer

TRAINERS: list[Trainer] = []
CALLS: list[str] = []


class Fragile(gym.Env):
    """Episodes of four steps; in its step or reset number `at` it shows its `fault`."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, fault: str = "", at: int = 0) -> None:
        self.fault, self.at = fault, at
        self.steps = self.resets = self.step_number = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.resets += 1
        self.step_number = 0
        if self._shows("raises in reset", self.resets):
            raise RuntimeError("the door is locked")
        return self._observation("nan in reset", self.resets), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.step_number += 1
        if self._shows("raises", self.steps):
            raise RuntimeError("the wheel came off")
        if self._shows("dies", self.steps):
            os._exit(7)
        paid = float(np.atleast_1d(action)[0])
        reward = np.nan if self._shows("nan reward", self.steps) else paid
        return self._observation("nan", self.steps), reward, self.step_number == 4, False, {}

    def _observation(self, fault: str, number: int) -> np.ndarray:
        observation = self.np_random.normal(size=2)
        if self._shows(fault, number):
            observation[1] = np.nan
        if self._shows("inf", number):
            observation[0] = -np.inf
        return observation

    def _shows(self, fault: str, number: int) -> bool:
        return self.fault == fault and number == self.at


class Choosy(Fragile):
    """One of two things can be done."""

    action_space = gym.spaces.Discrete(2)


class Free(Fragile):
    """Its actions know no bounds."""

    action_space = gym.spaces.Box(-np.inf, np.inf, (1,))


class Camera(Fragile):
    """It promises pictures."""

    observation_space = gym.spaces.Dict(pixels=gym.spaces.Box(0, 255, (8, 8, 3), np.uint8))


class Forgetful(Fragile):
    """Observes how often it was reset since it was made, which no seed brings back."""

    def _observation(self, fault: str, number: int) -> np.ndarray:
        return np.array([self.resets, self.step_number], np.float64)


gym.register("mine/Forgetful-v0", Forgetful, disable_env_checker=True)
gym.register("mine/Fragile-v0", Fragile, disable_env_checker=True)
gym.register("mine/Choosy-v0", Choosy, disable_env_checker=True)
gym.register("mine/Free-v0", Free, disable_env_checker=True)
gym.register("mine/Camera-v0", Camera, disable_env_checker=True)


@wrappers.register("penny")
class Penny(gym.RewardWrapper):
    """Rewards every step with 1/64 more."""

    def reward(self, reward: Any) -> float:
        return float(reward) + 1 / 64


@losses.register("my_loss")
class MyLoss(SACLoss):
    """SAC's loss and a scalar more; in update `NAN_AT` its critics' loss is NaN."""

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        result = super().forward(tensordict)
        result["mine"] = torch.tensor(42.0)
        CALLS.append("loss")
        if len(CALLS) == int(os.environ.get("NAN_AT", "0")):
            result["loss_qvalue"] = result["loss_qvalue"] * torch.nan
        return result


@losses.register("renamed")
class Renamed(SACLoss):
    """Has its own names for its errors and their weights, and does not touch alpha."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.set_keys(priority="surprise", priority_weight="importance")
        self.select_out_keys("loss_actor", "loss_qvalue")


@losses.register("short_sighted")
class ShortSighted(SACLoss):
    """Brings its own value estimator."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.make_value_estimator(TD0Estimator, gamma=0.25, value_network=None)


@losses.register("far_sighted")
class FarSighted(SACLoss):
    """Another estimator by default."""

    default_value_estimator = ValueEstimators.TDLambda


@networks.register("my_critic")
class MyCritic(nn.Module):
    """A linear one."""

    def __init__(self, num_observations: int, num_actions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_observations + num_actions, 1)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        CALLS.append("critic")
        return self.linear(torch.cat([observation, action], -1))


@hooks.register("spy")
def spy(trainer: Trainer) -> None:
    """Lets a test look at the trainer."""
    TRAINERS.append(trainer)


@hooks.register("count")
def count(trainer: Trainer) -> None:
    """Adds a number to the metrics."""
    trainer.register_hook("post_steps", Count())


class Count:
    """Counts iterations, over resumes."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        self.number += 1
        trainer.metrics.set("train/iterations", self.number)

    def state_dict(self) -> dict[str, int]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.number = state["number"]


@hooks.register("clash")
def clash(trainer: Trainer) -> None:
    """Takes the name of one of the run's own hooks."""
    trainer.register_hook("post_steps", Count(), name="checkpoints")


@hooks.register("decay")
def decay(trainer: Trainer) -> None:
    """Lowers the learning rates in every update, each from the one before."""
    (optimizer,) = trainer.phases[0].optimizers
    trainer.register_hook("post_optim", StepLRScheduler(ExponentialLR(optimizer, 0.99)))


@hooks.register("signal")
def send(trainer: Trainer) -> None:
    """Sends this process `SIGNAL` in update `UPDATE`, or else at frame `FRAME` after a `PAUSE`."""
    number = signal.Signals[os.environ["SIGNAL"]]

    def in_update(trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase) -> None:
        if trainer.updates == int(os.environ["UPDATE"]):
            os.kill(os.getpid(), number)

    def at_frame(trainer: Trainer, rollout: TensorDictBase) -> None:
        if trainer.frames == int(os.environ["FRAME"]):
            time.sleep(float(os.environ.get("PAUSE", "0")))
            os.kill(os.getpid(), number)

    if "UPDATE" in os.environ:
        trainer.register_hook("post_optim", in_update)
    else:
        trainer.register_hook("post_collect", at_frame)


@hooks.register("insist")
def insist(trainer: Trainer) -> None:
    """Sends this process SIGTERM, and a while later, the hook not at its end yet, once more."""

    def twice(trainer: Trainer, rollout: TensorDictBase) -> None:
        if trainer.frames == int(os.environ["FRAME"]):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(float(os.environ["PAUSE"]))
            os.kill(os.getpid(), signal.SIGTERM)
            CALLS.append("survived")

    trainer.register_hook("post_collect", twice)


@hooks.register("block")
def block(trainer: Trainer) -> None:
    """Puts something else in the place of `FILE` at frame `FRAME`, and takes it away at `UNTIL`."""
    path = Path(os.environ["FILE"])

    def swap(trainer: Trainer, rollout: TensorDictBase) -> None:
        if trainer.frames == int(os.environ["FRAME"]):
            if path.is_dir():
                shutil.rmtree(path)
                path.touch()
            else:
                path.unlink()
                path.mkdir()
        if trainer.frames == int(os.environ.get("UNTIL", "0")):
            path.unlink()

    trainer.register_hook("post_collect", swap)


@hooks.register("until")
def until(trainer: Trainer) -> None:
    """Interrupts the run once there is a `FILE`."""
    path = Path(os.environ["FILE"])

    def look(trainer: Trainer, rollout: TensorDictBase) -> None:
        time.sleep(0.05)  # whoever writes it needs the processor as well
        if path.exists():
            trainer.stop(f"there is {path}", interrupted=True)

    trainer.register_hook("post_steps", look)


@hooks.register("memory")
def memory(trainer: Trainer) -> None:
    """Adds the resident size of this process, now and at most, to the metrics."""

    def resident(trainer: Trainer, *data: Any) -> None:
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, size = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                trainer.metrics.set(f"memory/{name}", int(size.split()[0]) / 1024)

    trainer.register_hook("post_steps", resident)
    trainer.register_hook("shutdown", resident, name="resident_at_the_end")


@hooks.register("fill")
def fill(trainer: Trainer) -> None:
    """Fills the replay buffer with random frames after the first rollout."""
    (replay,) = (thing for thing in gc.get_objects() if type(thing) is Replay)

    def once(trainer: Trainer, rollout: TensorDictBase) -> None:
        if trainer.frames == rollout.numel():
            chunk = rollout.reshape(-1)[:1].expand(10_000).clone()
            while len(replay.buffer) < replay.buffer.storage.max_size:
                replay.extend(
                    trainer,
                    chunk.apply(lambda t: t if t.dtype == torch.bool else torch.randn_like(t)),
                )

    trainer.register_hook("post_collect", once)
