"""Which keywords of TorchRL's losses have a key in ``configs/algo/``; why the others have none."""

from __future__ import annotations

import inspect

from support.algorithms import has

# What our keys call what TorchRL calls so.
_KEYS = {
    "delay_value": "delay_qvalue",
    "double_dqn": "double",
    "num_qvalue_nets": "num_critics",
    "sub_sample_len": "subset_size",
    "top_quantiles_to_drop_per_net": "top_quantiles_to_drop",
}

_NETWORK = "made by the algorithm's page, by network.* or algo.critic"
_SPACE = "the environment's"
_OLDER = "TorchRL's older way of set_keys()"
WHY_NOT = {
    **dict.fromkeys(("actor_network", "critic_network", "actor", "critic"), _NETWORK),
    **dict.fromkeys(("qvalue_network", "value_network"), _NETWORK),
    **dict.fromkeys(("action_spec", "action_space", "num_actions", "bounds"), _SPACE),
    **dict.fromkeys(("advantage_key", "value_target_key", "value_key", "priority_key"), _OLDER),
    "device": "of the run: where the networks are",
    "deactivate_vmap": "how it is computed; our losses do without vmap",
    "use_prioritized_weights": "where there are weights they count: algo.prioritized",
    "scalar_output_mode": "follows algo.reduction, so that what is reported is not lost",
    "log_explained_variance": "a cheap line of the metrics, always there",
    "advantage_norm": "an object; moves only where the loss estimates advantages itself",
    "normalize_advantage_exclude_dims": "of several agents",
}
"""Of any of the losses."""

WHY_NOT_OF: dict[str, dict[str, str]] = {
    "a2c": {
        "entropy_bonus": "is there unless algo.entropy_coeff is 0",
        "clip_value": "of the move since the rollout: there is none in its one update",
    },
    "redq": {"gSDE": "hands on the noise of an actor that explores by it; ours does not"},
    "reinforce": {
        "clip_value": "of the move since the rollout: there is none in its one update",
        "delay_value": "a target only of the estimates that the loss makes itself",
    },
}


def keywords_of(loss_class: type) -> set[str]:
    """All that it can be called with, by what it hands on as well."""
    known: set[str] = set()
    for kind in loss_class.__mro__:
        if "__init__" in vars(kind):
            parameters = inspect.signature(kind.__init__).parameters
            known |= parameters.keys()
            if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
                break
    return known - {"self", "kwargs"}


def key_of(name: str, keyword: str) -> str | None:
    """By which key an algorithm is told it."""
    return next((key for key in (keyword, _KEYS.get(keyword, "")) if has(name, key)), None)


def configured(name: str, loss_class: type) -> set[str]:
    """The keywords with a key, but for the discount, which value estimators are told."""
    return {each for each in keywords_of(loss_class) if key_of(name, each)} - {"gamma"}
