"""SAC's losses: TorchRL's with a look at each critic, and one of the same values that is faster."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional
from torchrl.envs.utils import set_exploration_type
from torchrl.objectives import SACLoss, ValueEstimators
from torchrl.objectives.utils import _cache_values, distance_loss

from trainers.config import SACConfig
from trainers.networks import StateActionValue, TanhNormalActor

_Layers = list[tuple[Tensor, Tensor]]


class CriticwiseSACLoss(SACLoss):
    """TorchRL's ``SACLoss`` that also returns every critic's own loss: ``qvalue_0``, ``qvalue_1``.

    Keywords, state, values and gradients are TorchRL's, but for one thing: the ``td_error`` that it
    writes is the size of the error in the first version of SAC too, where TorchRL's is its square.
    """

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """TorchRL's losses, and each critic's, detached."""
        losses = super().forward(tensordict)
        put = losses.set_non_tensor if losses.batch_dims else losses.set
        for index, value in enumerate(self._each_critic):
            put(f"qvalue_{index}", value)
        return losses

    def qvalue_v2_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """All critics on the whole batch, against a target from their own targets."""
        weights = self._maybe_get_priority_weight(tensordict)
        target = self._compute_target_v2(tensordict)
        inputs = tensordict.select(*self.qvalue_network.in_keys, strict=False)
        values = self._values(self._vmap_qnetworkN0, inputs)
        each = distance_loss(values, target.expand_as(values), self.loss_function)
        self._note([(loss, weights) for loss in each])
        loss = self._reduce_loss(each.sum(0), tensordict=tensordict, weights=weights)
        return loss, {"td_error": (values.detach() - target).abs().amax(0)}

    def qvalue_v1_loss(self, tensordict: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        """Every critic on its own part of the batch, against a target from the state's value."""
        weights = self._maybe_get_priority_weight(tensordict)
        with set_exploration_type(self.deterministic_sampling_mode):
            target = self.value_estimator.value_estimate(
                tensordict, target_params=self._cached_target_params_actor_value
            ).squeeze(-1)
        parts = tensordict.reshape(self.num_qvalue_nets, -1, *tensordict.shape[1:])
        values = self._values(self._vmap_qnetwork00, parts)
        values = values.reshape(tensordict.shape)
        all_of_them = distance_loss(values, target, self.loss_function)
        each = all_of_them.chunk(self.num_qvalue_nets)
        of_each = [None] * len(each) if weights is None else weights.chunk(len(each))
        self._note(list(zip(each, of_each, strict=True)))
        loss = self._reduce_loss(all_of_them, tensordict=tensordict, weights=weights)
        return loss, {"td_error": (values.detach() - target).abs()}

    def _values(self, critics: Any, inputs: TensorDictBase) -> Tensor:
        outputs = critics(inputs, self.qvalue_network_params)
        return outputs.get(self.tensor_keys.state_action_value).squeeze(-1)

    def _note(self, each: list[tuple[Tensor, Tensor | None]]) -> None:
        reduced = [self._reduce_loss(loss.detach(), weights=weights) for loss, weights in each]
        self._each_critic = [loss.mean() for loss in reduced]  # without a reduction, one for all


class FastSACLoss(SACLoss):
    """TorchRL's ``SACLoss`` for the shipped networks: the same keywords, state, values, gradients.

    TorchRL swaps parameters in and out of modules, maps over the critics with ``vmap`` and passes
    every intermediate result through a TensorDict; for networks of 256 units that takes longer than
    the arithmetic. Here the critics' stacked parameters are used as they are.

    Args:
        actor_network: the shipped actor.
        qvalue_network: critics made of the shipped :class:`~trainers.networks.StateActionValue`.
        kwargs: TorchRL's own keywords; see :meth:`fits`.
    """

    def __init__(
        self, actor_network: TanhNormalActor, qvalue_network: list[Any], **kwargs: Any
    ) -> None:
        super().__init__(actor_network, qvalue_network, **kwargs)
        # In a tuple, else their parameters would be registered a second time. The actor's are the
        # very ones this loss trains; of the critic only the layout is used.
        self._networks_used: tuple[Any, Any] = (actor_network, qvalue_network[0].module)

    @staticmethod
    def fits(actor: nn.Module, critics: list[nn.Module], config: SACConfig) -> bool:
        """Whether this loss can stand in for TorchRL's."""
        critics_fit = all(type(getattr(c, "module", None)) is StateActionValue for c in critics)
        config_fits = config.value_estimator == "td0" and config.reduction != "none"
        config_fits &= not (config.skip_done_states or config.value_network)
        return type(actor) is TanhNormalActor and critics_fit and config_fits

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """The losses of a batch ``[B]`` of transitions; writes ``td_error`` ``[B]`` into it."""
        actor, _ = self._networks_used
        keys = self.tensor_keys
        observation, action = tensordict["observation"], tensordict[keys.action]
        reward, terminated = tensordict["next", keys.reward], tensordict["next", keys.terminated]
        weights = self._maybe_get_priority_weight(tensordict)
        alpha = self._alpha
        layers, target_layers = self._cached_layers
        with torch.no_grad():
            next_observation = tensordict["next", "observation"]
            next_action, next_log_prob = actor.sample_and_log_prob(next_observation)
            next_q = self._q(target_layers, next_observation, next_action)
            next_value = (next_q - alpha * next_log_prob.unsqueeze(-1)).amin(0)
            gamma = self._gamma
            steps = tensordict.get(self.value_estimator.tensor_keys.steps_to_next_obs, None)
            if steps is not None:
                gamma = gamma**steps
            target = reward + gamma * ~terminated * next_value
        q = self._q(layers, observation, action)
        target = target.expand_as(q)
        each_critic = self._reduced(
            distance_loss(q, target, self.loss_function).squeeze(-1), weights
        )
        loss_qvalue = each_critic.sum()

        new_action, log_prob = actor.sample_and_log_prob(observation)
        detached = [(weight.detach(), bias.detach()) for weight, bias in layers]
        new_q = self._q(detached, observation, new_action).amin(0).squeeze(-1)
        loss_actor = self._reduced(alpha * log_prob - new_q, weights)
        log_prob = log_prob.detach()
        loss_alpha = self._reduced(self._alpha_loss(log_prob), weights)
        tensordict.set(keys.priority, (q.detach() - target).abs().amax(0).squeeze(-1))
        return TensorDict(
            {
                "loss_actor": loss_actor,
                "loss_qvalue": loss_qvalue,
                "loss_alpha": loss_alpha,
                "alpha": alpha,
                "entropy": -log_prob.mean(),
                **{f"qvalue_{i}": loss for i, loss in enumerate(each_critic.detach().unbind())},
            }
        )

    def _reduced(self, losses: Tensor, weights: Tensor | None) -> Tensor:
        """Losses ``[..., B]`` made ``[...]`` as TorchRL's ``reduction`` does."""
        if weights is None:
            return losses.mean(-1) if self.reduction == "mean" else losses.sum(-1)
        total = (losses * weights).sum(-1)
        return total / weights.sum() if self.reduction == "mean" else total

    def make_value_estimator(self, value_type: Any = None, **hyperparams: Any) -> Any:
        """TorchRL's TD(0), the only one that this loss knows.

        Raises:
            NotImplementedError: another one is asked for.
        """
        if value_type not in (None, ValueEstimators.TD0):
            raise NotImplementedError(f"FastSACLoss knows TD0 only, got {value_type}: use SACLoss")
        return super().make_value_estimator(ValueEstimators.TD0, **hyperparams)

    @property
    def _gamma(self) -> Any:
        return self.value_estimator.gamma

    @property
    @_cache_values  # until the parameters are moved to another device
    def _cached_layers(self) -> tuple[_Layers, _Layers]:
        """Stacked weights and biases of the critics' linear layers, and of their targets'."""
        _, template = self._networks_used
        keys = [
            ("module", "net", str(index))
            for index, layer in enumerate(template.net)
            if isinstance(layer, nn.Linear)
        ]
        current, target = self.qvalue_network_params, self.target_qvalue_network_params
        return (
            [(current[(*key, "weight")], current[(*key, "bias")]) for key in keys],
            [(target[(*key, "weight")], target[(*key, "bias")]) for key in keys],
        )

    def _q(self, layers: _Layers, observation: Tensor, action: Tensor) -> Tensor:
        """Q-values ``[critics, B, 1]`` by stacked parameters ``[critics, ...]``."""
        _, template = self._networks_used
        values = [torch.cat([observation, action], -1)] * self.num_qvalue_nets
        remaining = iter(layers)
        for layer in template.net:
            if isinstance(layer, nn.Linear):
                weights, biases = next(remaining)
                each = zip(values, weights.unbind(), biases.unbind(), strict=True)
                values = [functional.linear(x, weight, bias) for x, weight, bias in each]
            else:
                values = [layer(x) for x in values]
        return torch.stack(values)
