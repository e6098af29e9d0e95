"""Networks of the shipped algorithms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import ValueOperator
from torchrl.objectives import SACLoss

from trainers.algorithms.sac import make_loss
from trainers.config import NetworkConfig, SACConfig
from trainers.networks.actors import ActingPolicy, TanhActor, TanhNormalActor
from trainers.networks.critics import StateActionValue, StateValue, critic_ensemble
from trainers.networks.mlps import ACTIVATIONS, mlp
from trainers.networks.q_networks import GreedyPolicy, QHead, QNetwork

UNIT = Bounded(-1.0, 1.0, (2,))
WIDE = Bounded(torch.tensor([-2.0, 0.0]), torch.tensor([4.0, 0.5]), (2,))


def test_an_mlp_has_no_activation_at_its_end() -> None:
    net = mlp(3, 2, [5, 4], "tanh")
    assert [type(layer) for layer in net] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    sizes = [(m.in_features, m.out_features) for m in net if isinstance(m, nn.Linear)]
    assert sizes == [(3, 5), (5, 4), (4, 2)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_can_be_configured(activation: str) -> None:
    assert NetworkConfig(activation=activation).activation == activation
    assert isinstance(mlp(3, 2, [4], activation)[1], ACTIVATIONS[activation])


# --------------------------------------------------------------------- critics


def weights(critic: nn.Module) -> torch.Tensor:
    """All parameters in a row."""
    return torch.cat([p.detach().flatten() for p in critic.parameters()])


def test_one_network_is_copied_and_every_copy_drawn_anew() -> None:
    critic = StateActionValue(3, 2, [8], "relu")
    critics = critic_ensemble(critic, 3)
    assert len(critics) == 3
    assert critics[0].module is critic
    for left, right in [(0, 1), (0, 2), (1, 2)]:
        same = weights(critics[left]) == weights(critics[right])
        assert not same.any()
    bound = (3 + 2) ** -0.5  # what a linear layer of five inputs draws from
    assert weights(critics[1])[:40].abs().max() <= bound


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_list_is_taken_as_it_is(number: int) -> None:
    given = [StateActionValue(3, 2, [8], "relu") for _ in range(3)]
    critics = critic_ensemble(given, number)
    assert [c.module for c in critics] == given


def test_a_tensordict_module_stays_one() -> None:
    critic = ValueOperator(StateActionValue(3, 2, [8], "relu"), ["observation", "action"])
    first, second = critic_ensemble(critic, 2)
    assert first is critic
    assert isinstance(second, TensorDictModule)
    assert not torch.equal(weights(first), weights(second))


def test_critics_read_observation_and_action() -> None:
    critic = StateActionValue(3, 2, [8], "relu")
    (wrapped,) = critic_ensemble(critic, 1)
    data = TensorDict({"observation": torch.rand(4, 3), "action": torch.rand(4, 2)}, [4])
    value = wrapped(data)["state_action_value"]
    assert value.shape == (4, 1)
    expected = critic.net(torch.cat([data["observation"], data["action"]], -1))
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("number", [1, 3])
def test_a_list_of_critics_counts_itself(number: int) -> None:
    """Whatever `algo.num_critics` says."""
    critics = critic_ensemble(StateActionValue(3, 2, [8], "relu"), number)
    loss = make_loss(TanhNormalActor(3, UNIT, [8], "relu"), critics, UNIT, SACConfig(), SACLoss)
    assert loss.num_qvalue_nets == len(critics)
    stacked = loss.qvalue_network_params["module", "net", "0", "weight"]
    for index, critic in enumerate(critics):
        assert torch.equal(stacked[index], critic.module.net[0].weight)


def test_one_critic_is_as_many_as_configured() -> None:
    (critic,) = critic_ensemble(StateActionValue(3, 2, [8], "relu"), 1)
    actor = TanhNormalActor(3, UNIT, [8], "relu")
    loss = make_loss(actor, critic, UNIT, SACConfig(num_critics=3), SACLoss)
    assert loss.num_qvalue_nets == 3
    first, second, third = loss.qvalue_network_params["module", "net", "0", "weight"]
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


# ----------------------------------------------------------------------- actor


@pytest.mark.parametrize("spec", [UNIT, WIDE], ids=["unit", "wide"])
def test_the_actor_s_shortcuts_are_its_distribution(spec: Any) -> None:
    torch.manual_seed(0)
    actor = TanhNormalActor(3, spec, [8], "relu")
    data = TensorDict({"observation": 3 * torch.randn(500, 3)}, [500])
    distribution: Any = actor.get_dist(data)
    observation = data["observation"]
    torch.testing.assert_close(actor.mode(observation), distribution.deterministic_sample)
    assert spec.is_in(actor.sample(observation))


def test_the_acting_policy_follows_the_exploration_type() -> None:
    actor = TanhNormalActor(3, UNIT, [8], "relu")
    policy = ActingPolicy(actor)
    observation = torch.randn(100, 3)

    def act(kind: ExplorationType) -> torch.Tensor:
        with set_exploration_type(kind):
            return policy(TensorDict({"observation": observation}, [100]))["action"]

    assert torch.equal(act(ExplorationType.DETERMINISTIC), actor.mode(observation))
    assert not torch.equal(act(ExplorationType.RANDOM), act(ExplorationType.RANDOM))
    torch.manual_seed(1)
    expected = actor.sample(observation)
    torch.manual_seed(1)
    assert torch.equal(act(ExplorationType.RANDOM), expected)


def test_parameters_are_registered_once() -> None:
    actor = TanhNormalActor(3, UNIT, [8], "relu")
    assert len(list(actor.parameters())) == len(actor.state_dict()) == 4
    assert len(ActingPolicy(actor).state_dict()) == 4


def test_a_network_that_cannot_be_drawn_anew_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4))

        def forward(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
            return torch.cat([observation, action], -1) @ self.weight.unsqueeze(-1)

    with pytest.raises(ValueError, match="Bare has parameters but no reset_parameters"):
        critic_ensemble(Bare(), 2)
    assert len(critic_ensemble([Bare(), Bare()])) == 2


@pytest.mark.parametrize("spec", [UNIT, WIDE], ids=["unit", "wide"])
def test_a_deterministic_actor_is_squashed_into_the_bounds(spec: Bounded) -> None:
    torch.manual_seed(0)
    actor = TanhActor(3, spec, [16], "relu")
    data = TensorDict({"observation": 50 * torch.randn(500, 3)}, [500])
    action = actor(data)["action"]
    low, high = spec.space.low, spec.space.high
    expected = low + (high - low) * (actor.net(data["observation"]).tanh() + 1) / 2
    torch.testing.assert_close(action, expected)
    assert (action.amin(0) - low).abs().max() < 0.01
    assert (action.amax(0) - high).abs().max() < 0.01
    assert torch.equal(actor.mode(data["observation"]), actor.sample(data["observation"]))
    with set_exploration_type(ExplorationType.RANDOM):
        assert torch.equal(ActingPolicy(actor)(data.select("observation"))["action"], action)


def test_the_value_of_a_state_is_one_number() -> None:
    assert StateValue(3, [5], "relu")(torch.zeros(4, 2, 3)).shape == (4, 2, 1)


# ---------------------------------------------------------------------- values


def test_a_network_of_values_has_one_for_every_action() -> None:
    values = QNetwork(3, 4, [8], "tanh")(torch.randn(2, 5, 3))
    assert values.shape == (2, 5, 4)
    assert QNetwork(3, 4, [8], "tanh", num_atoms=7)(torch.randn(2, 3)).shape == (2, 7, 4)


@pytest.mark.parametrize("num_atoms", [None, 3])
def test_duelling_is_a_value_and_advantages_without_their_mean(num_atoms: int | None) -> None:
    head = QHead(2, duelling=True, num_atoms=num_atoms)
    assert head.num_inputs == 3 * (num_atoms or 1)
    outputs = torch.arange(head.num_inputs).float().unsqueeze(0) ** 2
    # V is 0, 9, 36; A are (1, 4), (16, 25), (49, 64).
    expected = [[-1.5, 1.5], [9 - 4.5, 9 + 4.5], [36 - 7.5, 36 + 7.5]]
    found = head(outputs)[0].tolist()
    assert found == (expected if num_atoms else expected[0])


def test_a_greedy_policy_takes_the_action_of_the_largest_value() -> None:
    class Table(nn.Module):
        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return observation

    data = TensorDict({"observation": torch.tensor([[1.0, 3.0, 2.0], [5.0, 3.0, 2.0]])}, [2])
    assert GreedyPolicy(Table())(data)["action"].tolist() == [1, 0]
    # The likelier atom of the first action is the highest, the mean of the second is higher.
    logits = torch.tensor([[0.5, 0.1], [0.01, 0.1], [0.49, 0.8]]).log() + torch.tensor([7.0, -7.0])
    data = TensorDict({"observation": logits.unsqueeze(0)}, [1])
    assert GreedyPolicy(Table(), torch.tensor([-1.0, 0.0, 1.0]))(data)["action"].tolist() == [1]
    assert GreedyPolicy(Table(), torch.tensor([1.0, 0.0, -1.0]))(data)["action"].tolist() == [0]
