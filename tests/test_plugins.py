"""A user's own module: loss, critic, hook and environment by name."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import pytest
from support.algorithms import tiny, tiny_sac
from support.environments import env_config
from support.states import loss_of
from torchrl.objectives import SACLoss

from trainers import plugins
from trainers.build import build
from trainers.config import ConfigError
from trainers.environments.envs import Envs
from trainers.plugins import Registry, load_plugins

MINE = '''
"""What a user writes."""

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torchrl.objectives import SACLoss

from trainers.networks.critics import StateActionValue
from trainers.plugins import hooks, losses, networks, wrappers


@losses.register("my_loss")
class MyLoss(SACLoss):
    def forward(self, tensordict=None):
        out = super().forward(tensordict)
        out["loss_actor"] = 2.0 * out["loss_actor"]
        return out


class MyCritic(nn.Module):
    def __init__(self, num_observations, num_actions):
        super().__init__()
        self.layer = nn.Linear(num_observations + num_actions, 1)

    def forward(self, observation, action):
        return self.layer(torch.cat([observation, action], -1))


networks.register("my_critic")(MyCritic)
networks.register("my_critics")(
    lambda num_observations, num_actions: [
        MyCritic(num_observations, num_actions) for _ in range(4)
    ]
)

FIRED = []


@hooks.register("my_hook")
def my_hook(trainer):
    trainer.register_hook("post_steps", lambda trainer, rollout: FIRED.append(trainer.frames))


class MyEnv(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (3,))
    action_space = gym.spaces.Box(-2.0, 2.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.ones(3, np.float32), float(action.sum()), True, False, {}


gym.register("MyEnv-v0", MyEnv)


@wrappers.register("twice")
class Twice(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


@wrappers.register("plus_one")
class PlusOne(gym.RewardWrapper):
    def reward(self, reward):
        return reward + 1


class Camera(gym.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        pixels = gym.spaces.Box(0, 255, (2, 2, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(pixels=pixels, place=env.observation_space)

    def observation(self, observation):
        return {"pixels": np.full((2, 2, 3), 7, np.uint8), "place": observation}


wrappers.register("camera")(Camera)


@wrappers.register("blind")
def blind(env):
    space = gym.spaces.Dict(place=env.observation_space["place"])
    return gym.wrappers.TransformObservation(env, lambda o: {"place": o["place"]}, space)


wrappers.register("nothing")(lambda env: None)
wrappers.register("greedy")(lambda env, more: env)
wrappers.register("half")(
    lambda env: gym.wrappers.TransformObservation(env, lambda o: o[:1], env.observation_space)
)


@networks.register("broken_critic")
def broken_critic(num_observations, num_actions):
    raise RuntimeError("no weights to be found")


@hooks.register("broken_hook")
def broken_hook(trainer):
    trainer.register_hook("post_stpes", print)
'''


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes a module where it can be imported; what it registers is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    for registry in (plugins.losses, plugins.networks, plugins.hooks, plugins.wrappers):
        monkeypatch.setattr(registry, "_entries", {})

    def write_module(name: str, content: str) -> None:
        (tmp_path / f"{name}.py").write_text(content)

    yield write_module
    gym.registry.pop("MyEnv-v0", None)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) == str(tmp_path / f"{name}.py"):
            del sys.modules[name]


def test_everything_of_a_user_trains_together(write: Callable[[str, str], None]) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    algo = {"loss_module": "my_loss", "critic": "my_critic", "num_critics": 3}
    trainer = build(tiny_sac(env_config("MyEnv-v0"), algo, hooks=["my_hook"])).trainer
    loss = loss_of(trainer)
    trainer.train()
    assert (trainer.frames, trainer.updates) == (40, 30)
    fired: list[int] = sys.modules["users_own"].FIRED
    assert fired == list(range(1, 41))
    assert type(loss).__name__ == "MyLoss"
    assert loss.qvalue_network_params["module", "layer", "weight"].shape == (3, 1, 5)


def test_a_plugin_may_make_a_list_of_critics(write: Callable[[str, str], None]) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    trainer = build(tiny_sac(algo={"critic": "my_critics"})).trainer
    trainer.collector.shutdown()
    assert loss_of(trainer).num_qvalue_nets == 4


def test_a_plugin_is_found_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_me.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    load_plugins(["beside_me"])
    assert sys.modules.pop("beside_me")


def test_a_critic_s_maker_is_called_for_each(write: Callable[[str, str], None]) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    trainer = build(tiny_sac(algo={"critic": "my_critic", "num_critics": 2})).trainer
    trainer.collector.shutdown()
    first, second = loss_of(trainer).qvalue_network_params["module", "layer", "weight"]
    assert not first.equal(second)


def test_torchrl_s_loss_can_be_asked_for_by_name() -> None:
    trainer = build(tiny_sac(algo={"loss_module": "torchrl"})).trainer
    trainer.collector.shutdown()
    assert type(loss_of(trainer)) is SACLoss


@pytest.mark.parametrize(
    ("algo", "hooks", "key"),
    [
        ({"loss_module": "my_los"}, [], "algo.loss_module"),
        ({"critic": "my_critc"}, [], "algo.critic"),
        ({}, ["my_hok"], "hooks"),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(
    write: Callable[[str, str], None], algo: dict[str, str], hooks: list[str], key: str
) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    with pytest.raises(ConfigError, match=r"did you mean my_\w+\?") as caught:
        build(tiny_sac(algo=algo, hooks=hooks))
    assert caught.value.key == key


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_wrappers_are_applied_in_their_order(
    write: Callable[[str, str], None], backend: Literal["sync", "async"]
) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])

    def reward(*wrappers: str) -> float:
        config = env_config("MyEnv-v0", wrappers=list(wrappers), backend=backend, num_envs=2)
        envs = Envs(config)
        envs.reset([0, 0])
        rewards = envs.step(np.full((2, 2), 0.25, np.float32))[1]  # 0.5 of 2, both of them
        envs.close()
        assert rewards[0] == rewards[1]
        return rewards[0]

    assert reward() == 1.0
    assert reward("twice", "plus_one") == 3.0
    assert reward("plus_one", "twice", "twice") == 8.0


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_a_wrapper_may_change_what_is_observed(
    write: Callable[[str, str], None], backend: Literal["sync", "async"]
) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    config = env_config("MyEnv-v0", wrappers=["camera", "blind"], backend=backend)
    envs = Envs(config)
    assert envs.reset([0]).tolist() == [[0.0] * 3]
    assert envs.open_episodes()[0]["seed"] == 0  # the recorder is outside of them
    envs.close()
    with pytest.raises(ConfigError, match=r"\['pixels'\] is an image"):
        Envs(replace(config, wrappers=["camera"]))


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("twise", "did you mean twice"),
        ("nothing", "it returned None"),
        ("greedy", "TypeError.*missing 1 required positional argument: 'more'"),
    ],
)
def test_a_wrapper_that_is_none_is_refused(
    write: Callable[[str, str], None], backend: Literal["sync", "async"], name: str, match: str
) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    with pytest.raises(ConfigError, match=match) as caught:
        Envs(env_config("MyEnv-v0", wrappers=["plus_one", name], backend=backend))
    assert (caught.value.key, caught.value.given) == ("env.wrappers", name)


@pytest.mark.filterwarnings("ignore")  # Gymnasium makes one of a failed worker's traceback
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_an_observation_of_another_shape_is_refused(
    write: Callable[[str, str], None], backend: Literal["sync", "async"]
) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    envs = Envs(env_config("MyEnv-v0", wrappers=["half"], backend=backend))
    with pytest.raises(ValueError, match=r"shape \(1,\) .* has shape \(3,\)"):
        envs.reset([0])
    envs.close()


@pytest.mark.parametrize(
    ("key", "given", "match"),
    [
        ("hooks", {"hooks": ["broken_hook"]}, "ValueError: unknown stage 'post_stpes'"),
        ("algo.critic", {"algo": {"critic": "broken_critic"}}, "RuntimeError: no weights"),
    ],
)
def test_what_raises_when_it_is_made_is_named(
    write: Callable[[str, str], None], key: str, given: dict[str, Any], match: str
) -> None:
    write("users_own", MINE)
    load_plugins(["users_own"])
    with pytest.raises(ConfigError, match=match) as caught:
        build(tiny_sac(**given))
    assert caught.value.key == key


@pytest.mark.parametrize(
    "error", ["TypeError", "ValueError", "AttributeError", "RuntimeError", "KeyError"]
)
@pytest.mark.parametrize("name", ["sac", "ppo", "dqn"])
def test_a_loss_that_raises_when_it_is_made_is_named(error: str, name: str) -> None:
    def raises(*networks: Any, **keywords: Any) -> None:
        raise getattr(builtins, error)("two\nlines")

    loss = f"raises_{error}_{name}"
    plugins.losses.register(loss)(raises)
    with pytest.raises(ConfigError) as caught:
        build(tiny(name, algo={"loss_module": loss}))
    assert (caught.value.key, caught.value.given) == ("algo.loss_module", loss)
    hint = caught.value.hint or ""
    assert hint.startswith(f"{error}: ")
    assert "test_plugins.py:" in hint
    assert "\n" not in hint


def test_without_plugins_nothing_is_known() -> None:
    with pytest.raises(ConfigError, match="are its plugins given"):
        Registry("hooks").get("mine")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("import nosuchpackage", "No module named 'nosuchpackage'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        (None, "No module named 'broken'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    write: Callable[[str, str], None], content: str | None, match: str
) -> None:
    if content is not None:
        write("broken", content)
    with pytest.raises(ConfigError, match=match) as caught:
        load_plugins(["broken"])
    assert (caught.value.key, caught.value.given) == ("plugins", "broken")


def test_a_name_is_given_once() -> None:
    registry = Registry("hooks")
    registry.register("mine")(print)
    registry.register("mine")(print)  # the same thing again: a module imported by two names
    with pytest.raises(ValueError, match=r"hooks: 'mine' is registered already"):
        registry.register("mine")(repr)
