"""A table of wrong command lines: each ends with 2, naming the key and what would be right."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest
from stand_in import Runs

# command line | the key that is named | what is allowed or meant instead
BAD = """
algo=sca                               | algo: got "sca"        | did you mean sac?
algo=[sac,sac]                         | algo:                  | one of
algo=null                              | algo: got null         | one of
env=Hoper                              | env: got "Hoper"       | did you mean Hopper?
env=halfcheetah                        | env:                   | did you mean HalfCheetah?
env=1                                  | env: got 1             | one of Acrobot, Ant
env={id:Hopper-v5}                     | env: got {"id"         | one of Acrobot, Ant
env=[Hopper,Ant]                       | env: got ["Hopper"     | one of Acrobot, Ant
env=gym                                | env.id: got null       | add env.id=
env=gym env.id=5                       | env.id: got 5          | expected text
env=gym env.id=                        | env.id: got ""         | expected text
env.id=Hopper-v5                       | env.id: got "Hopper-v5" | use env=Hopper, or env=gym env.id
env.id=Hopper-v4                       | of HalfCheetah with | use env=Hopper env.id=Hopper-v4, or
algo=dqn env.id=CartPole-v1            | env.id: got "CartPole-v1" | use env=CartPole, or env=gym en
env=Ant env.id=mine/Hopper-v5          | a version of Ant with  | use env=gym env.id=mine/Hopper-v5
-m env=Hopper,Walker2d env.id=Hopper-v4 | env.id: got "Hopper-v4" | version of Walker2d with
env.num_envs=0                         | env.num_envs: got 0    | at least 1
env.backend=asynch                     | env.backend: got "asynch" | did you mean async?
env.backend=envpool env=Pendulum       | env.id: got "Pendulum-v1" | one of Acrobot-v1, Ant-v5
env.backend=envpool env=gym env.id=Hopper-v4 | env.id: got "Hopper-v4" | with env.backend=envpool
env.backend=envpool env.kwargs.frame_skip=2 | env.kwargs: got {"frame | {} with env.backend=envpool
env.backend=envpool env.wrappers=[mine] | env.wrappers: got ["mine"] | [] with env.backend=envpool
env.max_episode_steps=0                | env.max_episode_steps  | at least 1 or null
env.kwargs=5                           | env.kwargs: got 5      | a mapping of names
env.rescale_actions=1                  | env.rescale_actions    | true or false
env.wrappers=mine                      | env.wrappers: got "mine" | write env.wrappers=[mine]
preset=nosuch                          | got "nosuch"; preset=none goes without one | sac_Ant
preset=sac_Hoper                       | got "sac_Hoper"; did you mean sac_Hopper? preset | sac_Ant
logger=wandbb                          | logger:                | did you mean wandb?
logger=[wandb,nosuch]                  | logger: got "nosuch"   | one of none, tensorboard, wandb
logger=tensorbord                      | logger:                | did you mean tensorboard?
logger.tensorboard=1                   | logger.tensorboard     | true or false
logger=wandb logger.wandb.mode=of      | logger.wandb.mode      | auto or online or offline
logger.wandb.projekt=x                 | logger.wandb.projekt   | did you mean logger.wandb.project?
totl_frames=10                         | totl_frames: got 10    | did you mean total_frames?
+totl_frames=10                        | totl_frames: got 10    | did you mean total_frames?
toal_frames=10 run_dir=taken           | got 10; did you mean total_frames? | (expected a key: algo
lrr=1                                  | got 1; did you mean algo.lr? | (expected a key: algo, env
learning_rate=1e-3                     | got 0.001; did you mean algo.lr? | (expected a key: algo
lr=1e-3                                | lr: got 0.001          | did you mean algo.lr?
algo.gama=0.9                          | algo.gama: got 0.9     | did you mean algo.gamma?
algo.gamma=1.5                         | algo.gamma: got 1.5    | at least 0 and at most 1
algo.gamma=nan                         | algo.gamma: got NaN    | has to be finite
algo.lr=inf                            | algo.lr: got Infinity  | has to be finite
algo.lr=0                              | algo.lr: got 0         | above 0
algo.lr=fast                           | algo.lr: got "fast"    | a number above 0
algo.lr.x=1                            | algo.lr: got {"x": 1}  | a number above 0
algo.actor_lr=-1                       | algo.actor_lr          | above 0 or null
algo.tau=0                             | algo.tau: got 0        | above 0 and at most 1
algo.batch_size=1.5                    | algo.batch_size: got 1.5 | a whole number at least 1
algo.batch_size=true                   | algo.batch_size: got true | a whole number at least 1
algo.batch_size=null                   | algo.batch_size: got null | a whole number at least 1
algo.batch_size=9 algo.buffer_size=8   | algo.batch_size        | at most algo.buffer_size=8
algo.utd_ratio=0                       | algo.utd_ratio         | above 0
algo.storage=disk                      | algo.storage: got "disk" | memory or memmap or device
algo.loss_function=smoth_l1            | algo.loss_function     | did you mean smooth_l1?
algo.target_entropy=nan                | algo.target_entropy    | auto or a number
algo.target_entropy=atuo               | algo.target_entropy    | did you mean auto?
algo.min_alpha=2 algo.max_alpha=1      | algo.min_alpha: got 2  | at most algo.max_alpha=1
algo.max_alpha=0.5                     | algo.alpha_init: got 1.0 | at most algo.max_alpha=0.5
algo.min_alpha=2                       | algo.alpha_init: got 1.0 | at least algo.min_alpha=2
algo.priority_beta=1.5                 | algo.priority_beta     | at least 0 and at most 1
algo.priority_alpha=-1                 | algo.priority_alpha    | at least 0
algo.priority_alpha=0.9                | algo.priority_alpha: got 0.9 | 0.6 with algo.prioritized
algo=dqn algo.priority_beta=1          | algo.priority_beta: got 1.0 | 0.4 with algo.prioritized
algo=tqc algo.priority_beta_end=0      | algo.priority_beta_end: got 0.0 | 1.0 with algo.prioritized
algo.prioritized=true algo.priority_beta_end=1.1 | algo.priority_beta_end | at least 0 and at most 1
algo.prioritized=true algo.priority_alpha=100 | algo.priority_alpha: got 100 | at most 1
algo.use_prioritized_weights=false     | TorchRL's use_prioritized_weights | priority_beta_end=0
algo.fixed_alpha=true algo.alpha_lr=1  | algo.alpha_lr: got 1.0 | null with algo.fixed_alpha=true
algo.fixed_alpha=true algo.min_alpha=0.1 | algo.min_alpha: got 0.1 | null with algo.fixed_alpha=true
algo=discrete_sac algo.fixed_alpha=true algo.target_entropy=1 | got 1.0 | auto with algo.fixed_alpha
algo.exploration_noise=-0.1            | algo.exploration_noise | at least 0
algo.exploration_noise=1e300           | algo.exploration_noise: got 1e+300 | at most 100.0
algo=ddpg algo.exploration_noise=1e300 | algo.exploration_noise: got 1e+300 | at most 100.0
algo=td3 algo.exploration_noise=1e300  | algo.exploration_noise: got 1e+300 | at most 100.0
algo=td3 algo.policy_noise=1e300       | algo.policy_noise: got 1e+300 | at most 100.0
algo.n_steps=0                         | algo.n_steps: got 0    | at least 1
algo=dqn env=CartPole algo.n_steps=1e9 | algo.n_steps: got 1000000000 | algo.buffer_size=10000
algo.lmbda=0                           | algo.lmbda: got 0      | above 0 and at most 1
algo.lmbda=0.9                         | algo.lmbda: got 0.9    | 0.95 with algo.value_estimator=td0
algo=dqn SLICES algo.lmbda=0.9         | algo.lmbda: got 0.9    | 0.95 with algo.value_estimator=td1
algo=reinforce algo.gae_lambda=0.9     | algo.gae_lambda: got 0.9 | with algo.value_estimator=td1
algo=reinforce algo.value_estimator=td0 algo.gae_lambda=0.9 | algo.gae_lambda | value_estimator=td0
algo.value_estimator=gae               | algo.value_estimator   | td0 or td1 or td_lambda
algo.reduction=none                    | algo.reduction: got "none" | mean or sum; none leaves
algo.reduction=avg                     | algo.reduction         | mean or sum or none
algo.value_estimator=td1               | algo.slice_length: got null | estimator=td1 follows
algo.value_estimator=td_lambda         | algo.slice_length: got null | a whole number at least 2
algo.slice_length=1                    | algo.slice_length: got 1 | at least 2
algo.slice_length=8                    | algo.slice_length: got 8 | null with algo.value_est
algo.value_estimator=td1 algo.slice_length=9 | algo.batch_size | a multiple of algo.slice_length=9
SLICES algo.n_steps=2                  | algo.n_steps: got 2    | 1 with algo.slice_length
SLICES algo.prioritized=true           | algo.prioritized       | false with algo.slice_length
SLICES algo.gamma=0                    | algo.gamma: got 0.0    | at least 1e-6
SLICES algo.init_random_frames=31 env.num_envs=4 | algo.init_random_frames | env.num_envs=32
SLICES algo.buffer_size=256 env.num_envs=33 | algo.buffer_size: got 256 | env.num_envs=264
algo.value_network=true algo.batch_size=9 | algo.batch_size: got 9 | algo.num_critics=2 with
algo.value_network=true SLICES algo.batch_size=24 | algo.batch_size | * algo.slice_length=16
log.timings=1                          | log.timings            | true or false
algo.frames_per_batch=6 env.num_envs=4 | algo.frames_per_batch  | a multiple of env.num_envs=4
algo.lr_schedule=linaer                | algo.lr_schedule       | did you mean linear?
algo.name=ppo                          | algo.alpha_lr: got null | a key of algo=
algo.name=dpn                          | algo.name: got "dpn"   | did you mean dqn?
algo.clip_epsilon=0.1                  | algo.clip_epsilon: got 0.1 | a key of algo=ppo
algo=ppo algo.utd_ratio=1              | algo.utd_ratio: got 1  | a key of algo=
algo=ppo algo.gea_lambda=1             | algo.gea_lambda: got 1 | did you mean algo.gae_lambda?
algo=ppo algo.loss=cilp                | algo.loss: got "cilp"  | did you mean clip?
algo=ppo algo.clip_epsilon=1           | algo.clip_epsilon: got 1 | above 0 and below 1
algo=ppo algo.clip_value=0             | algo.clip_value: got 0 | true or false or a number above 0
algo.target_update=hard                | algo.target_update_interval: got 1 | above 1
algo.delay_actor=true                  | algo.delay_actor: got true | algo.value_network=true
algo.value_network=true algo.skip_done_states=true | algo.skip_done_states: got true | value_network
algo.delay_qvalue=false algo.tau=0.01   | algo.tau: got 0.01     | 0.005 with algo.delay_actor=false
algo.delay_qvalue=false algo.target_update=hard | algo.target_update: got "hard" | soft with algo
algo.delay_qvalue=false algo.target_update_interval=2 | interval: got 2 | algo.delay_qvalue=false
algo=td3 algo.policy_delay=0           | algo.policy_delay: got 0 | at least 1
algo=td3 algo.noise_clip=-1            | algo.noise_clip: got -1 | at least 0
algo=td3 algo.noise=gausian            | algo.noise: got "gausian" | did you mean gaussian?
algo=ddpg algo.noise_theta=101         | algo.noise_theta: got 101.0 | at most 1 / algo.noise_dt=100
algo=td3 algo.noise_dt=1                | algo.noise_dt: got 1.0  | 0.01 with algo.noise=gaussian
algo=ddpg algo.noise=gaussian algo.noise_theta=1 | algo.noise_theta: got 1.0 | 0.15 with algo.noise
algo=td3 algo.target_update=hard algo.policy_delay=1 | algo.target_update_interval: got 1 | above 1
algo=td3 algo.alpha_init=1             | algo.alpha_init: got 1 | a key of algo=
algo=ddpg algo.policy_delay=2          | algo.policy_delay: got 2 | a key of algo=
algo=ddpg algo.num_critics=2           | algo.num_critics: got 2 | a key of algo=
algo.frames_per_batch=300 algo.buffer_size=256 | algo.buffer_size: got 256 | a rollout's 300 frames
algo=ppo algo.clip_value=true algo.loss=kl | algo.clip_value: got true | only algo.loss=clip
algo=ppo algo.clip_schedule=linear algo.loss=plain | algo.clip_schedule: got "linear" | constant
algo=ppo algo.loss=kl algo.clip_epsilon=0.1 | algo.clip_epsilon: got 0.1 | 0.2 with algo.loss=kl
algo=ppo algo.loss=plain algo.clip_epsilon_high=0.3 | algo.clip_epsilon_high: got 0.3 | null with
algo=ppo algo.beta=2                   | algo.beta: got 2.0     | 1.0 with algo.loss=clip: only kl
algo=ppo algo.loss=plain algo.samples_mc_kl=2 | algo.samples_mc_kl: got 2 | 1 with algo.loss=plain
algo=ppo algo.clip_value=true algo.clip_epsilon_high=0.3 | algo.clip_value: got true | are two
algo=ppo algo.max_importance_ratio=0   | algo.max_importance_ratio: got 0 | above 0 or null
algo=ppo algo.tau=0.5                  | algo.tau: got 0.5      | 0.111 with algo.delay_actor=false
algo=ppo algo.delay_actor=true         | algo.delay_actor: got true | without algo.functional=true
algo=ppo algo.delay_actor=true algo.functional=true algo.shared_trunk=true | delay_actor: | trunk
algo=ppo algo.minibatch_size=9 algo.frames_per_batch=8 | algo.minibatch_size: got 9 | at most algo.f
algo=ppo env.num_envs=3 | algo.frames_per_batch: got 2048 | a multiple of env.num_envs=3
algo=ppo algo.frames_per_batch=null    | algo.frames_per_batch: got null | a whole number at least 1
algo=ppo algo.beta=0                   | algo.beta: got 0       | above 0
algo=ppo algo.increment=0.9            | algo.increment: got 0.9 | at least 1
algo=ppo algo.decrement=1.1            | algo.decrement: got 1.1 | at most 1
algo=ppo algo.value_estimator=tdlambda | algo.value_estimator   | did you mean td_lambda?
algo=ppo algo.reduction=none           | algo.reduction: got "none" | mean or sum
algo=ppo algo.gae_lambda=1.1           | algo.gae_lambda: got 1.1 | at least 0 and at most 1
algo=ppo algo.target_kl=0              | algo.target_kl: got 0  | above 0 or null
algo=redq algo.skip_done_states=true   | algo.skip_done_states: got true | a key of algo=
algo=discrete_sac algo.target_entropy_weight=2 | algo.target_entropy_weight | at most 1
algo=tqc algo.top_quantiles_to_drop=25 | algo.top_quantiles_to_drop | below algo.num_quantiles=25
algo=tqc algo.value_estimator=td1      | algo.value_estimator: got "td1" | a key of algo=
algo=tqc algo.critic_hidden=[]         | algo.critic_hidden: got [] | at least one or null
algo=redq algo.subset_size=11          | algo.subset_size: got 11 | at most algo.num_critics=10
algo=redq algo.policy_delay=0          | algo.policy_delay: got 0 | at least 1
algo=crossq algo.tau=0.1               | algo.tau: got 0.1      | a key of algo=
algo=crossq algo.critic_hidden=[0]     | algo.critic_hidden     | at least 1
algo=crossq algo.beta1=1               | algo.beta1: got 1      | below 1
algo=dqn algo.epsilon_start=1.5        | algo.epsilon_start     | at least 0 and at most 1
algo=dqn algo.exploration_fraction=0   | algo.exploration_fraction | above 0 and at most 1
algo=dqn algo.delay_value=false        | algo.double: got true  | no second network
algo=dqn env=CartPole algo.delay_value=false | algo.double: got true | no second network
algo=dqn algo.double=false algo.delay_value=false algo.tau=1 | algo.tau: got 1.0 | are no targets
algo=dqn algo.adam_eps=0               | algo.adam_eps: got 0   | above 0
algo=dqn algo.dueling=true             | algo.dueling: got true | did you mean algo.duelling?
algo=c51 algo.double=false             | algo.double: got false | a key of algo=dqn
algo=c51 algo.value_estimator=td1      | algo.value_estimator   | a key of algo=
algo=c51 algo.num_atoms=1              | algo.num_atoms: got 1  | at least 2
algo=c51 algo.loss_module=torchrl algo.batch_size=1 | algo.batch_size: got 1 | loss_module=torchrl
algo=c51 algo.v_min=10                 | algo.v_min: got 10     | below algo.v_max=10
algo=ppo collector.async=true           | collector.async: got true | false with algo.value_estimat
algo=a2c collector.async=true           | got true | off-policy data needs algo.value_estimator=vtra
algo=reinforce collector.async=true     | got true | false with algo.value_estimator=td1; off-policy
algo=reinforce algo.baseline=false collector.async=true | got true | data needs a baseline and
algo=a2c algo.optimizer=adamw           | algo.optimizer: got "adamw" | did you mean adam?
algo=a2c algo.clip_value=0.2            | algo.clip_value: got 0.2 | there is none in its one update
algo=a2c algo.entropy_bonus=false       | algo.entropy_bonus: got false | unless algo.entropy_coeff
algo=reinforce algo.clip_value=0.2      | algo.clip_value: got 0.2 | there is none in its one update
algo=reinforce algo.delay_value=true    | algo.delay_value: got true | estimates that the loss makes
algo=reinforce algo.entropy_bonus=false | algo.entropy_bonus: got false | a key of algo=ppo
algo=redq algo.sub_sample_len=2         | algo.sub_sample_len: got 2 | mean algo.subset_size?
algo=redq algo.num_qvalue_nets=5        | algo.num_qvalue_nets | did you mean algo.num_critics?
algo=redq algo.gSDE=true                | algo.gSDE: got true | an actor that explores by it; ours
algo=discrete_sac algo.num_qvalue_nets=5 | algo.num_qvalue_nets | did you mean algo.num_critics?
algo=ddpg algo.num_qvalue_nets=5        | algo.num_critics is a key of algo= | redq, sac, td3, tqc
algo=ddpg algo.delay_value=false        | algo.delay_value: got false | mean algo.delay_qvalue?
algo.delay_value=false                  | algo.delay_value: got false | mean algo.delay_qvalue?
algo=dqn algo.double_dqn=true           | algo.double_dqn: got true | did you mean algo.double?
algo=ppo algo.lmbda=0.9                 | algo.lmbda: got 0.9 | did you mean algo.gae_lambda?
algo=tqc algo.lmbda=0.9                 | algo.lmbda: got 0.9 | ddpg, discrete_sac, redq, sac, td3
algo.deactivate_vmap=true               | algo.deactivate_vmap: got true | losses do without vmap
algo=td3 algo.bounds=[-1,1]             | algo.bounds: got [-1, 1] | no key: the environment's
algo=a2c algo.separate_losses=true      | algo.separate_losses: got true | without algo.functional
algo=a2c algo.frames_per_batch=40 env.num_envs=3 | algo.frames_per_batch: got 40 | env.num_envs=3
algo=reinforce algo.value_estimator=vtrac | algo.value_estimator: got "vtrac" | did you mean vtrace?
algo=reinforce algo.baseline=false algo.value_estimator=vtrace | got "vtrace" | td1 with algo
algo=reinforce algo.baseline=false algo.gae_lambda=0.9 | algo.gae_lambda: got 0.9 | 0.95 with
algo=reinforce algo.baseline=false algo.shared_trunk=true | algo.shared_trunk | false with algo.b
algo=reinforce algo.baseline=false algo.critic_lr=1 | algo.critic_lr: got 1.0 | null with algo.ba
algo=reinforce algo.baseline=false algo.loss_module=torchrl | algo.loss_module | without a critic
network=nosuch                         | network: got "nosuch"  | one of a2c, ppo, reinforce
network.hidden=[]                      | network.hidden: got [] | at least one
network.hidden=256                     | network.hidden: got 256 | write network.hidden=[256]
network.hidden=[256,0]                 | network.hidden         | at least 1
network.activation=rleu                | network.activation     | did you mean relu?
total_frames=0                         | total_frames: got 0    | at least 1
total_frames=1e30                      | total_frames: got 1e+30 | a whole number
total_frames=lots                      | total_frames: got "lots" | a whole number
total_frames=                          | total_frames: got ""   | a whole number
total_frames                           | got "total_frames"     | key=value
total_frames=[1,                       | total_frames: got "[1," | quotes
total_frames=${nosuch}                 | total_frames: got "${nosuch | a value that resolves
total_frames=10 stop_at=11             | stop_at: got 11        | at most total_frames=10
max_seconds=0                          | max_seconds            | above 0 or null
early_stop.metric=eval/episode_return  | early_stop.metric: got "eval/ | one of early_stop.at_least
early_stop.at_least=5                  | early_stop.metric: got null | with early_stop.at_least
early_stop.at_most=5                   | early_stop.metric: got null | along with early_stop.at_most
early_stop.patience=5                  | early_stop.metric: got null | add early_stop.patience=null
early_stop.metric=x early_stop.patience=0 | early_stop.patience  | at least 1 or null
early_stop.metric=x early_stop.at_least=nan | early_stop.at_least | it has to be finite
early_stop.metric=x early_stop.at_least=1 early_stop.at_most=2 | early_stop.at_most | null with
early_stop.metrik=x                    | early_stop.metrik      | did you mean early_stop.metric?
seed=-1                                | seed: got -1           | at least 0
seed=4294967296                        | seed: got 4294967296   | at most 4294967295
seed=1,2                               | seed: got "1,2"        | --multirun
device=gpu                             | device: got "gpu"      | auto or cpu or cuda
threads=0                              | threads                | at least 1 or null
plugins=my.plugin                      | plugins                | write plugins=[my.plugin]
run_dir=20250101                       | run_dir: got 20250101  | quote it twice
progress=maybe                         | progress               | true or false
log.interval=-1                        | log.interval           | at least 0
log=5                                  | log: got 5             | keys and values
eval.episodes=0                        | eval.episodes          | at least 1
eval.intervall=5                       | eval.intervall         | did you mean eval.interval?
checkpoint.keep=0                      | checkpoint.keep        | at least 1
resume=nosuch                          | resume: got "nosuch"   | no such directory
resume=file                            | resume: got "file"     | there is a file
resume=auto                            | resume: got "auto"     | run_dir=DIR
resume=.                               | resume: got "."        | has no config.yaml
run_dir=taken                          | run_dir: got "taken"   | resume=taken
run_dir=file                           | run_dir: got "file"    | a directory
run_dir=file/run                       | run_dir: got "file/run" | a directory that can be made
~nosuch                                | ["~nosuch"]            | overrides that can be composed
hydra.nosuch=1                         | ["hydra.nosuch=1"]     | overrides that can be composed
HalfCheetah                            | got "HalfCheetah"      | key=value
--total_frames=5                       | --total_frames=5       | without dashes? total_frames=5
--config-dir nosuch                    | --config-dir: got "nosuch" | a directory
--experimental-rerun job.pickle        | --experimental-rerun   | not to be given
--multirun seed=0,1 algo.gamma=0.9,1.1 | algo.gamma: got 1.1    | at most 1
--multirun env=Hopper,Hoper            | env: got "Hoper"       | did you mean Hopper?
--multirun seed=0,1 run_dir=same       | run_dir: got "same"    | another one for each job
--multirun seed=0,1 resume=taken       | resume: got "taken"    | one by one
--multirun algo.lr=interval(0,1)       | algo.lr=interval(0,1)  | does not support
"""
SLICES = "algo.value_estimator=td1 algo.slice_length=8"
TABLE = [
    tuple(map(str.strip, line.split("|")))
    for line in BAD.strip().replace("SLICES", SLICES).splitlines()
]


@pytest.fixture(autouse=True)
def _a_run_and_a_file() -> None:
    os.mkdir("taken")
    for path in ("taken/config.yaml", "file"):
        with open(path, "w") as file:
            file.write("not a configuration")


def _tree() -> set[str]:
    return {os.path.join(at, name) for at, dirs, files in os.walk(".") for name in [*dirs, *files]}


@pytest.mark.parametrize(("line", "key", "instead"), TABLE, ids=[row[0] for row in TABLE])
def test_is_refused(
    line: str,
    key: str,
    instead: str,
    train: Callable[..., int],
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = _tree()
    assert train(*line.split()) == 2
    written = capsys.readouterr()
    assert key in written.err
    assert instead in written.err
    assert "Traceback" not in written.err
    assert len(written.err.splitlines()) == 1
    assert written.out == ""
    assert not runs.calls
    assert _tree() == before


@pytest.mark.parametrize(
    "line", ["algo=sca", "+totl_frames=10", "-m seed=0,1 algo.lr=-1", "run_dir=taken"]
)
def test_is_refused_without_torch_and_without_a_trace(
    line: str, script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    before = _tree()
    process = script(*line.split())
    *message, torch = process.stderr.splitlines()
    assert process.returncode == 2
    assert process.stdout == ""
    assert len(message) == 1
    assert message[0].startswith("train.py: ")
    assert torch == "no torch"
    assert _tree() == before
