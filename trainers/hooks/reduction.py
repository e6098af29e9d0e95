"""From losses of single frames to what is differentiated."""

from __future__ import annotations

from tensordict import TensorDict, TensorDictBase

from trainers.trainer import Trainer


class MeanLosses:
    """Averages the losses ``[B]`` of a loss with ``reduction="none"``; at ``post_loss``.

    TorchRL has multiplied them with the importance weights by then. Its own mean divides by the sum
    of the weights; this one divides by B, as Schaul et al. (2016) do.
    """

    def __call__(
        self, trainer: Trainer, batch: TensorDictBase, losses: TensorDictBase
    ) -> TensorDictBase:
        return TensorDict({key: losses[key].mean() for key, _ in losses.items()})
