"""Films: what they show, that they cost nothing but time, and what happens where there is none."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from support.environments import Screen, env_config
from support.states import assert_same

from trainers import seeding
from trainers.config import EnvConfig
from trainers.policies import films
from trainers.policies.episodes import Episodes
from trainers.policies.films import RenderingError, check_rendering, film, preview

av = pytest.importorskip("av", reason="the extra video is not installed")

SCREEN = env_config("tests/Screen-v0", kwargs={"lengths": [9]})


class Dice(Screen):
    """Its rewards are drawn from Gymnasium's generator, or from everybody's."""

    def __init__(self, everybodys: bool = False, **given: Any) -> None:
        super().__init__(**given)
        self.everybodys = everybodys
        np.random.rand()

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        self.number = np.random.rand() if self.everybodys else self.np_random.random()
        return observation, self.number, *rest


class Dark(Screen):
    """It has a camera that does not work."""

    def render(self) -> Any:
        raise OSError("no light\nat all")


class NoCamera(Screen):
    """It cannot even be told to show itself."""

    metadata = {"render_modes": ["human", "ansi"]}  # noqa: RUF012  # Gymnasium's way


@pytest.fixture(autouse=True)
def _environments() -> Iterator[None]:
    known = dict(gym.registry)
    for env in (Dice, Dark, NoCamera):
        gym.register(f"tests/{env.__name__}-v0", env, disable_env_checker=True)
    yield
    gym.registry.clear()
    gym.registry.update(known)


def played(config: EnvConfig, seed: int = 5, steps: int = 9) -> Episodes:
    """An episode of the environment, played without a camera."""
    env = gym.make(config.id, **config.kwargs)
    env.reset(seed=seed)
    actions = np.linspace(-1, 1, steps, dtype=np.float32)[:, None]
    total = sum(float(env.step(action)[1]) for action in actions)
    env.close()
    record = {"seed": seed, "actions": actions}
    return Episodes(np.array([total]), np.array([steps]), None, record)


def pictures(path: Path) -> tuple[list[np.ndarray], float]:
    """What is in a film, and how many pictures it shows in a second."""
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        return frames, float(file.streams.video[0].average_rate)


def test_a_film_shows_the_episode_from_its_first_to_its_last_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "videos" / "a.mp4"
    film(SCREEN, played(SCREEN), path)
    shown, rate = pictures(path)
    assert rate == 30  # every other of 60
    steps = [0, 2, 4, 6, 8, 9]
    assert [shot.shape for shot in shown] == [(30, 48, 3)] * len(steps)
    assert [shot.mean() for shot in shown] == pytest.approx([16 * s for s in steps], abs=4)
    assert list(path.parent.iterdir()) == [path]
    assert caplog.messages == []


def test_a_film_leaves_the_random_state_as_it_was(tmp_path: Path) -> None:
    config = env_config("tests/Dice-v0", kwargs={"everybodys": True, "lengths": [9]})
    episodes = played(config)
    seeding.seed_everything(3)
    before = seeding.random_state()
    check_rendering(config)
    film(config, episodes, tmp_path / "a.mp4")
    assert_same(seeding.random_state(), before)


@pytest.mark.parametrize("everybodys", [True, False])
def test_a_film_of_something_else_is_told_of(
    everybodys: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = env_config("tests/Dice-v0", kwargs={"everybodys": everybodys, "lengths": [9]})
    film(config, played(config), tmp_path / "a.mp4")
    assert ["shows another episode than was evaluated" in m for m in caplog.messages] == (
        [True] if everybodys else []
    )


def test_a_film_that_is_cut_short_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("before")
    answers = iter([False, False, True])
    with pytest.raises(RenderingError, match="cancelled"):
        film(SCREEN, played(SCREEN), path, cancelled=lambda: next(answers))
    with pytest.raises(RenderingError, match="no light at all"):
        film(env_config("tests/Dark-v0"), played(SCREEN), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_an_episode_that_is_not_remembered(tmp_path: Path) -> None:
    forgotten = played(SCREEN)._replace(first={"seed": 5, "actions": None})
    with pytest.raises(RenderingError, match="not remembered"):
        film(SCREEN, forgotten, tmp_path / "a.mp4")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("in the way")
    with pytest.raises(RenderingError, match=r"cannot be filmed: .*videos"):
        film(SCREEN, played(SCREEN), tmp_path / "videos" / "a.mp4")


@pytest.mark.parametrize(
    ("env_id", "expected"),
    [
        ("tests/Tale-v0", r"cannot be rendered to pictures \(rgb_array\): it knows no mode"),
        ("tests/NoCamera-v0", "the modes it knows are human, ansi"),
        ("tests/Dark-v0", "cannot be filmed: OSError: no light at all"),
        ("tests/Absent-v0", "cannot be filmed: "),
    ],
)
def test_where_there_can_be_no_film_it_is_said_why(env_id: str, expected: str) -> None:
    with pytest.raises(RenderingError, match=f"^{env_id} .*{expected}") as caught:
        check_rendering(env_config(env_id))
    assert "\n" not in str(caught.value)


def test_an_animated_picture_of_a_film(tmp_path: Path) -> None:
    film(SCREEN, played(SCREEN), tmp_path / "a.mp4")
    animated = Image.open(io.BytesIO(preview(tmp_path / "a.mp4", pictures=3, width=24)))
    assert (animated.format, animated.size, animated.n_frames) == ("GIF", (24, 15), 3)
    shown = []
    for number in range(3):
        animated.seek(number)
        shown.append(np.asarray(animated.convert("RGB")).mean())
        assert animated.info["duration"] in (60, 70)  # two thirtieths of a second, in hundredths
    assert shown == pytest.approx([0, 64, 128], abs=6)


# ---------------------------------------------------------------------- MuJoCo

CHEETAH = env_config("HalfCheetah-v5", max_episode_steps=3)
Probe = Callable[[str], str | None]


@pytest.fixture
def _own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen here is forgotten afterwards."""
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.delenv("MUJOCO_GL")


@pytest.mark.usefixtures("_own_variables")
def test_mujoco_renders_by_what_is_there(tmp_path: Path) -> None:
    try:
        check_rendering(CHEETAH)
    except RenderingError as error:
        pytest.skip(str(error))
    assert os.environ["MUJOCO_GL"] in ("egl", "osmesa")
    env = gym.make("HalfCheetah-v5")
    env.reset(seed=5)
    actions = np.full((3, 6), 0.25, np.float32)
    total = sum(float(env.step(action)[1]) for action in actions)
    episodes = Episodes(np.array([total]), np.array([3]), None, {"seed": 5, "actions": actions})
    film(CHEETAH, episodes, tmp_path / "a.mp4")
    shown, rate = pictures(tmp_path / "a.mp4")
    assert ([shot.shape for shot in shown], rate) == ([(480, 480, 3)] * 4, 20)
    assert shown[0].std() > 20


@pytest.mark.usefixtures("_own_variables")
@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Hopper-v5", "Ant-v5"])
def test_a_body_that_runs_is_followed(name: str) -> None:
    try:
        check_rendering(CHEETAH)
    except RenderingError as error:
        pytest.skip(str(error))

    def seen(**kwargs: Any) -> tuple[int, int]:
        """Pixels of the body's orange, where it begins and 8 m farther on."""
        with contextlib.closing(films._filmed_env(env_config(name, kwargs=kwargs))) as env:
            simulation: Any = env.unwrapped
            env.reset(seed=0)
            before = films._picture(env)
            places = simulation.init_qpos.copy()
            places[0] += 8.0
            simulation.set_state(places, simulation.init_qvel)
            return orange(before), orange(films._picture(env))

    def orange(picture: np.ndarray) -> int:
        red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
        return int(((red > green + 40) & (green > blue + 10)).sum())

    before, after = seen()
    assert min(before, after) > 1_000
    assert after > before / 2
    assert seen(default_camera_config={"distance": 4.0})[1] < 100  # as it was told


@pytest.mark.usefixtures("_own_variables")
def test_osmesa_takes_egl_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"egl": "no device", "osmesa": None}
    monkeypatch.setattr(films, "_probe", answers.__getitem__)
    assert films._opengl() == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "egl")  # then nothing else is tried
    with pytest.raises(RenderingError, match=r"by egl \(no device\); "):
        films._opengl()


@pytest.mark.usefixtures("_own_variables")
def test_without_either_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "_probe", lambda name: "not here")
    with pytest.raises(RenderingError, match=r"by egl \(not here\) nor by osmesa .* apt install"):
        check_rendering(CHEETAH)


def test_a_probe_may_fail_in_any_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nosuch" in (films._probe("nosuch") or "")
    monkeypatch.setattr(films, "_PROBE", "import os; os.abort()")
    assert films._probe("egl") == "exit code -6"
