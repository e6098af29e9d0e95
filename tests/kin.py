"""SAC's kin, as small as the tests want them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from helpers import env_config, tiny_sac
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.data import Bounded

from trainers.config import AlgoConfig, TrainConfig
from trainers.config.off_policy import SlicesConfig

SMALL: dict[str, dict[str, Any]] = {
    "crossq": {"renorm_warm_up": 10},
    "discrete_sac": {},
    "redq": {"num_critics": 3, "utd_ratio": 2.0, "policy_delay": 4},
    "tqc": {"num_critics": 2, "num_quantiles": 5, "top_quantiles_to_drop": 1},
}
KIN = sorted(SMALL)
DELAYED = [name for name in KIN if hasattr(AlgoConfig.known[name], "policy_delay")]
SLICED = [name for name in KIN if issubclass(AlgoConfig.known[name], SlicesConfig)]


def env_id(name: str) -> str:
    """Where it can act."""
    return "CartPole-v1" if name == "discrete_sac" else "Pendulum-v1"


def tiny(
    name: str,
    algo: dict[str, Any] | None = None,
    env: Any = None,
    total_frames: int = 40,
    **given: Any,
) -> TrainConfig:
    """Networks of eight units: trains for a fraction of a second."""
    settings = {"batch_size": 8, "buffer_size": 1_000, "init_random_frames": 10}
    config = tiny_sac(env or env_config(env_id(name)), total_frames=total_frames, **given)
    settings |= SMALL[name] | (algo or {})
    return replace(config, algo=AlgoConfig.known[name](**settings))


# ------------------------------------------------------------------- for losses

OBSERVATIONS, ACTIONS, BATCH = 5, 3, 16
SPEC = Bounded(-torch.ones(ACTIONS), torch.ones(ACTIONS), (ACTIONS,))


def moved(loss: Any) -> Any:
    """The loss, with targets away from their sources and statistics away from 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in loss.state_dict().items():
        if isinstance(tensor, Tensor) and (name.startswith("target_qvalue") or "running" in name):
            tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.1)
    return loss


def batch(seed: int = 1, discrete: int | None = None, *extra: str) -> TensorDict:
    """Transitions, some of them truncated, some terminated."""
    generator = torch.Generator().manual_seed(seed)

    def normal(last: int) -> Tensor:
        return torch.randn(BATCH, last, generator=generator)

    terminated = normal(1) > 1
    action = normal(ACTIONS).tanh() if discrete is None else (normal(1)[:, 0] * 9).long() % discrete
    more = {
        "priority_weight": normal(1).sigmoid().squeeze(-1),
        "steps_to_next_obs": (normal(1) > 0).long() + 1,
    }
    return TensorDict(
        {
            **{key: more[key] for key in extra},
            "observation": normal(OBSERVATIONS),
            "action": action,
            "next": {
                "observation": normal(OBSERVATIONS),
                "reward": normal(1),
                "terminated": terminated,
                "done": terminated | (normal(1) > 1),
            },
        },
        [BATCH],
    )


def differentiated(losses: Any, loss: nn.Module) -> dict[str, Tensor]:
    """The gradients of the sum of all ``loss_*``."""
    loss.zero_grad(set_to_none=True)
    sum(value.sum() for key, value in losses.items() if key.startswith("loss_")).backward()
    return {n: p.grad.clone() for n, p in loss.named_parameters() if p.grad is not None}


def assert_near(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Equal, relative to the largest entry of each."""
    assert one.keys() == two.keys()
    for key, value in two.items():
        assert one[key].shape == value.shape, key
        assert (one[key] - value).abs().max() <= tolerance * value.abs().max() + 1e-12, key
