"""What holds for every algorithm of the registry; what only one of them does is in its own file."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from forms import FORMS, TWINS, config_of
from keywords import configured, key_of, keywords_of
from support.algorithms import ALL, OFF_POLICY, ON_POLICY, has, task_of, tiny
from support.environments import env_config, register_spaces
from support.states import (
    assert_same,
    copied,
    flat,
    learnt,
    loss_of,
    owner,
    parameters,
    rollouts_of,
    timeless,
    watched,
)
from torchrl.data import Bounded, Categorical, Unbounded

from trainers import plugins, seeding
from trainers.algorithms.ppo import LOSSES
from trainers.build import ALGORITHMS, Built, build
from trainers.config import ConfigError
from trainers.config.keywords import WHY_NOT, WHY_NOT_OF
from trainers.errors import NonFiniteError
from trainers.hooks import PrioritizedReplay, Replay
from trainers.saving import checkpoint
from trainers.trainer import Trainer

every_algorithm = pytest.mark.parametrize("name", ALL)
off_policy = pytest.mark.parametrize("name", OFF_POLICY)


@every_algorithm
def test_it_is_what_it_is_called(name: str, make: Any) -> None:
    assert tiny(name).algo.name == name
    assert type(make(tiny(name))) is ALGORITHMS[name].trainer


# ------------------------------------------------------------ keywords of the losses


@pytest.mark.parametrize(
    ("name", "algo"),
    [
        (name, algo)
        for name in ALL
        for algo in ([{"loss": loss} for loss in LOSSES] if has(name, "loss") else [{}])
    ],
)
def test_every_keyword_of_torchrl_s_loss_has_a_key_or_a_reason(
    make: Any, name: str, algo: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has a key is handed on to the loss."""
    needed = {"policy_delay": 1, "value_network": True}  # to call TorchRL's loss, and with all
    algo = algo | {key: value for key, value in needed.items() if has(name, key)}
    theirs = type(loss_of(make(tiny(name, algo=algo | {"loss_module": "torchrl"}))))
    known, own = keywords_of(theirs), WHY_NOT_OF.get(name, {})
    without = {each for each in known if key_of(name, each) is None}
    assert own.keys() <= without <= own.keys() | WHY_NOT.keys()
    handed: set[str] = set()

    class Mine(theirs):
        def __init__(self, *networks: Any, **keywords: Any) -> None:
            handed.update(keywords)
            super().__init__(*networks, **keywords)

    monkeypatch.setattr(plugins.losses, "get", lambda name: {"mine": Mine}[name])
    make(tiny(name, algo=algo | {"loss_module": "mine"}))
    assert configured(name, theirs) <= handed


# --------------------------------------------------------------------- learning


def tensors(loss: Any) -> dict[str, torch.Tensor]:
    """Copies of what it trains and of all else that it keeps."""
    kept = {key: v for key, v in loss.state_dict().items() if isinstance(v, torch.Tensor)}
    return {key: copied(v.detach()) for key, v in (kept | dict(loss.named_parameters())).items()}


@cache
def straight(name: str, form: str) -> tuple[Trainer, dict[str, Any], dict[str, Any], Any]:
    """A run that went straight through: its loss before, its state after, and its lines."""
    trainer, lines = watched(config_of(name, form))
    before = tensors(loss_of(trainer))
    trainer.train()
    after = {path: copied(value) for path, value in flat(trainer.state_dict()).items()}
    return trainer, before, after, timeless(lines.lines)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_everything_learns(name: str, form: str) -> None:
    """Every parameter is optimized, once, and moves; so does every target."""
    trainer, before, _, lines = straight(name, form)
    named = {n: p for n, p in loss_of(trainer).named_parameters() if p.requires_grad}
    optimizers = [each for phase in trainer.phases for each in phase.optimizers]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    optimized = sum(p.numel() for group in groups for p in group["params"])
    assert optimized == sum(parameter.numel() for parameter in named.values())
    after = tensors(loss_of(trainer))
    targets = {key for key in before if key.startswith("target_") and key.endswith("weight")}
    assert [key for key in {*named, *targets} if torch.equal(before[key], after[key])] == []
    numbers = [(key, value) for line in lines for key, value in line.items()]
    assert any(key.startswith("loss/") for key, _ in numbers)
    assert [key for key, value in numbers if not math.isfinite(value)] == []


@pytest.mark.parametrize(("name", "variant"), TWINS)
def test_it_trains_as_torchrl_s_own_loss_would(make: Any, name: str, variant: Any) -> None:
    """The losses draw their noise in the same order, so both runs are the same run.

    Prioritized ones only if both write the sizes of their errors: else other frames are drawn.
    """
    runs = []
    for loss_module in (None, "torchrl"):
        algo = {"lr": 0.01, **variant, "loss_module": loss_module}
        trainer = make(tiny(name, None, algo, 48 if name in ON_POLICY else 22))
        losses: list[dict[str, float]] = []

        def note(trainer: Trainer, batch: Any, terms: Any, losses: Any = losses) -> None:
            losses.append({usual(k): float(v) for k, v in terms.items() if k.startswith("loss")})

        trainer.register_hook("post_optim", note)
        trainer.train()
        runs.append((type(loss_of(trainer)), losses))
    (our_class, ours), (their_class, theirs) = runs
    assert their_class.__module__.startswith("torchrl.")
    assert not our_class.__module__.startswith("torchrl.")
    assert len(ours) >= 3
    for one, two in zip(ours, theirs, strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)


def usual(name: str) -> str:
    """TorchRL calls the loss of the values by several names."""
    return {"loss": "loss_qvalue", "loss_value": "loss_critic"}.get(name, name)


@off_policy
def test_warm_up_frames_are_stored_and_updates_are_counted(make: Any, name: str) -> None:
    env = env_config(task_of(name), num_envs=4)
    trainer = make(
        tiny(name, env, {"utd_ratio": 0.5, "init_random_frames": 11, "frames_per_batch": 8})
    )
    collected = rollouts_of(trainer)
    trainer.train()
    assert (trainer.frames, trainer.updates) == (40, math.floor(0.5 * 29))
    # Storage has the frames of a rollout by environment, or by time.
    stored = owner(trainer, Replay).buffer[:]["observation"].tolist()
    rows = torch.cat([rollout["observation"].flatten(0, 1) for rollout in collected]).tolist()
    assert sorted(stored) == sorted(rows)


@off_policy
def test_priorities_are_the_errors_of_the_last_update(make: Any, name: str) -> None:
    trainer = make(tiny(name, algo={"prioritized": True, "priority_alpha": 1.0}))
    replay, seen = owner(trainer, PrioritizedReplay), []

    def compare(trainer: Trainer, batch: Any, losses: Any) -> None:
        priorities = replay.state_dict()["sampler"]["priorities"]
        told = dict(zip(batch["index"].tolist(), batch["td_error"].tolist(), strict=True))
        assert [priorities[i] for i in told] == pytest.approx(list(told.values()), abs=1e-6)
        seen.append(min(told.values()))

    trainer.register_hook("post_optim", compare)
    trainer.train()
    assert len(seen) == trainer.updates >= 30
    assert min(seen) >= 0
    assert replay.buffer.sampler.beta == pytest.approx(0.4 + 0.6 * 39 / 40)


def _has_schedule(name: str, algo: dict[str, Any]) -> bool:
    """Of an algorithm that has no other."""
    same = {"epsilon_start": 0.1, "epsilon_end": 0.1} if has(name, "epsilon_end") else {}
    return tiny(name, algo=algo | same).algo.has_schedule()


@off_policy
def test_priorities_may_go_without_weights(make: Any, name: str) -> None:
    algo = {"prioritized": True, "priority_beta": 0.0, "priority_beta_end": 0.0}
    trainer, seen = make(tiny(name, algo=algo)), []
    trainer.register_hook("post_optim", lambda t, batch, losses: seen.append(batch.clone()))
    trainer.train()
    assert {tuple(batch["priority_weight"].unique().tolist()) for batch in seen} == {(1.0,)}
    assert not _has_schedule(name, algo)
    assert _has_schedule(name, {"prioritized": True})


@pytest.mark.parametrize("loss_module", [None, "torchrl"])
@off_policy
def test_values_ahead_are_discounted_by_the_steps_to_them(
    make: Any, name: str, loss_module: str | None
) -> None:
    """Or several steps are refused, where TorchRL's loss would take them for one."""
    one_step = {"policy_delay": 1} if loss_module and name in ("crossq", "redq") else {}
    config = tiny(name, algo={"n_steps": 3, "loss_module": loss_module, **one_step})
    if (name, loss_module) == ("redq", "torchrl"):
        with pytest.raises(ConfigError, match=r"algo.n_steps: got 3, .*REDQLoss would discount"):
            build(config)
        return
    trainer, batches = make(config), []
    trainer.register_hook("post_optim", lambda trainer, batch, losses: batches.append(batch))
    trainer.train()
    loss = loss_of(trainer)
    before = copied(loss.state_dict())

    def losses_at(steps: int) -> list[float]:
        loss.load_state_dict(before)  # statistics of a normalisation move
        data = batches[-1].clone()
        data["steps_to_next_obs"] = torch.full_like(data["steps_to_next_obs"], steps)
        torch.manual_seed(0)
        return [value.item() for key, value in loss(data).items() if key.startswith("loss")]

    assert losses_at(1) == losses_at(1)
    assert losses_at(1) != losses_at(3)


# ------------------------------------------------------------------------ resume


@pytest.mark.parametrize(
    ("name", "form", "at", "count"),
    [
        (name, form, *point)
        for name, form in FORMS
        for point in (
            [("frames", 32)]
            if name in ON_POLICY
            else [("updates", 14), *([("frames", 12)] if form == "as shipped" else [])]
        )
    ],
)  # fmt: skip
def test_a_resumed_run_is_the_straight_run(
    name: str, form: str, at: str, count: int, tmp_path: Path
) -> None:
    """Stopped between two updates as well, and resumed where other random numbers were drawn."""
    _, _, expected, all_lines = straight(name, form)
    stopped, first_lines = watched(config_of(name, form))

    def stop(trainer: Trainer, *data: Any) -> None:
        if getattr(trainer, at) == count:
            trainer.stop("test", interrupted=True)

    stopped.register_hook("post_optim" if at == "updates" else "post_steps", stop)
    stopped.register_hook("checkpoint", lambda t: t.save(tmp_path / "c") if t.ending else None)
    stopped.train()
    assert getattr(stopped, at) == count
    assert not stopped.finished

    seeding.seed_everything(123)
    resumed, more_lines = watched(config_of(name, form))
    resumed.load(tmp_path / "c")
    assert {each.how for each in resumed.restored} == {"exact"}
    resumed.train()
    assert_same(flat(resumed.state_dict()), expected, ("/stopwatch", "/window/seconds"))
    assert timeless(first_lines.lines + more_lines.lines) == all_lines


# Whichever of these an algorithm has; the second of each is what is configured at the resume.
SETTINGS: dict[str, tuple[Any, Any]] = {
    "lr": (1e-3, 1e-4),
    "gamma": (0.9, 0.5),
    "min_alpha": (0.01, 0.2),
    "max_alpha": (2.0, 3.0),
    "target_entropy": (-1.5, -2.5),
    "clip_epsilon": (0.1, 0.2),
    "clip_value": (0.3, 0.4),
    "entropy_coeff": (0.5, 0.25),
    "critic_coeff": (0.25, 1.0),
    "v_max": (100.0, 50.0),
    "max_importance_ratio": (2.0, 3.0),
    "adam_eps": (1e-6, 1e-5),
}


@every_algorithm
def test_settings_outlive_a_checkpoint_and_the_rest_does_not(name: str, tmp_path: Path) -> None:
    def built(which: int) -> Built:
        algo = {key: values[which] for key, values in SETTINGS.items() if has(name, key)}
        if task_of(name) == "CartPole-v1" and has(name, "target_entropy"):
            algo["target_entropy"] = (0.4, 0.6)[which]  # the entropy of two actions is not below 0
        made = build(tiny(name, algo=algo))
        made.trainer.collector.shutdown()
        return made

    old, new, settings = built(0), built(1), ALGORITHMS[name].settings
    first = dict(loss_of(old.trainer).named_buffers())
    for key, value in loss_of(new.trainer).named_buffers():
        assert torch.equal(value, first[key]) or key.split(".")[-1] in settings, key
    with torch.no_grad():
        for key, tensor in loss_of(old.trainer).state_dict().items():
            floats = isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
            if floats and key.split(".")[-1] not in settings:
                tensor.add_(1.0)
    saved = [phase.state_dict() for phase in old.trainer.phases]
    checkpoint.save(tmp_path / "c", {"phases": saved})
    before = dict(loss_of(old.trainer).named_buffers())
    configured = {key: value.clone() for key, value in loss_of(new.trainer).named_buffers()}
    with new.keeping_settings():
        for phase, state in zip(
            new.trainer.phases, checkpoint.load(tmp_path / "c")["phases"], strict=True
        ):
            phase.load_state_dict(state)
    moved: set[str] = set()
    for key, value in loss_of(new.trainer).named_buffers():
        last = key.split(".")[-1]
        assert torch.equal(value, (configured if last in settings else before)[key]), key
        moved |= {last} if not torch.equal(value, before[key]) else set()
    assert moved or not settings
    assert moved <= set(settings)
    assert_same(
        dict(loss_of(new.trainer).named_parameters()), dict(loss_of(old.trainer).named_parameters())
    )
    optimizers = [each for phase in new.trainer.phases for each in phase.optimizers]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert {group["lr"] for group in groups} == {1e-4}
    if has(name, "adam_eps"):
        assert {group["eps"] for group in groups} == {1e-5}


# ------------------------------------------------------------------ what is broken


@pytest.mark.parametrize("broken", ["observation", "reward", "nan reward"])
@every_algorithm
def test_a_frame_that_is_not_finite_changes_nothing(make: Any, name: str, broken: str) -> None:
    choices = 0 if task_of(name) == "Pendulum-v1" else 2
    kwargs = {"lengths": (30,), "broken": broken, "broken_at": 20, "choices": choices}
    kwargs["broken_seed"] = seeding.episode_seed(0, 0, 0)  # of the first episode
    trainer = make(tiny(name, env_config(kwargs=kwargs)))
    before, states = parameters(loss_of(trainer)), []
    trainer.register_hook("post_steps", lambda trainer, rollout: states.append(learnt(trainer)))
    what = broken.split()[-1]
    with pytest.raises(NonFiniteError, match=rf"{what}.*environment 0.*frame 20"):
        trainer.train()
    assert trainer.frames == (16 if name in ON_POLICY else 19)
    assert not all(map(torch.equal, before, parameters(loss_of(trainer))))
    assert_same(learnt(trainer), states[-1])


@every_algorithm
def test_a_loss_that_is_not_finite_is_not_stepped_on(make: Any, name: str) -> None:
    trainer, states, named = make(tiny(name)), [], []

    def now() -> dict[str, Any]:
        state = flat([phase.state_dict() for phase in trainer.phases])
        return {path: copied(value) for path, value in state.items()}

    def spoil(trainer: Trainer, batch: Any, losses: Any) -> None:
        if trainer.updates == 1:  # in the second one
            states.append(now())
            named.append(next(key for key, _ in losses.items() if key.startswith("loss")))
            losses[named[0]] = losses[named[0]] * math.nan

    trainer.register_hook("post_loss", spoil)
    with pytest.raises(NonFiniteError) as caught:
        trainer.train()
    assert f"{named[0]} is nan at update 2, frame " in str(caught.value)
    assert len(named) == 1
    assert_same(now(), states[0])


# --------------------------------------------------------------- where it can act

INFINITE = float("inf")
SPACES: dict[str, tuple[gym.Space, Any]] = {
    "choice": (gym.spaces.Discrete(3, start=-1), Categorical(3)),
    "box": (gym.spaces.Box(-2.0, 0.5, (2,)), Bounded(-1.0, 1.0, (2,))),
    "endless": (gym.spaces.Box(-INFINITE, INFINITE, (2,)), Unbounded((2,))),
    "several": (gym.spaces.MultiDiscrete([2, 3]), None),
}


@pytest.mark.parametrize("space", SPACES)
@every_algorithm
def test_it_acts_where_it_can_and_else_says_what_can(make: Any, name: str, space: str) -> None:
    """The environment itself checks that actions belong to its space."""
    actions, spec = SPACES[space]
    env_id = register_spaces("Elsewhere", gym.spaces.Box(-1, 1, (2,)), actions)
    config = tiny(name, env_config(env_id, num_envs=2))
    fitting = [n for n, each in ALGORITHMS.items() if spec and each.action_space.accepts(spec)]
    if name in fitting:
        trainer = make(config)
        trainer.train()
        assert trainer.frames == config.total_frames
        return
    with pytest.raises(ConfigError) as caught:
        build(config)
    said = str(caught.value)
    if spec is None:
        assert caught.value.key == "env.id"
        assert "Box or Discrete" in said
    else:
        assert caught.value.key == "algo"
        assert f"{name} needs {ALGORITHMS[name].action_space.name}, {env_id} has " in said
        assert said.partition("algo=")[2].startswith(" or ".join(fitting))


@pytest.mark.parametrize("name", ["a2c", "ppo", "reinforce"])
def test_no_mean_is_kept_in_bounds_that_are_not_there(name: str) -> None:
    env_id = register_spaces("Boundless", gym.spaces.Box(-1, 1, (2,)), SPACES["endless"][0])
    with pytest.raises(ConfigError) as caught:
        build(tiny(name, env_config(env_id), {"tanh_loc": True}))
    assert str(caught.value).startswith("algo.tanh_loc: got true, expected false with actions that")


@pytest.mark.parametrize(
    ("key", "value"), [("tanh_loc", True), ("predict_std", True), ("log_std_init", -0.5)]
)
@pytest.mark.parametrize("name", ON_POLICY)
def test_a_choice_has_no_mean_and_no_deviation(name: str, key: str, value: Any) -> None:
    config = tiny(name, env_config("CartPole-v1"), {key: value})
    with pytest.raises(ConfigError, match="with discrete actions; it would do nothing") as caught:
        build(config)
    assert caught.value.key == f"algo.{key}"
    build(config, will_train=False).trainer.collector.shutdown()  # what was trained is looked at
    build(tiny(name, env_config("Pendulum-v1"), {key: value})).trainer.collector.shutdown()


@pytest.mark.parametrize("entropy", [100.0, 0.694, -0.1])
def test_a_target_entropy_is_one_that_choices_can_have(entropy: float) -> None:
    with pytest.raises(ConfigError, match=r"from 0 to log\(2\) = 0\.693147") as caught:
        build(tiny("discrete_sac", algo={"target_entropy": entropy}))
    assert caught.value.key == "algo.target_entropy"
    for fitting in ("auto", 0.0, math.log(2)):
        built = build(tiny("discrete_sac", algo={"target_entropy": fitting}))
        built.trainer.collector.shutdown()
