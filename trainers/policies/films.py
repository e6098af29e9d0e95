"""Films of episodes: rendered off screen, written as MP4 by PyAV (the extra ``video``).

A film replays the actions of an episode that is over, in an environment of its own. So whether an
episode is filmed makes no difference to it, nor to anything else that is random.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from trainers.config import ConfigError, EnvConfig
from trainers.environments.single import make_env
from trainers.policies.episodes import Episodes
from trainers.seeding import own_randomness

logger = logging.getLogger("trainers")

MAX_PICTURES_PER_S = 30  # of what is filmed, at the speed it would have

# Ways to tell Gymnasium's MuJoCo environments where to look from.
_CAMERAS = {"camera_id", "camera_name", "default_camera_config"}

# What MuJoCo needs to draw a picture, in a process that may come to harm.
_PROBE = """
import importlib, sys
context = importlib.import_module(f"mujoco.{sys.argv[1]}").GLContext(64, 64)
context.make_current()
import mujoco
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_150)
"""


class RenderingError(RuntimeError):
    """There is no film; the message says why in a line."""


def check_rendering(config: EnvConfig) -> None:
    """See that the environment can be rendered here, and choose by what: takes a second or two.

    Raises:
        RenderingError: it cannot.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws, and wants no screen
    with _saying_why(config), own_randomness(0), closing(_filmed_env(config)) as env:
        if hasattr(env.unwrapped, "mujoco_renderer"):
            # Gymnasium's own choice is a window, which it does not notice that there cannot be.
            os.environ["MUJOCO_GL"] = _opengl()
        env.reset(seed=0)
        _picture(env)


def film(
    config: EnvConfig,
    episodes: Episodes,
    path: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Replay the first of the episodes and write it to ``path``: whole or not at all.

    Args:
        config: the environment that they are of; see :func:`check_rendering`.
        episodes: some that are over.
        path: an MP4 file, replaced if there is one; its directory is made.
        cancelled: asked in every step: without a GPU a film takes a minute.

    Raises:
        RenderingError: it cannot be rendered or written, or its actions are not known.
    """
    if episodes.first["actions"] is None:
        raise RenderingError("the actions of the episode are not remembered")
    with _saying_why(config), own_randomness(episodes.first["seed"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.partial")
        try:
            shown = _replayed(config, episodes.first, staged, cancelled)
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    if shown != episodes.returns[0]:
        logger.warning(
            "%s shows another episode than was evaluated, of return %g, not %g: %s does not repeat "
            "itself with the same seed and actions", path, shown, episodes.returns[0], config.id,
        )  # fmt: skip


def _replayed(
    config: EnvConfig, episode: dict[str, Any], path: Path, cancelled: Callable[[], bool]
) -> float:
    """Film an episode by its seed and actions; returns its return."""
    total, actions = 0.0, episode["actions"]
    with closing(_filmed_env(config)) as env:
        steps_per_s = Fraction(env.metadata.get("render_fps") or 30).limit_denominator(1000)
        stride = ceil(steps_per_s / MAX_PICTURES_PER_S)
        env.reset(seed=episode["seed"])
        with _mp4(path, _picture(env), steps_per_s / stride) as add:
            for step, action in enumerate(actions, 1):
                if cancelled():
                    raise RenderingError("it was cancelled")
                total += float(env.step(action)[1])
                if step % stride == 0 or step == len(actions):
                    add(_picture(env))
    return total


def preview(path: Path, pictures: int = 100, width: int = 160) -> bytes:
    """An MP4 film as an animated GIF, of so many pictures at most."""
    import av  # type: ignore  # an extra

    with av.open(str(path)) as file:
        stream: Any = file.streams.video[0]
        stride = ceil(stream.frames / pictures)
        height = round(stream.height * width / stream.width)
        kept = [
            frame.to_image(width=width, height=height)
            for number, frame in enumerate(file.decode(stream))
            if number % stride == 0
        ]
        seconds = min(float(stride / stream.average_rate), 0.1)  # a picture, however many are left
    buffer = io.BytesIO()
    kept[0].save(
        buffer, "GIF", save_all=True, append_images=kept[1:], duration=1000 * seconds, loop=0
    )
    return buffer.getvalue()


@contextmanager
def _saying_why(config: EnvConfig) -> Iterator[None]:
    """Whatever goes wrong with a film, it is no more than a film that is not there."""
    try:
        yield
    except RenderingError:
        raise
    except Exception as error:
        gist = error.hint if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        reason = " ".join((gist or "").split())
        raise RenderingError(f"{config.id} cannot be filmed: {reason}") from error


def _filmed_env(config: EnvConfig) -> gym.Env:
    """The environment with a camera, if it has one."""
    with closing(make_env(config)) as env:
        modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        known = f"the modes it knows are {', '.join(modes)}" if modes else "it knows no mode"
        raise RenderingError(f"{config.id} cannot be rendered to pictures (rgb_array): {known}")
    env = make_env(replace(config, kwargs=config.kwargs | {"render_mode": "rgb_array"}))
    if hasattr(env.unwrapped, "mujoco_renderer"):
        # Without a GPU four times as fast, and hardly to be seen; nothing else depends on it.
        quality = env.unwrapped.model.vis.quality  # type: ignore[attr-defined]  # MuJoCo's
        quality.shadowsize, quality.offsamples = 1024, 0
        if not config.kwargs.keys() & _CAMERAS:
            _follow(env.unwrapped)
    return env


def _follow(env: Any) -> None:
    """By the camera that goes with the body, where the model has one.

    Gymnasium takes one that stands still unless it is told, and a body that runs is soon gone.
    """
    import mujoco

    kind = mujoco.mjtObj.mjOBJ_CAMERA  # type: ignore  # in its C part
    number = mujoco.mj_name2id(env.model, kind, "track")  # type: ignore  # likewise
    if number != -1:
        env.mujoco_renderer.camera_id = number


def _picture(env: gym.Env) -> np.ndarray:
    """``[height, width, 3]`` uint8, both even: H.264 halves them for its colours."""
    picture: Any = env.render()
    height, width = (size // 2 * 2 for size in picture.shape[:2])
    return np.ascontiguousarray(picture[:height, :width])


@contextmanager
def _mp4(
    path: Path, first: np.ndarray, pictures_per_s: Fraction
) -> Iterator[Callable[[np.ndarray], None]]:
    """A file that browsers play, with its first picture; what is yielded adds another."""
    import av  # type: ignore  # an extra

    # The index at the front, so that playing starts before all of it is there.
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        height, width = first.shape[:2]
        stream = file.add_stream(
            "libx264", rate=pictures_per_s, height=height, width=width, pix_fmt="yuv420p"
        )

        def add(picture: np.ndarray) -> None:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))

        add(first)
        yield add
        file.mux(stream.encode())  # what it still holds back


def _opengl() -> str:
    """What MuJoCo renders with: what ``MUJOCO_GL`` says, else EGL or OSMesa, whichever works."""
    given = os.environ.get("MUJOCO_GL")
    reasons = []
    for name in [given] if given else ["egl", "osmesa"]:
        failure = _probe(name)
        if failure is None:
            return name
        reasons.append(f"{name} ({failure})")
    raise RenderingError(
        f"MuJoCo cannot render here by {' nor by '.join(reasons)}; "
        "Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri, or libosmesa6"
    )


def _probe(name: str) -> str | None:
    """Why MuJoCo cannot render by OpenGL of this kind; None if it can."""
    command = [sys.executable, "-c", _PROBE, name]
    variables = os.environ | {"MUJOCO_GL": name}
    try:
        tried = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "no answer in two minutes"
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines()
    return said[-1] if said else f"exit code {tried.returncode}"
