"""Networks in numpy compute what torch's modules and autograd do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tensordict.nn import AddStateIndependentNormalScale
from threadpoolctl import ThreadpoolController
from torch import Tensor, distributions, nn
from torchrl.data import Bounded, Categorical
from torchrl.modules import IndependentNormal, NormalParamExtractor

from trainers.networks.actors import ActionHead, Squash, action_head
from trainers.networks.mlps import mlp
from trainers.networks.normalization import RunningNorm
from trainers.networks.numpy_nets import (
    CategoricalHead,
    GaussianHead,
    GreedyHead,
    NumpyMLP,
    NumpyQHead,
    give_numpy_one_thread,
    numpy_policy,
    numpy_q_network,
)
from trainers.networks.q_networks import GreedyPolicy, QHead, QNetwork

ACTIVATIONS = pytest.mark.parametrize("activation", ["tanh", "relu"])
HIDDEN = pytest.mark.parametrize("hidden", [[], [8], [64, 64], [5, 9, 3]], ids=str)


def net_of(hidden: list[int], activation: str = "tanh", norm: bool = False) -> nn.Sequential:
    """Four inputs, three outputs; its normaliser has seen something."""
    torch.manual_seed(0)
    net = mlp(4, 3, hidden, activation)
    if not norm:
        return net
    statistics = RunningNorm([4], clip=1.5)
    statistics.update(2.0 + 3.0 * torch.randn(100, 4))
    return nn.Sequential(statistics, *net)


def inputs(number: int = 10) -> Tensor:
    """One of them so far out that a normaliser clips it."""
    values = 2.0 + 3.0 * torch.randn(number, 4, generator=torch.Generator().manual_seed(1))
    values[0, 0] = 20.0
    return values


def close(ours: Any, theirs: Tensor) -> None:
    """The same in float32."""
    assert ours.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(ours), theirs.detach(), rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------- nets


@HIDDEN
@ACTIVATIONS
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("number", [1, 10])
def test_forward_and_backward(hidden: list[int], activation: str, norm: bool, number: int) -> None:
    net, values = net_of(hidden, activation, norm), inputs(number)
    ours = NumpyMLP(net)
    given = values.clone()
    outputs = ours.forward(ours.normalized(values.numpy()))
    assert torch.equal(values, given)
    theirs = net(values)
    close(outputs[-1], theirs)
    if norm:
        normal = net[0](values)
        assert (normal.abs() == 1.5).any()
        close(outputs[0], normal)

    gradient = torch.randn(number, 3)
    theirs.backward(gradient)
    gradients = [np.empty_like(parameter.detach().numpy()) for parameter in ours.parameters]
    ours.backward(outputs, gradient.numpy(), gradients)
    parameters = list(net.parameters())
    assert [id(p) for p in ours.parameters] == [id(p) for p in parameters]
    assert len(gradients) == len(parameters)
    for found, parameter in zip(gradients, parameters, strict=True):
        assert found.flags.c_contiguous
        assert parameter.grad is not None
        close(found, parameter.grad)


def test_it_has_the_parameters_own_memory() -> None:
    net = net_of([8], norm=True)
    ours = NumpyMLP(net)
    for (weight, bias), layer in zip(ours.layers, (net[1], net[3]), strict=True):
        assert weight.ctypes.data == layer.weight.data_ptr()
        assert bias.ctypes.data == layer.bias.data_ptr()


@pytest.mark.parametrize("how", ["in place", "elsewhere", "one elsewhere", "another module's"])
def test_it_follows_its_parameters(how: str) -> None:
    net = net_of([8])
    ours = NumpyMLP(net)
    before = ours.forward(inputs().numpy())[-1]
    with torch.no_grad():
        if how == "in place":
            for parameter in net.parameters():
                parameter.mul_(1.5)
        elif how == "elsewhere":
            for parameter in net.parameters():
                parameter.data = 1.5 * parameter.data
        elif how == "one elsewhere":
            net[2].bias.data = 1.5 + net[2].bias.data
        else:
            net[2].weight = nn.Parameter(1.5 * net[2].weight)
    after = ours.forward(inputs().numpy())[-1]
    close(after, net(inputs()))
    assert np.abs(after - before).max() > 0.1


def test_it_follows_weights_that_are_computed() -> None:
    net = net_of([8])
    ours = NumpyMLP(net)
    nn.utils.parametrizations.weight_norm(net[0])
    for _ in range(2):
        close(ours.forward(inputs().numpy())[-1], net(inputs()))
        with torch.no_grad():
            net[0].parametrizations.weight.original0.mul_(2.0)


class Mine(nn.Linear):
    """Who knows what it does."""


class Louder(nn.Tanh):
    """Likewise."""


@pytest.mark.parametrize(
    ("net", "fits"),
    [
        (net_of([]), True),
        (net_of([8, 8], "relu"), True),
        (net_of([8], norm=True), True),
        (net_of([256]), True),
        (net_of([8, 257]), False),
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1)), True),
        (nn.Linear(4, 3), False),
        (net_of([8], "silu"), False),
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), False),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)), False),
        (nn.Sequential(nn.Tanh(), nn.Linear(4, 3)), False),
        (nn.Sequential(nn.Linear(4, 3), RunningNorm([3]), nn.Linear(3, 1)), False),
        (nn.Sequential(RunningNorm([4])), False),
        (nn.Sequential(nn.Linear(4, 3, bias=False)), False),
        (nn.Sequential(Mine(4, 3)), False),
        (nn.Sequential(nn.Linear(4, 3), Louder(), nn.Linear(3, 1)), False),
        (nn.Sequential(nn.Sequential(nn.Linear(4, 3)), nn.Tanh(), nn.Linear(3, 1)), False),
    ],
)
def test_what_fits(net: nn.Module, fits: bool) -> None:
    assert NumpyMLP.fits(net) is fits


# -------------------------------------------------------------------------- heads

GAUSSIAN = Bounded(-1.0, 1.0, (3,))


def gaussian(
    bound: float = 1e-4, squash: Squash | None = None
) -> tuple[GaussianHead, AddStateIndependentNormalScale]:
    """Deviations 0.5, 1 and 2."""
    scale = AddStateIndependentNormalScale(3, scale_lb=bound)
    scale.state_independent_scale.data.copy_(torch.tensor([0.5, 1.0, 2.0]).log())
    return GaussianHead(scale, squash), scale


BOUNDS = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([1.0, 3.0, 0.5])


@pytest.mark.parametrize("squash", [None, Squash(0.0, 1.0), Squash(*BOUNDS)])
@pytest.mark.parametrize("bound", [1e-4, 0.9])
def test_gaussian_log_probability_entropy_and_their_gradients(
    bound: float, squash: Squash | None
) -> None:
    head, scale = gaussian(bound, squash)
    outputs = torch.randn(10, 3, requires_grad=True)
    action = torch.randn(10, 3)
    ours = head.distribution(outputs.detach().numpy(), action.numpy())
    theirs = IndependentNormal(*ActionHead(3, scale, squash)(outputs))
    assert_same_distribution(head, ours, theirs, outputs, action)
    assert (scale.state_independent_scale.grad == 0).tolist() == [bound == 0.9, False, False]


def test_categorical_log_probability_entropy_and_their_gradients() -> None:
    outputs = (5.0 * torch.randn(10, 3)).requires_grad_()
    with torch.no_grad():
        outputs[0] += 100.0  # whose exponential overflows
    action = torch.randint(0, 3, (10,))
    head = CategoricalHead(3)
    ours = head.distribution(outputs.detach().numpy(), action.numpy())
    assert_same_distribution(head, ours, distributions.Categorical(logits=outputs), outputs, action)


def assert_same_distribution(
    head: Any, ours: Any, theirs: Any, outputs: Tensor, action: Tensor
) -> None:
    """Values, and gradients of the outputs and of the head's parameters."""
    log_prob, entropy = theirs.log_prob(action), theirs.entropy().sum()
    close(ours.log_prob, log_prob)
    assert ours.entropy == pytest.approx(entropy.item(), rel=1e-5)
    of_log_prob, of_entropy = torch.randn(10), torch.randn(())
    torch.autograd.backward([log_prob, entropy], [of_log_prob, of_entropy])
    d_outputs, d_own = ours.gradients(of_log_prob.numpy(), of_entropy.item())
    assert outputs.grad is not None
    close(d_outputs, outputs.grad)
    assert len(d_own) == len(head.parameters)
    for gradient, parameter in zip(d_own, head.parameters, strict=True):
        close(gradient, parameter.grad)


def test_gaussian_actions_have_its_moments() -> None:
    head, _ = gaussian(bound=0.9)
    torch.manual_seed(0)
    outputs = np.tile(np.array([3.0, -1.0, 0.0], np.float32), (20_000, 1))
    actions = head.action(outputs, head.noise(20_000))
    assert (actions.shape, actions.dtype) == ((20_000, 3), np.float32)
    z = (actions - outputs) / np.array([0.9, 1.0, 2.0])  # the first is at its bound
    assert z.mean(0).tolist() == pytest.approx([0.0] * 3, abs=0.03)
    assert (z**2).mean(0).tolist() == pytest.approx([1.0] * 3, abs=0.05)
    assert (z**4).mean(0).tolist() == pytest.approx([3.0] * 3, abs=0.3)
    assert np.corrcoef(z.T)[np.triu_indices(3, 1)].tolist() == pytest.approx([0.0] * 3, abs=0.03)


def test_categorical_actions_come_as_often_as_they_should() -> None:
    head = CategoricalHead(4)
    torch.manual_seed(0)
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    outputs = np.tile(np.log(probabilities).astype(np.float32) + 7.0, (20_000, 1))
    actions = head.action(outputs, head.noise(20_000))
    assert (actions.shape, actions.dtype) == ((20_000,), np.int64)
    shares = np.bincount(actions, minlength=4) / 20_000
    assert shares.tolist() == pytest.approx(probabilities.tolist(), abs=0.012)  # 3.4 deviations
    assert abs(np.corrcoef(actions[1:], actions[:-1])[0, 1]) < 0.03


def test_without_noise_it_is_the_likeliest_action() -> None:
    outputs, squash = torch.randn(10, 3).numpy(), Squash(*BOUNDS)
    assert np.array_equal(gaussian()[0].action(outputs, None), outputs)
    close(gaussian(squash=squash)[0].action(outputs, None), squash(torch.from_numpy(outputs)))
    assert np.array_equal(CategoricalHead(3).action(outputs, None), outputs.argmax(-1))


@pytest.mark.parametrize("head", [gaussian()[0], CategoricalHead(3)])
def test_noise_is_of_torch_s_generator(head: Any) -> None:
    torch.manual_seed(3)
    first, second = head.noise(5, 2), head.noise(5, 2)
    np.random.seed(0)
    torch.manual_seed(3)
    again = head.noise(5, 2)
    assert (first.shape, first.dtype) == ((5, 2, 3), np.float32)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


# ----------------------------------------------------------------------- policies


def test_the_policies_it_can_follow() -> None:
    net = net_of([8], norm=True)
    found = numpy_policy(nn.Sequential(net, action_head(GAUSSIAN, False, 0.0)))
    assert found is not None
    assert isinstance(found[1], GaussianHead)
    found = numpy_policy(nn.Sequential(net, action_head(Categorical(3), False, 0.0)))
    assert found is not None
    assert isinstance(found[1], CategoricalHead)
    assert found[1].num_actions == 3


@pytest.mark.parametrize(
    "policy",
    [
        None,
        net_of([8]),
        nn.Sequential(net_of([8])),
        nn.Sequential(net_of([8], "silu"), action_head(GAUSSIAN, False, 0.0)),
        nn.Sequential(nn.Linear(4, 3), action_head(GAUSSIAN, False, 0.0)),
        nn.Sequential(mlp(4, 6, [8]), action_head(GAUSSIAN, True, 0.0)),
        nn.Sequential(mlp(4, 6, [8]), NormalParamExtractor()),
        nn.Sequential(net_of([8]), ActionHead(3, nn.Softmax(-1))),
        nn.Sequential(net_of([8]), action_head(GAUSSIAN, False, 0.0), nn.Identity()),
    ],
)
def test_the_policies_it_cannot_follow(policy: nn.Module | None) -> None:
    assert numpy_policy(policy) is None


# ------------------------------------------------------------------------- values

ATOMS = pytest.mark.parametrize("num_atoms", [None, 5])
DUELLING = pytest.mark.parametrize("duelling", [False, True])


@ATOMS
@DUELLING
def test_values_and_the_way_back(duelling: bool, num_atoms: int | None) -> None:
    torch.manual_seed(0)
    theirs = QHead(3, duelling, num_atoms)
    ours = NumpyQHead(theirs)
    outputs = torch.randn(10, theirs.num_inputs, requires_grad=True)
    values = theirs(outputs)
    close(ours.forward(outputs.detach().numpy()), values)
    gradient = torch.randn_like(values)
    values.backward(gradient)
    assert outputs.grad is not None
    close(ours.backward(gradient.numpy()), outputs.grad)


@ATOMS
@DUELLING
def test_the_greedy_action(duelling: bool, num_atoms: int | None) -> None:
    torch.manual_seed(0)
    network = QNetwork(4, 3, [16], "relu", duelling, num_atoms)
    support = None if num_atoms is None else torch.linspace(-2, 3, num_atoms)
    found = numpy_q_network(network)
    assert found is not None
    net, head = found
    greedy = GreedyHead(head, support)
    outputs = net.forward(3 * inputs(200).numpy())[-1]
    action = greedy.action(outputs, greedy.noise(200))
    expected = GreedyPolicy(network, support).mode(3 * inputs(200))
    assert (action.dtype, action.tolist()) == (np.int64, expected.tolist())
    assert len(np.unique(action)) > 1


@pytest.mark.parametrize(
    "network",
    [
        nn.Linear(4, 3),
        mlp(4, 3, [8]),
        QNetwork(4, 3, [257], "relu"),
        QNetwork(4, 3, [8], "gelu"),
        nn.Sequential(mlp(4, 3, [8]), nn.Softmax(-1)),
        nn.Sequential(mlp(4, 3, [8]), QHead(3), nn.Identity()),
    ],
)
def test_the_networks_of_values_it_cannot_follow(network: nn.Module) -> None:
    assert numpy_q_network(network) is None


# --------------------------------------------------------------------------- threads


def test_numpy_s_threads_are_not_in_the_way() -> None:
    """Also of a program that has loaded numpy before it asked for anything of ours."""
    found = ThreadpoolController().lib_controllers
    before = [library.num_threads for library in found]
    of_numpy = [library for library in found if "numpy" in library.filepath]
    others = [library for library in found if "numpy" not in library.filepath]
    assert of_numpy
    try:
        for library in found:
            library.set_num_threads(2)
        give_numpy_one_thread.cache_clear()
        NumpyMLP(net_of([8]))
        assert {library.num_threads for library in of_numpy} == {1}
        assert {library.num_threads for library in others} == {2}
    finally:
        for library, number in zip(found, before, strict=True):
            library.set_num_threads(number)
