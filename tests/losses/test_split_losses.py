"""The losses of REDQ and CrossQ are their papers', written out critic by critic."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.modules import ValueOperator
from torchrl.modules.distributions.utils import rsample_and_log_prob
from torchrl.objectives import REDQLoss
from transitions import ACTIONS, OBSERVATIONS, SPEC, assert_near, batch, differentiated, moved

from trainers.algorithms import crossq, redq
from trainers.config import ConfigError, CrossQConfig, NetworkConfig, REDQConfig
from trainers.losses.redq import SplitREDQLoss
from trainers.networks.actors import TanhNormalActor
from trainers.networks.batch_renorm import BatchRenorm, RenormActor, frozen
from trainers.networks.critics import StateActionValue, make_critics

pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")

GAMMA, ALPHA = 0.9, 0.2
SIZES = (OBSERVATIONS, ACTIONS)
NETWORK = NetworkConfig(hidden=[16, 8], activation="tanh")
EXTRAS = [(), ("priority_weight",), ("steps_to_next_obs",)]
extras = pytest.mark.parametrize("extra", EXTRAS, ids=" ".join)


def redq_loss(loss_class: Any = SplitREDQLoss, critics: Any = None, **given: Any) -> Any:
    torch.manual_seed(0)
    config = REDQConfig(**({"num_critics": 4, "gamma": GAMMA, "alpha_init": ALPHA} | given))
    actor = TanhNormalActor(OBSERVATIONS, SPEC, [16, 16], "relu")
    critics = critics or make_critics(SIZES, NETWORK, config.num_critics, None, "cpu")
    return moved(redq.make_loss(actor, critics, SPEC, config, loss_class))


def crossq_parts(warm_up: int = 0, **given: Any) -> tuple[Any, list[Any]]:
    """A loss, and the critics whose parameters it has stacked."""
    torch.manual_seed(0)
    config = CrossQConfig(**({"gamma": GAMMA, "alpha_init": ALPHA} | given))

    def norm(width: int) -> BatchRenorm:
        return BatchRenorm(width, warm_up=warm_up)

    actor = RenormActor(OBSERVATIONS, SPEC, [16, 16], "relu", norm)
    critics = make_critics(SIZES, NETWORK, config.num_critics, None, "cpu", norm=norm)
    return crossq.make_loss(actor, critics, SPEC, config), critics


def drawn(actor: Any, observation: Tensor) -> tuple[Tensor, Tensor]:
    """By TorchRL's distribution."""
    data = TensorDict({"observation": observation}, observation.shape[:-1])
    return rsample_and_log_prob(actor.get_dist(data))


def share(data: Any) -> Tensor:
    """How much each row counts."""
    weights = data.get("priority_weight", torch.ones(len(data)))
    return weights / weights.sum()


def target_of(data: Any, next_value: Tensor) -> Tensor:
    following = {key: data["next", key].squeeze(-1) for key in ("reward", "terminated")}
    steps = data.get("steps_to_next_obs", torch.ones(len(data), 1)).squeeze(-1)
    return following["reward"] + GAMMA**steps * next_value * ~following["terminated"]


def near(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one.detach(), two.detach(), rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------- REDQ


def critic_values(loss: Any, parameters: Any, index: int, observation: Any, action: Any) -> Tensor:
    """Of one critic by itself."""
    with parameters[index].to_module(loss.qvalue_network):
        return loss.qvalue_network(observation, action).squeeze(-1)


@extras
def test_redq_is_algorithm_1(extra: tuple[str, ...]) -> None:
    loss, data = redq_loss(), batch(extra=extra)
    torch.manual_seed(2)
    chosen = torch.randperm(4)[:2]
    action, log_prob = drawn(loss.actor_network, data["next", "observation"])
    targets, sources = loss.target_qvalue_network_params, loss.qvalue_network_params
    asked = (data["next", "observation"], action)
    next_values = [critic_values(loss, targets, int(i), *asked) for i in chosen]
    target = target_of(data, torch.stack(next_values).amin(0) - ALPHA * log_prob).detach()
    asked = (data["observation"], data["action"])
    values = torch.stack([critic_values(loss, sources, i, *asked) for i in range(4)])
    loss_qvalue = ((values - target).square() * share(data)).sum()
    action, log_prob = drawn(loss.actor_network, data["observation"])
    asked = (data["observation"], action)
    judged = [critic_values(loss, sources.detach(), i, *asked) for i in range(4)]
    loss_actor = ((ALPHA * log_prob - torch.stack(judged).mean(0)) * share(data)).sum()
    excess = (share(data) * (log_prob.detach() - ACTIONS)).sum()
    expected = {
        "loss_qvalue": loss_qvalue,
        "loss_actor": loss_actor,
        "loss_alpha": -loss.log_alpha * excess,
    }
    expected_gradients = differentiated(expected, loss)

    torch.manual_seed(2)
    losses = loss(data)
    for key, value in expected.items():
        near(losses[key], value)
    near(data["td_error"], (values - target).abs().amax(0))
    near(losses["alpha"], torch.tensor(ALPHA))
    near(losses["entropy"], -log_prob.mean())
    assert_near(differentiated(losses, loss), expected_gradients, 1e-4)
    assert len(expected_gradients) == 6 + 6 + 1


def test_redq_s_critics_and_actor_are_torchrl_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, which the two draw in another order."""
    monkeypatch.setattr(torch, "randperm", torch.arange)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(
        "torch.distributions.normal._standard_normal",
        lambda shape, dtype, device: torch.zeros(shape, dtype=dtype, device=device),
    )
    ours, theirs = redq_loss(), redq_loss(REDQLoss)
    our_losses, their_losses = ours(batch()), theirs(batch())
    near(our_losses["loss_actor"], their_losses["loss_actor"])
    near(our_losses["loss_qvalue"] / 4, their_losses["loss_qvalue"])
    gradients = [
        differentiated({"loss_": losses["loss_actor"] + losses["loss_qvalue"] / n}, loss)
        for losses, loss, n in ((our_losses, ours, 4), (their_losses, theirs, 1))
    ]
    for each in gradients:
        each.pop("log_alpha", None)
    assert_near(*gradients)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_redq_has_no_bounds_and_no_smooth_loss_unless_told() -> None:
    loss = redq_loss(alpha_init=50.0)
    assert loss.loss_function == "l2"
    assert float(loss(batch())["alpha"]) == pytest.approx(50.0)
    bounded = redq_loss(alpha_init=0.5, min_alpha=0.4, max_alpha=0.6)
    bounded.log_alpha.data.fill_(9.0)
    assert float(bounded(batch())["alpha"]) == pytest.approx(0.6)


def test_a_subset_may_have_all_critics_but_for_torchrl_s() -> None:
    assert redq_loss(subset_size=4).sub_sample_len == 4
    with pytest.raises(ConfigError, match=r"subset_size.*at most 3.*never takes all of the 4"):
        redq_loss(REDQLoss, subset_size=4)


class Mine(StateActionValue):
    """Of another type than the shipped one."""


def test_critics_of_another_kind_are_asked_by_vmap() -> None:
    values = []
    for kind in (StateActionValue, Mine):
        torch.manual_seed(3)
        critics = [ValueOperator(kind(*SIZES, [8], "relu"), ["observation", "action"])] * 1
        critics += [ValueOperator(kind(*SIZES, [8], "relu"), ["observation", "action"])]
        loss = redq_loss(critics=critics, num_critics=2)
        torch.manual_seed(2)
        losses = loss(batch())
        values.append((dict(losses.items()), differentiated(losses, loss)))
    assert type(loss._critics).__name__ == "function"
    assert_near({k: v.detach() for k, v in values[0][0].items()},
                {k: v.detach() for k, v in values[1][0].items()})  # fmt: skip
    assert_near(values[0][1], values[1][1])


# --------------------------------------------------------------------- CrossQ


@pytest.mark.parametrize("warm_up", [0, 100], ids=["renorm", "norm"])
@pytest.mark.parametrize("number", [1, 2])
@extras
def test_crossq_is_figure_2(warm_up: int, number: int, extra: tuple[str, ...]) -> None:
    loss, critics = crossq_parts(warm_up, num_critics=number)
    loss, actor, critics = moved(loss), copy.deepcopy(loss.actor_network), copy.deepcopy(critics)
    with torch.no_grad():  # the stack's statistics, too
        for index, critic in enumerate(critics):
            for key, value in critic.state_dict().items():
                value.copy_(loss.qvalue_network_params[index][tuple(key.split("."))])
    data = batch(extra=extra)

    torch.manual_seed(2)
    with frozen(actor):
        action, log_prob = drawn(actor, data["next", "observation"])
    both = torch.cat([data["observation"], data["next", "observation"]])
    actions = torch.cat([data["action"], action]).detach()
    asked = [critic(both, actions).squeeze(-1) for critic in critics]
    values, next_values = torch.stack(asked).chunk(2, 1)
    target = target_of(data, next_values.amin(0) - ALPHA * log_prob).detach()
    loss_qvalue = ((values - target).square() * share(data)).sum()
    loss_qvalue.backward()
    named = [dict(critic.named_parameters()) for critic in critics]
    of_critics = {name: torch.stack([each[name].grad for each in named]) for name in named[0]}
    action, log_prob = drawn(actor, data["observation"])
    judged = []
    for critic in critics:
        with frozen(critic):
            judged.append(critic(data["observation"], action).squeeze(-1))
    weighed = (ALPHA * log_prob - torch.stack(judged).amin(0)) * share(data)
    weighed.sum().backward()

    torch.manual_seed(2)
    losses = loss(data)
    near(losses["loss_qvalue"], loss_qvalue)
    near(losses["loss_actor"], weighed.sum())
    near(losses["loss_alpha"], -loss.log_alpha * (share(data) * (log_prob - ACTIONS)).sum())
    near(data["td_error"], (values - target).abs().amax(0))
    gradients = differentiated(losses, loss)
    for name, value in of_critics.items():
        ours = gradients[f"qvalue_network_params.{name}"]
        torch.testing.assert_close(ours, value, rtol=1e-3, atol=1e-5, msg=name)
    theirs = {n: p.grad for n, p in actor.named_parameters()}
    ours = {n: p.grad for n, p in loss.actor_network.named_parameters()}
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)
    # What has been learnt of the inputs: once by each network, of the states it is trained in.
    for name, value in actor.named_buffers():
        torch.testing.assert_close(dict(loss.actor_network.named_buffers())[name], value)
    for index, critic in enumerate(critics):
        for name, value in critic.named_buffers():
            mine = loss.qvalue_network_params[index][tuple(name.split("."))]
            torch.testing.assert_close(mine, value, msg=name)


def test_crossq_s_parts_leave_each_other_s_statistics_and_gradients() -> None:
    loss, _ = crossq_parts()
    actor = [b for n, b in loss.actor_network.named_buffers() if n.endswith("batches")]
    critic_counts = [
        v for k, v in loss.qvalue_network_params.items(True, True) if k[-1] == "batches"
    ]
    gradients = differentiated(loss.critic_losses(batch()), loss)
    assert {name.split(".")[0] for name in gradients} == {"qvalue_network_params"}
    assert [int(c) for c in actor] == [0] * 3
    assert [c.tolist() for c in critic_counts] == [[1, 1]] * 3
    gradients = differentiated(loss.actor_losses(batch()), loss)
    assert {name.split(".")[0] for name in gradients} == {"actor_network_params", "log_alpha"}
    assert [int(c) for c in actor] == [1] * 3
    assert [c.tolist() for c in critic_counts] == [[1, 1]] * 3


def test_crossq_has_no_targets() -> None:
    loss, _ = crossq_parts()
    assert not [name for name, _ in loss.named_children() if name.startswith("target_")]
