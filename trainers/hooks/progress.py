"""A progress bar."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase
from tqdm import tqdm

from trainers.hooks.logging import WriteMetrics
from trainers.trainer import Trainer

_SHOWN = {
    "return": ("eval/episode_return", "train/episode_return"),
    "loss": ("loss/qvalue", "loss/critic", "loss/actor"),
}


class ProgressBar:
    """Frames, frames/s and time left, with the last line's return and loss.

    Register :meth:`open` at ``setup``, the object at ``post_steps``, :meth:`close` at
    ``shutdown``. Where there is no terminal it shows nothing.
    """

    name = "progress"

    def __init__(self, metrics: WriteMetrics) -> None:
        self._metrics = metrics
        self._bar: Any = None
        self._shown: dict[str, float] = {}

    def open(self, trainer: Trainer) -> None:
        """Start where the run stands, which after a resume is not zero."""
        self._bar = tqdm(
            total=trainer.end,
            initial=trainer.frames,
            unit=" frames",
            dynamic_ncols=True,
            disable=None,
        )

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        if self._bar.disable:
            return
        if self._shown is not self._metrics.last_line:
            self._shown = self._metrics.last_line
            self._bar.set_postfix(_postfix(self._shown), refresh=False)
        self._bar.update(trainer.frames - self._bar.n)

    def close(self, trainer: Trainer) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _postfix(line: dict[str, float]) -> dict[str, str]:
    shown = {}
    for label, names in _SHOWN.items():
        value = next((line[name] for name in names if name in line), None)
        if value is not None:
            shown[label] = f"{value:.4g}"
    return shown
