"""The moments of a training run at which hooks fire."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """The stages of a run; this docstring is the loop of :class:`~trainers.trainer.Trainer`.

    ::

        setup(trainer)                                          # once
        for rollout in collector:
            post_collect(trainer, rollout)                      # store it: also during warm-up
            for epoch in range(num_epochs):                     # skipped while no update is due
                pre_epoch(trainer, rollout)                     # advantages
                for _ in range(updates due):
                    batch = process_optim_batch(trainer, rollout)   # sample, take a minibatch
                    for phase in phases due:
                        losses = phase.loss(batch)
                        post_loss(trainer, batch, losses)
                        backward
                        post_backward(trainer, batch, losses)   # gradients exist: clip them
                        phase.optimizer.step()
                    post_optim(trainer, batch, losses)          # target networks, priorities
            post_steps(trainer, rollout)                        # weight sync, logging, evaluation
            checkpoint(trainer)                                 # after everything else
        shutdown(trainer)                                       # in `finally`

    A hook is called as ``hook(trainer, *data)``. The last argument flows through the hooks of a
    stage in the order of their registration: a TensorDict that is returned replaces it, ``None``
    keeps it, anything else is an error. ``losses`` at ``post_optim`` holds the entries of all
    phases of the update. A second signal leaves ``shutdown`` out.
    """

    SETUP = "setup"
    POST_COLLECT = "post_collect"
    PRE_EPOCH = "pre_epoch"
    PROCESS_OPTIM_BATCH = "process_optim_batch"
    POST_LOSS = "post_loss"
    POST_BACKWARD = "post_backward"
    POST_OPTIM = "post_optim"
    POST_STEPS = "post_steps"
    CHECKPOINT = "checkpoint"
    SHUTDOWN = "shutdown"

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the arguments that a hook of this stage takes after ``trainer``."""
        return _DATA[self]


_DATA: dict[Stage, tuple[str, ...]] = {
    Stage.SETUP: (),
    Stage.POST_COLLECT: ("rollout",),
    Stage.PRE_EPOCH: ("rollout",),
    Stage.PROCESS_OPTIM_BATCH: ("batch",),
    Stage.POST_LOSS: ("batch", "losses"),
    Stage.POST_BACKWARD: ("batch", "losses"),
    Stage.POST_OPTIM: ("batch", "losses"),
    Stage.POST_STEPS: ("rollout",),
    Stage.CHECKPOINT: (),
    Stage.SHUTDOWN: (),
}
