"""Collection from Gymnasium environments, without the overhead of a general collector.

TorchRL's collectors fit the trainer as well; this one is faster, stores true last observations,
seeds every episode by itself and can be resumed exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from trainers.config import ConfigError
from trainers.environments.envs import Envs, Outcome
from trainers.errors import NonFiniteError
from trainers.saving.restoring import How
from trainers.seeding import episode_seed
from trainers.tensordicts import tensordict_of

Array = np.ndarray


class GymCollector:
    """Yields rollouts of shape ``[num_envs, frames_per_batch // num_envs]`` for ever.

    A rollout has ``observation``, ``action``, what else the policy writes and, under ``next``,
    ``observation``, ``reward``, ``done``, ``terminated`` and ``truncated``; the last four are
    ``[..., 1]``. The next observation of an episode's last step is the one the episode ended with,
    never the first of the next.

    Of games, where learning takes other rewards and ends for an episode's own (see
    :meth:`~trainers.environments.envs.Envs.lesson`), ``reward``, ``terminated`` and ``done`` are
    what is learnt from; beside them are the game's ``("next", "game_score")`` and ``("next",
    "game_over")``. Only where a game is over a new one begins.

    From the first rollout on in which an environment reports ``is_success``, there is also
    ``("next", "success")``, false where nothing was reported.

    Args:
        envs: the environments.
        policy: called on a TensorDict with ``observation`` ``[num_envs, n]``; writes ``action``,
            and whatever a loss wants to know of it later. It is asked in numpy where it says
            ``acts_in_numpy``; where it has ``begin_episodes`` it is told which environments do, and
            its ``exploration_state`` is saved
            (:class:`~trainers.collection.exploration.OrnsteinUhlenbeck`).
        seed: every episode is reset with a seed made from this one.
        frames_per_batch: frames of a rollout over all environments; default one from each.
        init_random_frames: so many frames are collected with uniformly random actions first.
        overlap: environments step while the learner learns: the next step is begun before a rollout
            is handed out, with the weights of then, and waited for afterwards.
        stagger: cut (truncate) the first episode of environment ``i`` of ``n`` at ``(i + 1) / n``
            of the time limit, if there is one. Else episodes of a fixed length begin and end all
            together, and the policy of a whole episode goes by before its beginnings are seen.
            ``cuts_first`` ``[num_envs]`` says whose, for they tell nothing of true returns.
        device: where the policy lives, and the rollouts go.

    Raises:
        ConfigError: ``frames_per_batch`` is not a multiple of the number of environments.
    """

    checks_rollouts = True  # the trainer need not

    def __init__(
        self,
        envs: Envs,
        policy: Any,
        *,
        seed: int,
        frames_per_batch: int | None = None,
        init_random_frames: int = 0,
        overlap: bool = False,
        stagger: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        frames = frames_per_batch or envs.num_envs
        if frames % envs.num_envs:
            raise ConfigError(
                "algo.frames_per_batch", frames, f"a multiple of env.num_envs={envs.num_envs}"
            )
        self.envs = envs
        self.policy = policy
        self.seed = seed
        self.steps_per_rollout = frames // envs.num_envs
        self.init_random_frames = init_random_frames
        self.overlap = overlap
        self.device = torch.device(device)
        self.frames = 0
        self.restored: tuple[How, str] = ("fresh", "nothing was loaded")
        self._episodes = np.zeros(envs.num_envs, dtype=np.int64)
        self._steps = np.zeros(envs.num_envs, dtype=np.int64)  # of the open episodes
        self._reports_success = False
        self._first_limits = _first_limits(envs) if stagger else None
        limits, whole = self._first_limits, envs.max_episode_steps
        self.cuts_first = np.zeros(envs.num_envs, bool) if limits is None else limits < whole
        self._observation: Array | None = None
        self._written: dict[str, Array] | None = None  # by the policy, for the step under way
        self._outcome: Outcome | None = None

    def __iter__(self) -> Iterator[TensorDictBase]:
        while True:
            rollout = _Rollout(self.envs.num_envs, self.steps_per_rollout)
            in_numpy = self._acts_in_numpy
            noise = self.policy.noise(*rollout.shape[::-1]) if in_numpy else None
            limits = self._first_limits if (self._episodes <= 1).any() else None
            for step in range(self.steps_per_rollout):
                if self._written is None:
                    self._begin_step(noise=None if noise is None else noise[step])
                self._end_step(rollout, step, limits)
            if self.overlap:
                self._begin_step()
            if self._reports_success:  # the first report may come later
                rollout.array(("next", "success"), bool, ())
            data = rollout.tensordict()
            if in_numpy:
                self.policy.describe(data)
            yield data if self.device.type == "cpu" else data.to(self.device)

    @property
    def _acts_in_numpy(self) -> bool:
        """Whether this rollout's actions are the policy's, of its weights as they are now."""
        random = self.frames < self.init_random_frames
        in_numpy = getattr(self.policy, "acts_in_numpy", False)
        return in_numpy and not random and not self.overlap

    def _begin_step(
        self, written: dict[str, Array] | None = None, noise: Array | None = None
    ) -> None:
        if self._observation is None:
            self._observation = self._reset(np.ones(self.envs.num_envs, dtype=bool))
        if written is None and noise is not None:
            written = {"action": self.policy.act(self._observation, noise)}
        self._written = written or self._act(self._observation)
        self.envs.begin_step(self._written["action"], background=self.overlap)

    def _outcome_of_step(self) -> Outcome:
        """What came of the step under way, once or, if a checkpoint had to know, from there."""
        if self._outcome is None:
            return self.envs.end_step()
        outcome, self._outcome = self._outcome, None
        return outcome

    def _end_step(self, rollout: _Rollout, step: int, first_limits: Array | None) -> None:
        observation, written = self._observation, self._written
        assert observation is not None
        assert written is not None
        following, reward, terminated, truncated = self._outcome_of_step()
        with np.errstate(over="ignore"):  # what is too large is not finite, and so refused
            reward = reward.astype(np.float32)
        self._check_finite("observation", following)
        self._check_finite("reward", reward)
        self._written = None
        self.frames += self.envs.num_envs
        self._steps += 1
        if first_limits is not None:
            truncated = truncated | (self._episodes == 1) & (self._steps >= first_limits)
        over = terminated | truncated  # is reset below
        if self.envs.is_game:
            rollout.put(step, ("next", "game_score"), reward)
            rollout.put(step, ("next", "game_over"), over)
            reward, terminated = self.envs.lesson(reward, terminated)
        rollout.put(step, ("observation",), observation)
        for key, value in written.items():
            rollout.put(step, (key,), value)
        rollout.put(step, ("next", "observation"), following)
        rollout.put(step, ("next", "reward"), reward)
        rollout.put(step, ("next", "terminated"), terminated)
        rollout.put(step, ("next", "truncated"), truncated)
        if self.envs.success is not None:
            self._reports_success = True
            rollout.put(step, ("next", "success"), self.envs.success)
        self._observation = self._reset(over) if over.any() else following

    def _act(self, observation: Array) -> dict[str, Array]:
        """The action, and all else that the policy writes: log-probabilities and the like."""
        if self.frames < self.init_random_frames:
            action: Any = self.envs.action_spec.rand(torch.Size([self.envs.num_envs]))
            return {"action": action.numpy()}
        tensor = torch.from_numpy(observation).to(self.device)
        data = TensorDict({"observation": tensor}, [self.envs.num_envs])
        with torch.no_grad():
            written = self.policy(data)
        entries: Any = written.exclude("observation").cpu().items()
        return {key: value.numpy() for key, value in entries}

    def _reset(self, mask: Array) -> Array:
        """Begin new episodes where ``mask`` is true; observations of all environments."""
        seeds = [episode_seed(self.seed, env, int(n)) for env, n in enumerate(self._episodes)]
        self._episodes += mask
        self._steps[mask] = 0
        if hasattr(self.policy, "begin_episodes"):
            self.policy.begin_episodes(mask)
        observation = self.envs.reset(seeds, mask)
        self._check_finite("observation", observation)
        return observation

    def _check_finite(self, what: str, values: Array) -> None:
        # The sum of squares is quick, and not finite if a value is not; it may also overflow.
        if values.dtype == np.uint8 or math.isfinite(np.vdot(values, values)):
            return
        if not np.isfinite(values).all():
            env, *entry = np.argwhere(~np.isfinite(values))[0].tolist()
            raise NonFiniteError(
                f"{what}{entry or ''} of environment {env} is {values[env, *entry]} "
                f"at frame {self.frames + self.envs.num_envs}: the frame was not stored",
                self._evidence(env, what, values),
            )

    def _evidence(self, env: int, what: str, values: Array) -> dict[str, Any]:
        """With the seed and the actions of the episode it can be seen again."""
        before, written = self._observation, self._written or {}
        return {
            what: values[env],
            "environment": env,
            "last_observation": None if before is None else before[env],
            "written": {key: value[env] for key, value in written.items()},
            "episode": self.envs.open_episodes()[env] if self.envs.replayable else None,
        }

    def shutdown(self) -> None:
        """Close the environments."""
        self.envs.close()

    def state_dict(self) -> dict[str, Any]:
        """Counters, and every open episode as its seed and actions, without a step under way."""
        if self._written is not None:
            self._outcome = self._outcome_of_step()
        return {
            "frames": self.frames,
            "episodes": self._episodes.tolist(),
            "steps": self._steps.tolist(),
            "observation": self._observation,
            "reports_success": self._reports_success,
            "written": self._written,
            "exploration": getattr(self.policy, "exploration_state", None),
            "open_episodes": self._open_episodes(),
            "replaced_workers": self.envs.replaced_workers,
        }

    def _open_episodes(self) -> list[dict[str, Any]] | None:
        if self._observation is None or not self.envs.replayable:
            return None
        return self.envs.open_episodes(but_last=self._written is not None)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Bring the environments back to where they were, by replaying their open episodes.

        Where they cannot be, or there is another number of them, new episodes begin.
        """
        before, number = len(state["episodes"]), self.envs.num_envs
        if before != number:
            # Behind all that there were: whichever environment began them, no seed comes twice.
            begun = number * [max(state["episodes"])]
            state = state | {"episodes": begun, "steps": number * [0], "exploration": None}
        self.frames = state["frames"]
        self._episodes, self._steps = np.array(state["episodes"]), np.array(state["steps"])
        self._reports_success = state["reports_success"]
        self.envs.replaced_workers = state.get("replaced_workers", 0)
        if hasattr(self.policy, "exploration_state"):
            self.policy.exploration_state = _numpy(state.get("exploration"))
        self._observation = self._written = self._outcome = None
        changed = f"env.num_envs was {before} and is {number}"
        why = self._go_on(state) if before == number else changed
        # The next step resets all of them.
        cut = f"{why}: every open episode is cut, and starts anew"
        self.restored = ("exact", "") if why is None else ("statistical", cut)

    def _go_on(self, state: dict[str, Any]) -> str | None:
        """Take up the open episodes; what keeps the environments from it, if anything does."""
        if state["observation"] is None:
            return None
        episodes = state["open_episodes"]
        observation = self._replayed(episodes)
        if observation is None:
            return "EnvPool cannot replay episodes"
        if not np.array_equal(observation, _numpy(state["observation"])):
            return "they did not come back to their stored observations"
        if not self._outcomes_are_those_of(episodes):
            return "their episodes had other rewards or ends when they were replayed"
        self._observation = observation
        if state["written"] is not None:
            self._begin_step({key: _numpy(value) for key, value in state["written"].items()})
        return None

    def _replayed(self, episodes: list[dict[str, Any]] | None) -> Array | None:
        """What the environments observe after their episodes; None if they cannot be replayed."""
        if episodes is None or not self.envs.replayable:
            return None
        return self.envs.replay([_arrays(episode) for episode in episodes])

    def _outcomes_are_those_of(self, episodes: list[dict[str, Any]]) -> bool:
        """Whether what was replayed is as rewarding as it was; older versions did not note it."""
        outcomes = [episode["outcomes"] for episode in self.envs.open_episodes()]
        stored = [each.get("outcomes", now) for each, now in zip(episodes, outcomes, strict=True)]
        return outcomes == stored


class _Rollout:
    """Arrays ``[num_envs, steps, ...]`` that are filled step by step.

    Every rollout has its own, since a hook may keep it.
    """

    def __init__(self, num_envs: int, steps: int) -> None:
        self.shape = (num_envs, steps)
        self._arrays: dict[tuple[str, ...], Array] = {}

    def array(self, key: tuple[str, ...], dtype: Any, shape: tuple[int, ...]) -> Array:
        """The array of an entry; zeros, if there was none yet."""
        if key not in self._arrays:
            self._arrays[key] = np.zeros((*self.shape, *shape), dtype)
        return self._arrays[key]

    def put(self, step: int, key: tuple[str, ...], value: Array) -> None:
        """``value`` ``[num_envs, ...]`` of one step."""
        array = self._arrays.get(key)
        if array is None:
            array = self.array(key, value.dtype, value.shape[1:])
        array[:, step] = value

    def tensordict(self) -> TensorDict:
        """All of them, in their own memory; of what follows on a step, numbers are ``[..., 1]``."""
        arrays = self._arrays
        arrays["next", "done"] = arrays["next", "terminated"] | arrays["next", "truncated"]
        entries: dict[str, Any] = {}
        for key, array in arrays.items():
            if len(key) == 1:
                entries[key[0]] = torch.from_numpy(array)
            else:
                number = array.ndim == 2
                following = entries.setdefault("next", {})
                following[key[1]] = torch.from_numpy(array[..., None] if number else array)
        return tensordict_of(entries, self.shape)


def _first_limits(envs: Envs) -> Array | None:
    """Steps after which each environment's first episode is cut."""
    if envs.max_episode_steps is None or envs.num_envs == 1:
        return None
    share = np.arange(1, envs.num_envs + 1) / envs.num_envs
    return np.ceil(share * envs.max_episode_steps).astype(np.int64)


def _numpy(values: Any) -> Any:
    """Arrays, from the tensors that a checkpoint may have made of them."""
    return None if values is None else np.asarray(values)


def _arrays(value: Any) -> Any:
    """The same for all that is nested in ``value``."""
    if isinstance(value, dict):
        return {key: _arrays(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_arrays, value))
    return value.numpy() if isinstance(value, torch.Tensor) else value
