"""What a game's configuration may say, asked without the emulator."""

from __future__ import annotations

from typing import Any

import pytest

from trainers.config import AtariConfig, ConfigError, EnvConfig, sections
from trainers.config.cli import preflight
from trainers.config.env_id import check_env_id


def game(env_id: str = "ALE/Pong-v5", **given: Any) -> EnvConfig:
    return EnvConfig(id=env_id, name="tests", **({"atari": AtariConfig()} | given))


def test_only_games_are_shown_as_games() -> None:
    with pytest.raises(ConfigError, match=r'env\.id: got "CartPole-v1", expected a game'):
        game("CartPole-v1")
    assert game("CartPole-v1", atari=None).atari is None


@pytest.mark.parametrize("key", ["frameskip", "repeat_action_probability", "obs_type"])
def test_what_is_done_here_is_not_asked_of_the_emulator(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"env\.kwargs\.{key}: got 4, expected not to be given"):
        game(kwargs={key: 4})


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "find_spec", lambda name: None)
    for atari in (AtariConfig(), None):
        with pytest.raises(ConfigError, match=r"extra atari.*pip install .*'\.\[atari\]'"):
            check_env_id(game(atari=atari))
    with pytest.raises(ConfigError, match="extra atari"):
        preflight(["algo=dqn", "env=Pong"])


LINES = ["env=Pong", "env=Breakout", "env=atari env.id=ALE/SpaceInvaders-v5"]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("algo", ["dqn", "c51", "ppo", "a2c", "reinforce"])
def test_what_a_user_types(line: str, algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "find_spec", lambda name: "there")
    (config,) = preflight([f"algo={algo}", *line.split()]).configs
    assert config.env.atari == AtariConfig()
    assert config.network.hidden == [512]
    assert config.network.activation == "relu"
    more = ("env.kwargs.full_action_space=true", "env.atari.repeat_action_probability=0.25")
    (config,) = preflight([f"algo={algo}", *line.split(), *more]).configs
    assert config.env.kwargs == {"full_action_space": True}
    assert config.env.atari == AtariConfig(repeat_action_probability=0.25)


def test_typos_are_found() -> None:
    with pytest.raises(
        ConfigError, match=r"env\.atari\.frameskip.*did you mean env\.atari\.frame_skip"
    ):
        preflight(["algo=dqn", "env=Pong", "env.atari.frameskip=2"])
    with pytest.raises(
        ConfigError, match=r"env\.atari\.frame_skip: got 0, expected a whole number"
    ):
        preflight(["algo=dqn", "env=Pong", "env.atari.frame_skip=0"])


def test_a_game_is_not_begun_for_ever() -> None:
    with pytest.raises(ConfigError, match=r"max_no_ops: got 1000000, .* at most 1000"):
        preflight(["algo=dqn", "env=Pong", "env.atari.max_no_ops=1_000_000"])


def test_another_game_has_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "find_spec", lambda name: "there")
    for env_id, right in [
        ("ALE/Breakout-v5", "use env=Breakout, or env=atari env.id=ALE/Breakout-v5"),
        ("ALE/Qbert-v5", "use env=atari env.id=ALE/Qbert-v5"),
    ]:
        with pytest.raises(ConfigError, match="a version of ALE/Pong with env=Pong") as caught:
            preflight(["algo=ppo", "env=Pong", f"env.id={env_id}"])
        assert caught.value.hint == right
