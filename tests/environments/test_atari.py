"""Games of the Arcade Learning Environment, shown to an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.environments import env_config

from trainers import plugins
from trainers.collection.collectors import GymCollector
from trainers.config import AtariConfig, ConfigError, EnvConfig
from trainers.environments.atari import MADE_WITH, AtariGame, Shrink
from trainers.environments.envs import Envs
from trainers.environments.single import make_env

ale_py = pytest.importorskip("ale_py", reason="the extra atari is not installed")
gym.register_envs(ale_py)


def config(game: str = "Pong", backend: Any = "sync", **given: Any) -> EnvConfig:
    """Of a game; what is not the environment's is of how it is shown."""
    own = {key: given.pop(key) for key in ("num_envs", "max_episode_steps") if key in given}
    return env_config(f"ALE/{game}-v5", backend=backend, atari=AtariConfig(**given), **own)


@pytest.fixture
def make() -> Iterator[Callable[..., Envs]]:
    made: list[Envs] = []

    def make_envs(*arguments: Any, **given: Any) -> Envs:
        made.append(Envs(config(*arguments, **given)))
        return made[-1]

    yield make_envs
    for envs in made:
        envs.close()


def raw(game: str = "Pong") -> gym.Env:
    return gym.make(f"ALE/{game}-v5", **MADE_WITH)


# --------------------------------------------------------------------- pictures


def slow_mean(picture: np.ndarray, size: int) -> np.ndarray:
    """Each pixel by itself, of the area that it stands for."""
    height, width = picture.shape
    fine = picture.astype(np.float64).repeat(size, 0).repeat(size, 1)
    return fine.reshape(size, height, size, width).mean((1, 3))


@pytest.mark.parametrize("size", [(35, 20), (26, 21), (14, 28)])
def test_a_pixel_is_the_mean_of_its_area(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(256, size=size, dtype=np.uint8)
    shrink = Shrink(size, (14, 14))
    small = shrink(picture)
    assert (small.shape, small.dtype) == ((14, 14), np.uint8)
    assert np.abs(small - slow_mean(picture, 14)).max() <= 0.5 + 1e-9
    for grey in (0, 1, 128, 255):
        assert (shrink(np.full_like(picture, grey)) == grey).all()


def test_it_is_opencv_s_but_for_the_rounding() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is no dependency, not even of development")
    env = make_env(config())
    env.reset(seed=0)
    shrink = Shrink((210, 160), (84, 84))
    for step in range(100):
        env.step(step % 6)
        picture: Any = env.unwrapped.ale.getScreenGrayscale()
        theirs = cv2.resize(picture, (84, 84), interpolation=cv2.INTER_AREA)
        apart = np.abs(shrink(picture).astype(int) - theirs.astype(int))
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01


def test_of_the_last_two_frames_the_brighter_pixels_are_seen() -> None:
    """Against the emulator, frame by frame, without no-ops and fire."""
    game, frames = AtariGame(raw(), max_no_ops=0, fire=False), raw()
    game.reset(seed=3)
    frames.reset(seed=3)
    shrink = Shrink((210, 160), (84, 84))
    for action in (2, 3, 3, 0, 5, 2, 1):
        screens, rewards = [], 0.0
        for _ in range(4):
            screen, reward, *_ = frames.step(action)
            screens.append(screen)
            rewards += float(reward)
        observation, reward, *_ = game.step(action)
        assert np.array_equal(observation[-1], shrink(np.maximum(*screens[-2:])))
        assert reward == rewards


def test_an_observation_is_the_last_four_pictures() -> None:
    env = make_env(config())
    assert env.observation_space == gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    before, _ = env.reset(seed=0)
    assert (before == before[-1]).all()
    assert before[-1].std() > 0
    for action in [2] * 12:
        observation = env.step(action)[0]
        assert np.array_equal(observation[:-1], before[1:])
        assert env.observation_space.contains(observation)
        before = observation
    assert not np.array_equal(before[-1], before[0])


def test_games_begin_differently_by_their_seed() -> None:
    """The ball comes after so many frames, the no-ops among them."""
    env = make_env(config())

    def later(env: gym.Env, seed: int) -> bytes:
        env.reset(seed=seed)
        return [env.step(0)[0] for _ in range(20)][-1].tobytes()

    seen = {seed: later(env, seed) for seed in range(6)}
    assert len(set(seen.values())) > 3
    assert all(later(env, seed) == before for seed, before in seen.items())
    still = make_env(config(max_no_ops=0))
    assert len({later(still, seed) for seed in range(6)}) == 1


def test_a_game_begins_after_1_to_so_many_frames() -> None:
    game: Any = make_env(config(max_no_ops=5, fire=False))
    begins = []
    for seed in range(40):
        game.reset(seed=seed)
        begins.append(game.unwrapped.ale.getEpisodeFrameNumber())
    assert set(begins) == {1, 2, 3, 4, 5}


def test_actions_stick_as_often_as_they_are_told_to() -> None:
    """Two actions in turn, a frame each: one is held where the other one was wanted."""
    env = raw()
    ale: Any = SimpleNamespace(acts=[], act=lambda action: ale.acts.append(action) or 0)
    game = AtariGame(env, frame_skip=1, max_no_ops=0, fire=False, repeat_action_probability=0.25)
    game.reset(seed=0)
    ale.game_over = lambda **_: False
    ale.lives, ale.game_truncated, ale.getScreenGrayscale = int, bool, lambda screen: None
    game._ale = ale
    wanted = [2, 3] * 2_000
    for action in wanted:
        game.step(action)
    stuck = [game._actions[action] != held for action, held in zip(wanted, ale.acts, strict=True)]
    # One that sticks after one that stuck is what was wanted then: 0.25 / (1 + 0.25).
    assert np.mean(stuck) == pytest.approx(0.2, abs=0.02)


def test_frames_are_skipped_and_filmed_at_their_speed() -> None:
    numbers = []
    for skip in (1, 3):
        env: Any = make_env(config(frame_skip=skip, max_no_ops=0, fire=False))
        assert env.metadata["render_fps"] == 60 / skip
        env.reset(seed=0)
        before = env.unwrapped.ale.getEpisodeFrameNumber()
        env.step(0)
        numbers.append(env.unwrapped.ale.getEpisodeFrameNumber() - before)
    assert numbers == [1, 3]


# --------------------------------------------------------------------- lives


def idle(envs: Envs, most: int = 3_000) -> Iterator[tuple[Any, ...]]:
    """Steps without an action, to the end of the first game."""
    envs.reset([0] * envs.num_envs)
    for _ in range(most):
        observation, reward, terminated, truncated = envs.step(np.zeros(envs.num_envs, np.int64))
        yield observation, reward, terminated, truncated, envs.lesson(reward, terminated)
        if terminated[0] or truncated[0]:
            return


def test_the_loss_of_a_life_is_an_end_only_to_learning(make: Any) -> None:
    """Fire is pressed where one begins: else Breakout would wait for ever."""
    steps = list(idle(make("Breakout")))
    ends = [bool(terminated[0]) for _, _, terminated, _, _ in steps]
    learnt = [bool(lesson[1][0]) for *_, lesson in steps]
    assert sum(ends) == 1
    assert ends[-1]
    assert sum(learnt) == 5
    assert learnt[-1]


def test_it_can_be_left_out(make: Any) -> None:
    steps = list(idle(make("Breakout", life_loss=False)))
    assert sum(bool(lesson[1][0]) for *_, lesson in steps) == 1


def test_without_fire_nothing_happens(make: Any) -> None:
    assert len(list(idle(make("Breakout", fire=False), most=300))) == 300


def test_a_time_limit_counts_steps_and_terminates_nothing(make: Any) -> None:
    *_, (_, _, terminated, truncated, lesson) = idle(make(max_episode_steps=30))
    assert not terminated[0]
    assert truncated[0]
    assert not lesson[1][0]
    assert len(list(idle(make(max_episode_steps=30)))) == 30


def test_learning_gets_the_sign_of_a_reward(make: Any) -> None:
    for clip, expected in ((True, [1.0, -1.0, 0.0]), (False, [30.0, -2.0, 0.0])):
        envs = make(clip_reward=clip)
        reward, terminated = envs.lesson(np.array([30.0, -2.0, 0.0]), np.zeros(3, bool))
        assert reward.tolist() == expected
        assert not terminated.any()


def test_a_rollout_has_what_is_learnt_and_what_was_played(make: Any) -> None:
    """No-ops and random actions in Breakout: lives are lost, and the pictures go on."""
    envs = make("Breakout", num_envs=2, clip_reward=True)
    torch.manual_seed(0)
    collector = GymCollector(envs, None, seed=1, frames_per_batch=600, init_random_frames=10**6)
    rollout = next(iter(collector))
    following: Any = rollout["next"]
    lost = following["terminated"] & ~following["game_over"]
    assert lost.sum() > 3
    assert following["done"][lost].all()
    assert rollout["observation"].dtype == torch.uint8
    goes_on = ~following["game_over"][:, :-1, 0]
    same = following["observation"][:, :-1] == rollout["observation"][:, 1:]
    assert same.flatten(2).all(2)[goes_on].all()
    over = following["game_over"][:, :-1, 0]
    begins = rollout["observation"][:, 1:][over]
    assert (begins == begins[:, -1:]).all()
    score = following["game_score"]
    assert set(score.unique().tolist()) <= {0.0, 1.0, 4.0, 7.0}
    assert torch.equal(following["reward"], score.sign())


# --------------------------------------------------------------------- several, and again


def test_workers_do_the_same(make: Any) -> None:
    all_envs = [make("Breakout", backend, num_envs=2) for backend in ("sync", "async")]
    seen = [envs.reset([3, 4]) for envs in all_envs]
    assert seen[0].dtype == seen[1].dtype == np.uint8
    assert np.array_equal(*seen)
    for step in range(120):
        action = np.array([step % 4, (step // 3) % 4])
        outcomes = [envs.step(action) for envs in all_envs]
        assert all(map(np.array_equal, *outcomes))
        lessons = [
            envs.lesson(*outcome[1:3]) for envs, outcome in zip(all_envs, outcomes, strict=True)
        ]
        assert all(map(np.array_equal, *lessons))


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_open_games_are_replayed(sticky: float) -> None:
    """Bit for bit, also where an action may stick by chance."""
    given = config("Breakout", num_envs=2, repeat_action_probability=sticky)
    one, two = Envs(given), Envs(given)
    one.reset([5, 6])
    actions = np.random.default_rng(0).integers(4, size=(160, 2))
    for action in actions[:80]:
        observation = one.step(action)[0]
    assert np.array_equal(two.replay(one.open_episodes()), observation)
    for action in actions[80:]:
        assert all(map(np.array_equal, one.step(action), two.step(action)))
    one.close()
    two.close()


# --------------------------------------------------------------------- what is refused


def test_a_game_without_this_treatment_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"is an image.*; env=atari env\.id=ALE/Pong-v5 is learnt"
    ):
        Envs(env_config("ALE/Pong-v5"))


def test_its_memory_is_a_vector() -> None:
    envs = Envs(env_config("ALE/Pong-v5", kwargs={"obs_type": "ram"}))
    assert envs.inputs == 128
    assert envs.reset([0]).dtype == np.float32
    envs.close()


def test_an_unknown_game() -> None:
    with pytest.raises(ConfigError, match=r'env\.id: got "ALE/Pnog-v5".*did you mean ALE/Pong-v5'):
        Envs(config("Pnog"))


def test_an_unknown_argument() -> None:
    with pytest.raises(ConfigError, match=r"env\.kwargs"):
        Envs(env_config("ALE/Pong-v5", kwargs={"frameskp": 2}, atari=AtariConfig()))


def test_a_wrapper_may_change_the_pictures() -> None:
    class Half(gym.ObservationWrapper):
        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.observation_space = gym.spaces.Box(0, 255, (4, 42, 42), np.uint8)

        def observation(self, observation: Any) -> Any:
            return observation[:, ::2, ::2]

    plugins.wrappers._entries["half"] = Half
    try:
        envs = Envs(env_config("ALE/Pong-v5", atari=AtariConfig(), wrappers=["half"]))
    finally:
        del plugins.wrappers._entries["half"]
    assert envs.inputs == (4, 42, 42)
    assert envs.reset([0]).shape == (1, 4, 42, 42)
    envs.close()
