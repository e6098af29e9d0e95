"""Keywords of other libraries that have another key here; of TorchRL's losses, none and why."""

from __future__ import annotations

from collections.abc import Container

ALIASES = {
    # Of TorchRL's losses.
    "delay_value": ("delay_qvalue",),
    "double_dqn": ("double",),
    "lmbda": ("gae_lambda",),
    "num_qvalue_nets": ("num_critics",),
    "sub_sample_len": ("subset_size",),
    "top_quantiles_to_drop_per_net": ("top_quantiles_to_drop",),
    # Of Stable-Baselines3 and CleanRL, and some of Spinning Up.
    "action_noise": ("exploration_noise", "noise"),
    "alpha": ("alpha_init", "fixed_alpha"),
    "anneal_lr": ("lr_schedule",),
    "autotune": ("fixed_alpha",),
    "batch_size": ("minibatch_size",),
    "clip_coef": ("clip_epsilon",),
    "clip_range": ("clip_epsilon",),
    "clip_range_vf": ("clip_value",),
    "clip_vloss": ("clip_value",),
    "discount": ("gamma",),
    "end_e": ("epsilon_end",),
    "ent_coef": ("entropy_coeff", "alpha_init", "fixed_alpha"),
    "exploration_final_eps": ("epsilon_end",),
    "exploration_initial_eps": ("epsilon_start",),
    "gradient_steps": ("utd_ratio",),
    "lam": ("gae_lambda", "lmbda"),
    "learning_rate": ("lr",),
    "learning_starts": ("init_random_frames",),
    "lr_actor": ("actor_lr",),
    "lr_critic": ("critic_lr",),
    "memory_size": ("buffer_size",),
    "n_atoms": ("num_atoms",),
    "n_critics": ("num_critics",),
    "n_epochs": ("num_epochs",),
    "n_quantiles": ("num_quantiles",),
    "n_steps": ("frames_per_batch",),
    "norm_adv": ("normalize_advantage",),
    "num_minibatches": ("minibatch_size",),
    "num_steps": ("frames_per_batch",),
    "policy_freq": ("policy_delay",),
    "policy_frequency": ("policy_delay",),
    "policy_lr": ("actor_lr",),
    "q_lr": ("critic_lr",),
    "replay_buffer_size": ("buffer_size",),
    "replay_size": ("buffer_size",),
    "start_e": ("epsilon_start",),
    "start_steps": ("init_random_frames",),
    "target_network_frequency": ("target_update_interval",),
    "target_noise_clip": ("noise_clip",),
    "target_policy_noise": ("policy_noise",),
    "train_freq": ("frames_per_batch", "utd_ratio"),
    "train_frequency": ("frames_per_batch", "utd_ratio"),
    "update_epochs": ("num_epochs",),
    "vf_coef": ("critic_coeff",),
}
"""Their names, and the keys that an algorithm may have for it here: those that it has are meant."""

ELSEWHERE = {
    **dict.fromkeys(("total_frames", "total_timesteps", "total_steps"), "total_frames"),
    **dict.fromkeys(("num_envs", "n_envs"), "env.num_envs"),
    **dict.fromkeys(("env_id", "env_name"), "env.id"),
    **dict.fromkeys(("hidden", "hidden_size", "hidden_sizes"), "network.hidden"),
    **dict.fromkeys(("net_arch", "policy_kwargs"), "network.hidden"),
    **dict.fromkeys(("activation", "activation_fn"), "network.activation"),
    **dict.fromkeys(("eval_freq", "eval_interval"), "eval.interval"),
    **dict.fromkeys(("eval_episodes", "n_eval_episodes"), "eval.episodes"),
    "capture_video": "eval.video",
    "cuda": "device",
    "exp_name": "run_dir",
    "log_interval": "log.interval",
    "save_freq": "checkpoint.interval",
    "seed": "seed",
}
"""What is no key of an algorithm, by our name or another, and where it is."""

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


def ours(theirs: str, algo: Container[str]) -> str | None:
    """A hint at our keys for what others call `theirs`; `algo` has the keys of the algorithm."""
    keys = [f"algo.{name}" for name in ALIASES.get(theirs, ()) if name in algo]
    if not keys and theirs in ELSEWHERE:
        keys = [ELSEWHERE[theirs]]
    return f"did you mean {' or '.join(keys)}?" if keys else None
