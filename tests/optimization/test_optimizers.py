"""Adam on flat vectors is torch's Adam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.doubles import stub
from tensordict import TensorDict
from torch import Tensor, nn
from torch.optim import Adam

from trainers.hooks import ClipGradNorm
from trainers.optimization.optimizers import FlatAdam, leaves
from trainers.saving import checkpoint

RATES = (1e-2, 3e-4)


class Nets(nn.Module):
    """Two networks, each a group, and one that no loss asks for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.actor = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        self.log_std = nn.Parameter(torch.zeros(2))
        self.critic = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.unused = nn.Linear(2, 2)

    def groups(self) -> list[dict[str, Any]]:
        actor = [*self.actor.parameters(), self.log_std]
        critic = [*self.critic.parameters(), *self.unused.parameters()]
        return [
            {"params": params, "name": name, "lr": lr}
            for name, params, lr in zip(("actor", "critic"), (actor, critic), RATES, strict=True)
        ]

    def loss(self, seed: int) -> Tensor:
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(seed))
        actions = self.actor(x) * self.log_std.exp()
        return (actions - x[:, :2]).square().mean() + (self.critic(x) - 1.0).abs().mean()


def made(flat: bool) -> tuple[Nets, Any]:
    """Networks, and their optimizer, ours or torch's."""
    nets = Nets()
    groups = nets.groups()
    return nets, FlatAdam(groups, eps=1e-5) if flat else Adam(groups, eps=1e-5, fused=True)


def update(nets: Nets, optimizer: Any, seeds: range) -> None:
    """A step for each seed, with rates that fall as a schedule's do."""
    for seed in seeds:
        optimizer.zero_grad()
        nets.loss(seed).backward()
        for group, lr in zip(optimizer.param_groups, RATES, strict=True):
            group["lr"] = lr * (1.0 - seed / 40)
        optimizer.step()


def values(nets: Nets) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in nets.named_parameters()}


def assert_views(nets: Nets, optimizer: FlatAdam) -> None:
    """Every parameter, and its gradient, lie in its group's vector, in their order."""
    groups = zip(optimizer.param_groups, nets.groups(), strict=True)
    for flat, group in groups:
        (vector,) = flat["params"]
        for whole, parts in (
            (vector, group["params"]),
            (vector.grad, [parameter.grad for parameter in group["params"]]),
        ):
            begin = whole.data_ptr()
            for part in parts:
                assert part.is_contiguous()
                assert part.data_ptr() == begin
                begin += 4 * part.numel()
            assert begin == whole.data_ptr() + 4 * whole.numel()


def test_twenty_steps_are_torch_s() -> None:
    """To 1e-6 of a parameter: vectorised arithmetic rounds differently at other addresses."""
    (ours, flat), (theirs, usual) = made(True), made(False)
    before = values(ours)
    assert all(torch.equal(before[name], value) for name, value in values(theirs).items())
    for nets, optimizer in ((ours, flat), (theirs, usual)):
        update(nets, optimizer, range(20))
    after = values(ours)
    for name, value in values(theirs).items():
        torch.testing.assert_close(after[name], value, rtol=1e-6, atol=1e-7, msg=name)
        assert torch.equal(after[name], before[name]) == name.startswith("unused")


def test_views_stay_views() -> None:
    nets, optimizer = made(True)
    assert_views(nets, optimizer)
    for set_to_none in (True, False):
        optimizer.zero_grad(set_to_none)
        assert_views(nets, optimizer)
        assert all((parameter.grad == 0).all() for parameter in nets.parameters())
        nets.loss(0).backward()
        assert_views(nets, optimizer)
        optimizer.step()
        assert_views(nets, optimizer)
    nets.load_state_dict(Nets().state_dict())
    assert_views(nets, optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    assert_views(nets, optimizer)


def test_dropped_gradients_come_back() -> None:
    """A module's own `zero_grad` sets them to None; what came later would reach nobody."""
    nets, optimizer = made(True)
    nets.zero_grad()
    assert nets.log_std.grad is None
    optimizer.zero_grad()
    assert_views(nets, optimizer)


def test_leaves_stand_for_whole_groups_only() -> None:
    nets, optimizer = made(True)
    actor, critic = (group["params"] for group in nets.groups())
    flat = [group["params"][0] for group in optimizer.param_groups]
    other = nn.Parameter(torch.zeros(1))

    def found(parameters: list[Tensor]) -> list[tuple[int, int]]:
        return [(id(leaf), number) for leaf, number in leaves(parameters)]

    both = [(id(flat[0]), len(actor)), (id(flat[1]), len(critic))]
    assert found([*actor, *critic]) == both
    assert found([*critic, other, *actor]) == [both[1], (id(other), 1), both[0]]
    for parts in (actor[1:], actor[::-1]):  # some of them, another order
        assert found(parts) == [(id(each), 1) for each in parts]


def test_gradients_add_up_until_they_are_set_to_zero() -> None:
    nets, optimizer = made(True)
    nets.loss(0).backward()
    once = [group["params"][0].grad.clone() for group in optimizer.param_groups]
    nets.loss(0).backward()
    for group, gradient in zip(optimizer.param_groups, once, strict=True):
        assert gradient.abs().max() > 0
        torch.testing.assert_close(group["params"][0].grad, 2 * gradient)


def test_the_state_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    straight, optimizer = made(True)
    update(straight, optimizer, range(7))
    checkpoint.save(tmp_path / "c", {"nets": straight.state_dict(), "o": optimizer.state_dict()})
    update(straight, optimizer, range(7, 12))

    resumed, again = made(True)
    update(resumed, again, range(20, 23))  # leaves nothing behind
    state = checkpoint.load(tmp_path / "c")
    resumed.load_state_dict(state["nets"])
    again.load_state_dict(state["o"])
    assert_views(resumed, again)
    update(resumed, again, range(7, 12))
    expected = values(straight)
    for name, value in values(resumed).items():
        assert torch.equal(value, expected[name]), name


def test_a_group_without_gradients_stays() -> None:
    nets, optimizer = made(True)
    before = values(nets)
    for _ in range(3):
        optimizer.zero_grad()
        nets.actor(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    for name, value in values(nets).items():
        assert torch.equal(value, before[name]) != name.startswith("actor"), name


@pytest.mark.parametrize("max_norm", [0.1, 1e3])
def test_the_norm_of_flat_gradients_is_the_whole_one(max_norm: float) -> None:
    (ours, flat), theirs = made(True), Nets()
    for nets in (ours, theirs):
        nets.loss(0).backward()
    clip = ClipGradNorm([p for group in flat.param_groups for p in group["params"]], max_norm)
    trainer = stub()
    clip(trainer, TensorDict(), TensorDict())
    clip.log(trainer, TensorDict(), TensorDict())
    norm = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
    assert trainer.metrics.flush()["train/grad_norm"] == pytest.approx(float(norm), rel=1e-6)
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if not name.startswith("unused"):
            torch.testing.assert_close(parameter.grad, expected[name].grad)


def test_replaced_and_dropped_gradients_are_clipped_as_torch_s() -> None:
    both: list[tuple[Any, Any]] = [made(True), made(False)]
    norms = []
    for nets, optimizer in both:
        nets.loss(0).backward()
        nets.log_std.grad = torch.tensor([3.0, -4.0])
        bias = nets.critic[2].bias
        bias.grad = bias.grad + bias  # part of a graph
        nets.actor[0].weight.grad = None
        clip = ClipGradNorm([p for group in optimizer.param_groups for p in group["params"]], 0.5)
        trainer = stub()
        clip(trainer, TensorDict(), TensorDict())
        clip.log(trainer, TensorDict(), TensorDict())
        norms.append(trainer.metrics.flush()["train/grad_norm"])
        optimizer.step()
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    (ours, _), (theirs, _) = both
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7, msg=name)
        if other.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-8, msg=name)
    assert ours.actor[0].weight.grad is None


def freeze(nets: Nets, seed: int) -> None:
    nets.actor[0].weight.requires_grad_(seed not in range(3, 6))


def drop_gradient(nets: Nets, seed: int) -> None:
    if seed > 2:
        nets.actor[0].weight.grad = None


def set_gradient(nets: Nets, seed: int) -> None:
    nets.log_std.grad = torch.full([2], 0.1 * seed)


def move_elsewhere(nets: Nets, seed: int) -> None:
    for layer in (nets.actor[0], nets.critic[2]):
        layer.bias.data = layer.bias.data + 0.1


@pytest.mark.parametrize(
    ("meddle", "when"),
    [
        (freeze, "before"),
        (drop_gradient, "after"),
        (set_gradient, "after"),
        (move_elsewhere, "before"),
        (move_elsewhere, "after"),
    ],
)
def test_single_parameters_can_be_meddled_with_as_torch_s(meddle: Any, when: str) -> None:
    """Before the gradients are computed, or after."""
    (ours, flat), (theirs, usual) = made(True), made(False)
    if meddle is freeze:  # torch counts the steps of each parameter, these are counted together
        flat.param_groups[0]["betas"] = usual.param_groups[0]["betas"] = (0.0, 0.0)
    for seed in range(8):
        for nets, optimizer in ((ours, flat), (theirs, usual)):
            optimizer.zero_grad()
            if when == "before":
                meddle(nets, seed)
            nets.loss(seed).backward()
            if when == "after":
                meddle(nets, seed)
            optimizer.step()
    expected = values(theirs)
    for name, value in values(ours).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    flat.zero_grad()
    assert_views(ours, flat)


def test_a_frozen_parameter_is_no_part_of_a_whole_group() -> None:
    nets, _ = made(True)
    actor = nets.groups()[0]["params"]
    actor[0].requires_grad_(False)
    assert [id(leaf) for leaf, _ in leaves(actor)] == [id(each) for each in actor]


def test_parameters_keep_what_they_are() -> None:
    nets = Nets()
    kept = list(nets.named_parameters())
    shapes = [parameter.shape for parameter in nets.parameters()]
    state = {key: value.clone() for key, value in nets.state_dict().items()}
    FlatAdam(nets.groups())
    assert [(name, id(p)) for name, p in nets.named_parameters()] == [(n, id(p)) for n, p in kept]
    assert [parameter.shape for parameter in nets.parameters()] == shapes
    assert all(torch.equal(nets.state_dict()[key], value) for key, value in state.items())


def test_groups_of_the_same_settings_step_together() -> None:
    """And apart from those of others: rates may meet and part again."""
    (ours, our_optimizer), (theirs, their_optimizer) = made(flat=True), made(flat=False)
    for rates in ((1e-2, 1e-2), (1e-2, 1e-3), (1e-3, 1e-3)):
        for nets, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr
            optimizer.zero_grad()
            nets.loss(0).backward()
            optimizer.step()
        for name, value in values(theirs).items():
            torch.testing.assert_close(values(ours)[name], value, rtol=0, atol=0)


def test_hooks_of_its_steps_are_called() -> None:
    nets, optimizer = made(flat=True)
    called: list[str] = []
    before = optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    update(nets, optimizer, range(1))
    assert called == ["before", "after"]
    before.remove()
    update(nets, optimizer, range(1, 2))
    assert called == ["before", "after", "after"]
    straight, its_optimizer = made(flat=True)
    update(straight, its_optimizer, range(2))
    for name, value in values(straight).items():
        assert torch.equal(values(nets)[name], value)
