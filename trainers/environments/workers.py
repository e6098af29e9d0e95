"""Environments in processes of their own, which may die and are replaced."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from trainers.environments.single import observation_type
from trainers.environments.sync import TOLD
from trainers.processes import end_with, in_lasting_thread

logger = logging.getLogger("trainers")

_GRACE_S = 5.0  # for a worker to close its environment


class WorkerEnvs:
    """Each environment in a worker; all of them step at once.

    Args:
        makers: of the environments, called in the workers.
        timeout_s: a worker that takes longer over anything counts as hung.
        restarts: so many workers that died or hung are replaced, over the whole run. The episode of
            one is cut off: its last step has the reward 0 and counts as truncated, in the
            observation it began with, because the outcome is unknown.

    Attributes:
        replaced: so many have been, which a run that is resumed has to be told.
        single_observation_space: Gymnasium's, of one environment.
        single_action_space: likewise.
        processes: the workers.

    Raises:
        Exception: anywhere, what an environment raised; its traceback there is a note of it.
        RuntimeError: a worker was lost, and no restarts are left.
    """

    def __init__(
        self, makers: Sequence[Callable[[], gym.Env]], timeout_s: float, restarts: int
    ) -> None:
        self._makers = list(makers)
        self._timeout_s = timeout_s
        self._restarts = restarts
        self.replaced = 0
        self._closed = False
        self._cut: set[int] = set()  # replaced since the last step: their episodes are over
        self.processes: list[Any] = [None] * len(makers)
        self._pipes: list[Any] = [None] * len(makers)
        for index in range(len(makers)):
            self._start(index)
        try:
            spaces = self._answers({0: ("spaces",)})[0]
        except BaseException:
            self.close()
            raise
        self.single_observation_space, self.single_action_space = spaces
        shape = self.single_observation_space.shape or ()
        kind = observation_type(self.single_observation_space)
        self._observation = np.zeros((len(makers), *shape), kind)

    def reset(
        self, *, seed: Sequence[int], options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New episodes, or only where ``options["reset_mask"]`` says so."""
        number = len(self.processes)
        mask = [True] * number if options is None else options["reset_mask"]
        observation = self._observation.copy()
        requests = {index: ("reset", seed[index]) for index in range(number) if mask[index]}
        for index, answer in self._answers(requests).items():
            observation[index] = answer
            self._cut.discard(index)
        self._observation = observation
        return observation, {}

    def step(self, actions: np.ndarray) -> Any:
        """One step of each."""
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: np.ndarray) -> None:
        """Have a step of each begun."""
        for index, action in enumerate(actions):
            if index not in self._cut:
                self._ask(index, ("step", action))

    def step_wait(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """What came of it."""
        number = len(self.processes)
        observation = self._observation.copy()
        reward = np.zeros(number)
        terminated, truncated = np.zeros(number, bool), np.zeros(number, bool)
        infos: dict[str, Any] = {}
        asked = [index for index in range(number) if index not in self._cut]
        answers, lost = self._receive_all(asked, self._timeout_s)
        for index, loss in lost.items():
            self._replace(index, loss)
        truncated[[*self._cut, *lost]] = True
        self._cut.clear()
        for index, answer in answers.items():
            observation[index], reward[index], terminated[index], truncated[index] = answer[:4]
            for key, value in answer[4].items():
                infos.setdefault(key, np.zeros(number, bool))[index] = value
        self._observation = observation
        return observation, reward, terminated, truncated, infos

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """The results of a method of each."""
        requests = dict.fromkeys(range(len(self.processes)), ("call", name, arguments))
        return tuple(self._answers(requests, cuts=True).values())

    def replay(self, episodes: Sequence[dict[str, Any]]) -> np.ndarray:
        """Bring each to where its episode was; returns the observations there."""
        steps = max(0 if e["actions"] is None else len(e["actions"]) for e in episodes)
        requests = {
            index: ("call", "replay_episode", ({index: episode},))
            for index, episode in enumerate(episodes)
        }
        answers = self._answers(requests, timeout_s=(1 + steps) * self._timeout_s)
        self._observation = np.array(list(answers.values()), self._observation.dtype)
        return self._observation.copy()

    def close(self) -> None:
        """End the environments and the workers, and wait for them; those that hang are killed."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes:
            with suppress(OSError):  # it is dead, or reads nothing
                os.set_blocking(pipe.fileno(), False)
                pipe.send(("close",))
        deadline = time.monotonic() + _GRACE_S
        for process, pipe in zip(self.processes, self._pipes, strict=True):
            process.join(max(0.0, deadline - time.monotonic()))
            _kill(process)
            pipe.close()

    # ------------------------------------------------------------------ workers

    def _start(self, index: int) -> None:
        # Importing torchrl makes "spawn" the default: slow, and it knows no plugins.
        context = multiprocessing.get_context("fork")
        self._pipes[index], theirs = context.Pipe()
        _limit_sending(self._pipes[index], self._timeout_s)
        mine = [pipe for pipe in self._pipes if pipe is not None]
        self.processes[index] = context.Process(
            target=_work, args=(self._makers[index], theirs, mine, os.getpid()), daemon=True
        )
        in_lasting_thread(self.processes[index].start)
        theirs.close()

    def _replace(self, index: int, loss: _LostError) -> None:
        """Another worker for one that is lost, if there are restarts left."""
        process = self.processes[index]
        process.join(0.2)
        cause = str(loss) if process.is_alive() else _cause_of_death(process.exitcode)
        _kill(process)
        self._pipes[index].close()
        if self.replaced >= self._restarts:
            raise RuntimeError(
                f"the worker of environment {index} {cause}; no restart is left "
                "(env.worker_restarts)"
            ) from loss
        self.replaced += 1
        logger.warning(
            "the worker of environment %d %s: it is replaced, its episode counts as truncated; "
            "%d restarts are left", index, cause, self._restarts - self.replaced,
        )  # fmt: skip
        self._start(index)

    def _answers(
        self, requests: dict[int, Any], cuts: bool = False, timeout_s: float | None = None
    ) -> dict[int, Any]:
        """Ask all of them at once; those that are lost over it are replaced and asked again.

        ``cuts``: the episode of one that is replaced is over, which the next step will tell.
        """
        answers: dict[int, Any] = {}
        while len(answers) < len(requests):
            asked = [index for index in requests if index not in answers]
            for index in asked:
                self._ask(index, requests[index])
            found, lost = self._receive_all(asked, timeout_s or self._timeout_s)
            answers |= found
            for index, loss in lost.items():
                self._replace(index, loss)
                if cuts:
                    self._cut.add(index)
        return {index: answers[index] for index in requests}

    def _receive_all(
        self, asked: Sequence[int], timeout_s: float
    ) -> tuple[dict[int, Any], dict[int, _LostError]]:
        """The answers, and those that are lost; an error only when every answer is in.

        One that stayed in its pipe would be taken for the answer to the next request.
        """
        deadline = time.monotonic() + timeout_s
        answers: dict[int, Any] = {}
        lost: dict[int, _LostError] = {}
        first: Exception | None = None
        for index in asked:
            try:
                answers[index] = self._receive(index, deadline)
            except _LostError as loss:
                lost[index] = loss
            except Exception as error:
                first = first or error
        if first is not None:
            raise first
        return answers, lost

    def _ask(self, index: int, request: Any) -> None:
        with suppress(OSError):  # it is dead or hung, which shows when its answer is waited for
            self._pipes[index].send(request)

    def _receive(self, index: int, deadline: float) -> Any:
        try:
            if not self._pipes[index].poll(max(0.0, deadline - time.monotonic())):
                raise _LostError(f"has been busy for {self._timeout_s:g} s (env.worker_timeout_s)")
            answer, error = self._pipes[index].recv()
        except (EOFError, OSError) as end:
            raise _LostError("closed its connection") from end
        if error is not None:
            raise error
        return answer


def _limit_sending(pipe: Connection, timeout_s: float) -> None:
    """Have a `send` that nobody reads fail after so long, instead of waiting for ever."""
    # The limit is the socket's, whichever descriptor sets it.
    with socket.socket(fileno=os.dup(pipe.fileno())) as end:
        microseconds = max(1, int(1e6 * timeout_s))
        limit = struct.pack("ll", *divmod(microseconds, 1_000_000))
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    os.set_blocking(pipe.fileno(), True)  # whatever default a user has given to sockets


class _LostError(Exception):
    """A worker does not answer any more."""


def _kill(process: Any) -> None:
    """With all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it is dead, or has not come as far as to lead a group of its own
        process.kill()
    process.join()


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"died (exit code {code})"


def _work(
    maker: Callable[[], gym.Env], pipe: Connection, parents: Iterable[Connection], trainer: int
) -> None:
    """A worker: answers until it is told to close, or nobody is there to tell it."""
    _settle(parents, trainer)
    env = None
    while True:
        try:
            request, *arguments = pipe.recv()
        except (EOFError, OSError):
            break
        if request == "close":
            break
        try:
            env = env or maker()
            reply = ForkingPickler.dumps((_reply(env, request, *arguments), None))
        except Exception as error:
            reply = ForkingPickler.dumps((None, _portable(error)))
        try:
            pipe.send_bytes(reply)
        except OSError:
            break
    if env is not None:
        env.close()


def _portable(error: Exception) -> Exception:
    """``error`` with its traceback as a note, or what is left of one that cannot travel."""
    # Whole, for where it is raised again nothing of it would be seen.
    note = f"in the worker:\n{traceback.format_exc()}"
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


def _settle(parents: Iterable[Connection], trainer: int) -> None:
    # Its ends of the pipes: a worker that held one would never see that the trainer is gone.
    for parent in parents:
        parent.close()
    # Ctrl-C and the signals of batch systems reach a whole process group, but only the trainer
    # decides how the run ends: its workers leave the group, and forget how it handles signals.
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    end_with(trainer)  # even if it hangs in a step
    torch.set_num_threads(1)  # more would wait for threads that a forked process does not have


def _reply(env: gym.Env, request: str, *arguments: Any) -> Any:
    if request == "spaces":
        return env.observation_space, env.action_space
    if request == "reset":
        return env.reset(seed=arguments[0])[0]
    if request == "step":
        *outcome, info = env.step(arguments[0])
        return (*outcome, {key: np.all(info[key]) for key in TOLD if key in info})
    name, given = arguments
    return env.get_wrapper_attr(name)(*given)
