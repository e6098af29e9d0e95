"""What is done to single parameters holds with our losses as with TorchRL's.

Also where our Adam has made one leaf of many of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import comparing
import pytest
import torch
from cases import CASES
from support.doubles import stub
from tensordict import TensorDict
from torch import Tensor
from torchrl.objectives import A2CLoss, ClipPPOLoss
from transitions import assert_near, batch

from trainers.algorithms import a2c, ddpg, dqn, ppo
from trainers.algorithms.common import make_adam, parameter_groups
from trainers.algorithms.max_entropy import one_adam
from trainers.algorithms.on_policy import actor_critic_adam
from trainers.config import A2CConfig, PPOConfig
from trainers.hooks import ClipGradNorm
from trainers.optimization.known_gradients import known_gradients
from trainers.phases import Phase

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

ON_POLICY: dict[str, Any] = {
    "ppo": (ppo, PPOConfig, ClipPPOLoss),
    "a2c": (a2c, A2CConfig, A2CLoss),
}


@dataclass
class Agent:
    """A loss, what steps on it, and the batches it learns from."""

    loss: Any
    phases: list[Phase]
    data: Callable[[int], TensorDict]

    def update(self, seed: int, scaled: bool = False) -> list[float]:
        """Each phase's norm before clipping; ``scaled`` losses take their way through autograd."""
        norms = []
        for phase in self.phases:
            torch.manual_seed(seed)
            losses = phase.compute(self.data(seed))
            for key, value in dict(losses.items()).items():
                if scaled and key.startswith("loss"):
                    losses[key] = 1.0 * value
            total = phase.backward(losses)
            clip, trainer = ClipGradNorm(phase.parameters(), 0.1), stub()
            for hook in (clip, clip.log):
                hook(trainer, losses, losses)
            norms.append(trainer.metrics.flush()["train/grad_norm"])
            assert phase.is_finite(total)
            phase.step()
        return norms

    @property
    def parameters(self) -> dict[str, Tensor]:
        return dict(self.loss.named_parameters())

    def values(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}


def agent(name: str, ours: bool, flat: bool = False) -> Agent:
    """Ours as it is shipped, or TorchRL's, with our Adam or torch's."""
    if name in ON_POLICY:
        page, config_class, theirs = ON_POLICY[name]
        config = config_class()
        loss = page.make_loss(comparing.networks_of(config), config, None if ours else theirs)
        phases = [Phase(loss, actor_critic_adam(loss, config, flat))]
        return Agent(loss, phases, lambda seed: comparing.batch(seed=seed))
    case = CASES[name]
    loss, config = case.make(case.ours if ours else case.theirs)
    if name in ("td3", "ddpg"):
        groups = parameter_groups(loss, {"critic": config.lr, "actor": config.lr})
        phases = ddpg.critics_and_actor(loss, [make_adam([each], flat=flat) for each in groups])
    elif name == "sac":
        phases = [Phase(loss, one_adam(loss, config, flat))]
    else:
        phases = [Phase(loss, dqn.make_optimizer(loss, config, flat))]
    return Agent(loss, phases, lambda seed: batch(seed, discrete=case.discrete))


every_loss = pytest.mark.parametrize("name", ["sac", "td3", "ddpg", "dqn", "c51", "ppo", "a2c"])


@every_loss
@pytest.mark.parametrize("flat", [True, False], ids=["our Adam", "torch's Adam"])
def test_frozen_ones_have_no_gradient_and_stay(name: str, flat: bool) -> None:
    ours, theirs = agent(name, True, flat), agent(name, False)
    frozen = list(theirs.parameters)[::3]
    for seed in range(5):
        if seed == 2:
            for each in (ours, theirs):
                for key in frozen:
                    each.parameters[key].requires_grad_(False)
            before = ours.values()
        assert ours.update(seed) == pytest.approx(theirs.update(seed), rel=1e-4)
    after, expected = ours.values(), theirs.values()
    for key, value in expected.items():
        torch.testing.assert_close(after[key], value, rtol=1e-3, atol=1e-5, msg=key)
        assert torch.equal(after[key], before[key]) == (key in frozen), key
    for key in frozen:
        assert theirs.parameters[key].grad is None
        gradient: Any = ours.parameters[key].grad
        # Our Adam's stay allocated.
        assert not gradient.any() if flat else gradient is None


@every_loss
@pytest.mark.parametrize("scaled", [False, True], ids=["direct", "through autograd"])
def test_hooks_are_called(name: str, scaled: bool) -> None:
    """In the updates that follow; what they make of a gradient is stepped on."""
    ours, theirs = agent(name, True, flat=True), agent(name, False)
    seen = []
    for each in (ours, theirs):
        called: list[tuple[str, Tensor]] = []
        each.update(0, scaled)
        handles = listen(each.parameters, called)
        each.update(1, scaled)
        for handle in handles:
            handle.remove()
        each.update(2, scaled)
        assert len(called) == len(handles)
        seen.append(dict(called))
    assert_near(seen[0], seen[1], 1e-4)
    expected = theirs.values()
    for key, value in ours.values().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-5, msg=key)
    for phase in ours.phases:  # the short way again
        losses = phase.compute(ours.data(3))
        known = known_gradients([v for k, v in losses.items() if k.startswith("loss_")])
        assert known is not None
        assert {id(leaf) for leaf in known[0]} == {id(leaf) for leaf in phase.parameters()}


def listen(parameters: dict[str, Tensor], called: list[tuple[str, Tensor]]) -> list[Any]:
    """To two of three: a hook doubles a gradient, or looks at what there is then."""

    def double(key: str, gradient: Tensor) -> Tensor:
        called.append((key, gradient.clone()))
        return 2.0 * gradient

    def look(key: str, parameter: Any) -> None:
        called.append((key, parameter.grad.clone()))

    handles: list[Any] = []
    for index, (key, parameter) in enumerate(parameters.items()):
        if index % 3 == 0:
            handles.append(parameter.register_hook(partial(double, key)))
        elif index % 3 == 1:
            handles.append(parameter.register_post_accumulate_grad_hook(partial(look, key)))
    return handles
