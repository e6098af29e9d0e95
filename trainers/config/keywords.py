"""Keywords of TorchRL's losses that have another key here, or none and why."""

from __future__ import annotations

ALIASES = {
    "delay_value": "delay_qvalue",
    "double_dqn": "double",
    "lmbda": "gae_lambda",
    "num_qvalue_nets": "num_critics",
    "sub_sample_len": "subset_size",
    "top_quantiles_to_drop_per_net": "top_quantiles_to_drop",
}
"""What our keys call what TorchRL calls so."""

_NETWORK = "made from network.*; a critic also by algo.critic, where there is that key"
_SPACE = "the environment's"
_OLDER = "TorchRL's older way of set_keys()"
_NO_MOVE = "of the move since the rollout: there is none in its one update"
WHY_NOT = {
    **dict.fromkeys(("actor_network", "critic_network", "actor", "critic"), _NETWORK),
    **dict.fromkeys(("qvalue_network", "value_network"), _NETWORK),
    **dict.fromkeys(("action_spec", "action_space", "num_actions", "bounds"), _SPACE),
    **dict.fromkeys(("advantage_key", "value_target_key", "value_key", "priority_key"), _OLDER),
    "device": "it is the run's, device=cpu or device=cuda",
    "deactivate_vmap": "how it is computed; our losses do without vmap",
    "use_prioritized_weights": "all are 1 with algo.priority_beta=0 algo.priority_beta_end=0",
    "scalar_output_mode": "follows algo.reduction, so that what is reported is not lost",
    "log_explained_variance": "a cheap line of the metrics, always there",
    "advantage_norm": "an object; moves only where the loss estimates advantages itself",
    "normalize_advantage_exclude_dims": "of several agents",
}
"""Of any of the losses."""

WHY_NOT_OF = {
    "a2c": {
        "entropy_bonus": "is there unless algo.entropy_coeff is 0",
        "clip_value": _NO_MOVE,
    },
    "redq": {"gSDE": "hands on the noise of an actor that explores by it; ours does not"},
    "reinforce": {
        "clip_value": _NO_MOVE,
        "delay_value": "a target only of the estimates that the loss makes itself",
    },
}
"""Of the loss of one algorithm."""
