"""What is said about a key that is not there: ours by another library's name, or the nearest."""

from __future__ import annotations

import pytest

from trainers.config import AlgoConfig, ConfigError, EnvConfig, TrainConfig
from trainers.config.errors import did_you_mean
from trainers.config.keywords import ALIASES, ELSEWHERE
from trainers.config.schema import leaves

ENV = EnvConfig(name="Pendulum", id="Pendulum-v1")
ENTROPY = ("sac", "discrete_sac", "redq", "crossq", "tqc")
OFF_POLICY = (*ENTROPY, "dqn", "c51", "ddpg", "td3")
ON_POLICY = ("ppo", "a2c", "reinforce")

# a name of Stable-Baselines3 or CleanRL | algorithms | what is meant
THEIRS = [
    ("learning_rate", (*OFF_POLICY, *ON_POLICY), "algo.lr"),
    ("learning_starts", OFF_POLICY, "algo.init_random_frames"),
    ("policy_freq", ("td3", "redq", "crossq"), "algo.policy_delay"),
    ("policy_frequency", ("td3",), "algo.policy_delay"),
    ("gradient_steps", OFF_POLICY, "algo.utd_ratio"),
    ("train_freq", OFF_POLICY, "algo.frames_per_batch or algo.utd_ratio"),
    ("train_frequency", ("dqn",), "algo.frames_per_batch or algo.utd_ratio"),
    ("clip_coef", ("ppo",), "algo.clip_epsilon"),
    ("clip_range", ("ppo",), "algo.clip_epsilon"),
    ("clip_range_vf", ("ppo",), "algo.clip_value"),
    ("lam", ON_POLICY, "algo.gae_lambda"),
    ("end_e", ("dqn", "c51"), "algo.epsilon_end"),
    ("exploration_final_eps", ("dqn", "c51"), "algo.epsilon_end"),
    ("start_e", ("dqn", "c51"), "algo.epsilon_start"),
    ("exploration_initial_eps", ("dqn", "c51"), "algo.epsilon_start"),
    ("ent_coef", ("ppo", "a2c"), "algo.entropy_coeff"),
    ("ent_coef", ENTROPY, "algo.alpha_init or algo.fixed_alpha"),
    ("autotune", ENTROPY, "algo.fixed_alpha"),
    ("alpha", ENTROPY, "algo.alpha_init or algo.fixed_alpha"),
    ("vf_coef", ("ppo", "a2c"), "algo.critic_coeff"),
    ("target_network_frequency", ("dqn", "c51", "sac"), "algo.target_update_interval"),
    ("n_steps", ON_POLICY, "algo.frames_per_batch"),
    ("batch_size", ("ppo",), "algo.minibatch_size"),
    ("n_epochs", ("ppo",), "algo.num_epochs"),
    ("update_epochs", ("ppo",), "algo.num_epochs"),
    ("num_minibatches", ("ppo",), "algo.minibatch_size"),
    ("n_envs", ("ppo", "sac"), "env.num_envs"),
    ("num_envs", ("ppo", "sac"), "env.num_envs"),
    ("hidden", ("ppo", "sac"), "network.hidden"),
    ("net_arch", ("ppo", "sac"), "network.hidden"),
    ("policy_kwargs", ("ppo", "sac"), "network.hidden"),
    ("total_timesteps", ("ppo", "sac"), "total_frames"),
    ("replay_size", OFF_POLICY, "algo.buffer_size"),
]
TYPOS = {
    "algo.lrr": "algo.lr",
    "algo.batchsize": "algo.batch_size",
    "lrr": "algo.lr",
    "batchsize": "algo.batch_size",
    "toal_frames": "total_frames",
    "intervall": "log.interval",
}


def hint(key: str, algo: str = "sac") -> str | None:
    """What is said about `key=1`."""
    config = TrainConfig(algo=AlgoConfig.known[algo](), env=ENV).to_dict()
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = 1
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(config)
    assert caught.value.key == key
    return caught.value.hint


@pytest.mark.parametrize(("theirs", "algos", "ours"), THEIRS)
def test_other_libraries_names_are_known(theirs: str, algos: tuple[str, ...], ours: str) -> None:
    for algo in algos:
        assert hint(theirs, algo) == f"did you mean {ours}?"
        assert hint(f"algo.{theirs}", algo) == f"did you mean {ours}?"


@pytest.mark.parametrize("where", ["", "algo."])
def test_what_another_algorithm_has_is_not_offered(where: str) -> None:
    assert hint(f"{where}clip_coef") == "algo.clip_epsilon is a key of algo=ppo"
    assert hint(f"{where}policy_freq") == "algo.policy_delay is a key of algo=crossq, redq, td3"
    assert hint(f"{where}target_kl") == "algo.target_kl is a key of algo=ppo"
    assert hint(f"{where}ent_coef", "dqn") == "algo.entropy_coeff is a key of algo=a2c, ppo"


def test_a_key_of_ours_is_not_another_one_s() -> None:
    assert hint("n_steps") == "did you mean algo.n_steps?"  # in PPO of others a rollout's frames
    assert hint("batch_size") == "did you mean algo.batch_size?"


def test_what_is_offered_is_there() -> None:
    ours = {name for algo in AlgoConfig.known.values() for name in algo.__dataclass_fields__}
    assert {name for names in ALIASES.values() for name in names} <= ours
    config = TrainConfig(algo=AlgoConfig.known["sac"](), env=ENV).to_dict()
    assert set(ELSEWHERE.values()) <= leaves(config).keys()


@pytest.mark.parametrize("key", TYPOS)
def test_typos(key: str) -> None:
    assert hint(key) == f"did you mean {TYPOS[key]}?"


@pytest.mark.parametrize("far", ["algo.weight_decay", "algo.clip_grad", "verbose", "frame_stack"])
def test_nothing_far_off_is_offered(far: str) -> None:
    assert hint(far) is None


def test_the_nearest_of_the_names_is_offered() -> None:
    assert did_you_mean("HalfCheeta", ["Hopper", "HalfCheetah"]) == "did you mean HalfCheetah?"
    assert did_you_mean("Walker", ["Hopper", "Pusher"]) is None


def test_a_hint_is_not_behind_a_long_list() -> None:
    error = ConfigError("key", 1, "one of a, b", "did you mean a?")
    assert str(error) == "key: got 1, expected one of a, b; did you mean a?"
    many = f"one of {', '.join(map(str, range(99)))}"
    error = ConfigError("key", 1, many, "did you mean 7?")
    assert str(error) == f"key: got 1; did you mean 7? (expected {many})"
    assert str(ConfigError("key", 1, many)) == f"key: got 1, expected {many}"
