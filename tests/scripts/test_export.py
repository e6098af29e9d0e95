"""Exported policies, as somebody meets them who has nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.algorithms import ALL, tiny, tiny_dqn, tiny_ppo, tiny_sac
from support.environments import env_config, register_spaces
from support.runs import likeliest, some_observations, trained
from support.scripts import load_script
from torch import nn
from torchrl.data import Bounded

from trainers.build import ALGORITHMS
from trainers.config import NetworkConfig
from trainers.config.export import ExportError
from trainers.policies import export
from trainers.policies.load import load_policy

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "export.py"
HAS_ONNX = all(importlib.util.find_spec(p) for p in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="needs the extra export")

# Each takes seconds to write: the other forms, and the other files of ONNX, are slow tests.
FORMS_NOW = ("sac, own bounds", "dqn, duelling, no numpy", "ppo, whole numbers")
ONNX_NOW = ("sac", "ppo, whole numbers")


def slow_unless(now: bool) -> list[pytest.MarkDecorator]:
    return [] if now else [pytest.mark.slow]


VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,))
SPACES = {
    "narrow": gym.spaces.Box(np.float32([-2, 0]), np.float32([-1, 5])),
    "wide": gym.spaces.Box(np.float64([[-0.3, 0]]), np.float64([[-0.1, 0.7]]), dtype=np.float64),
    "whole": gym.spaces.Box(0, 10, (2,), np.int64),
    "endless": gym.spaces.Box(-np.inf, np.inf, (2,)),
    "choice": gym.spaces.Discrete(5, start=-1),
}
IDS = {name: register_spaces(f"Export{name}", VECTOR, space) for name, space in SPACES.items()}
GOAL = "tests/Goal-v0"

Capture = pytest.CaptureFixture[str]


def ppo(name: str, **algo: Any) -> Any:
    """PPO in one of the spaces, with weights and statistics that make a difference."""
    env = env_config(IDS.get(name, name))
    return tiny_ppo(env=env, algo={"lr": 0.1, "lr_schedule": "constant"} | algo)


def shipped(name: str) -> Any:
    """An algorithm as it is, with weights that make a difference."""
    box = ALGORITHMS[name].action_space.accepts(Bounded(-1.0, 1.0, (2,)))
    env = env_config(IDS["narrow" if box else "choice"])
    return tiny(name, env, {"lr": 0.1, "lr_schedule": "constant"})


# What stands between a policy and its environment.
FORMS: dict[str, Callable[[], Any]] = {
    "sac, own bounds": lambda: tiny_sac(env_config(IDS["narrow"], rescale_actions=False)),
    "ddpg, own bounds": lambda: tiny("ddpg", env_config(IDS["narrow"], rescale_actions=False)),
    "dqn, duelling, no numpy": lambda: tiny_dqn(
        env_config(IDS["choice"]),
        {"duelling": True},
        network=NetworkConfig(hidden=[8], activation="silu"),
    ),
    "ppo, clipped only": lambda: tiny_ppo(env_config(IDS["narrow"], rescale_actions=False)),
    "ppo, predicted deviation": lambda: ppo("narrow", predict_std=True),
    "ppo, mean in bounds": lambda: ppo("narrow", tanh_loc=True),
    "ppo, float64": lambda: ppo("wide"),
    "ppo, whole numbers": lambda: ppo("whole"),
    "ppo, unbounded": lambda: ppo("endless", normalize_observation=False),
    "ppo, discrete": lambda: ppo("choice"),
    "ppo, discrete on a trunk": lambda: ppo("choice", shared_trunk=True),
}
KINDS = {name: partial(shipped, name) for name in ALL} | FORMS
CASES = [
    *(
        pytest.param(kind, "torch_export", id=kind, marks=slow_unless(kind in (*ALL, *FORMS_NOW)))
        for kind in KINDS
    ),
    *(
        pytest.param(
            kind, "onnx", id=f"{kind}, onnx", marks=[needs_onnx, *slow_unless(kind in ONNX_NOW)]
        )
        for kind in KINDS
    ),
]


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script("export")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPO; not to be written to."""
    run_dir = tmp_path_factory.mktemp("ppo") / "run"
    trained(ppo("narrow"), run_dir)
    return run_dir


@pytest.fixture(scope="module")
def exported(script: Any, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was exported of it by torch; not to be written to."""
    out = tmp_path_factory.mktemp("exported") / "new" / "out"
    line = [f"run_dir={run}", "format=torch_export", "which=latest", f"out={out}"]
    assert script.main(line) == 0
    return out


def act(directory: Path, observations: np.ndarray) -> np.ndarray:
    """What the exported policy does."""
    if (directory / "policy.pt2").exists():
        policy = torch.export.load(directory / "policy.pt2").module()
        return policy(torch.from_numpy(observations)).numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(directory / "policy.onnx")
    return session.run(None, {"observation": observations})[0]


def document(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "policy.json").read_text(), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_it_acts_as_the_environment_would_have_been_told(
    kind: str, form: str, script: Any, tmp_path: Path, capsys: Capture
) -> None:
    built = trained(KINDS[kind](), tmp_path / "run")
    out = tmp_path / "out"
    arguments = [f"run_dir={tmp_path}/run", f"format={form}", f"out={out}"]
    assert script.main(arguments) == 0
    said = capsys.readouterr()
    assert (said.err, len(said.out.splitlines())) == ("", 3)
    envs = built.trainer.collector.envs
    observations = some_observations(envs.num_observations, 1_000)
    actions = likeliest(built.policy, observations)
    told = np.concatenate([envs._prepared(action[None]) for action in actions])
    assert len(np.unique(told)) > 1
    for number in (1, 2, 1_000):
        exported = act(out, observations[:number])
        assert exported.dtype == envs.action_space.dtype
        np.testing.assert_allclose(exported, told[:number], rtol=1e-5, atol=1e-5)
        assert all(envs.action_space.contains(action) for action in exported)
    assert {path.name for path in out.iterdir()} == {document(out)["file"], "policy.json"}


def test_the_description_of_boxes(exported: Path) -> None:
    told = document(exported)
    layout = [
        {"part": "observation", "start": 0, "end": 3, "space": "Box(-inf, inf, (3,), float32)"}
    ]
    assert told["inputs"] == [
        {
            "name": "observation", "shape": ["batch", 3], "dtype": "float32",
            "low": None, "high": None, "layout": layout,
        }
    ]  # fmt: skip
    assert told["outputs"] == [
        {
            "name": "action", "shape": ["batch", 2], "dtype": "float32",
            "low": [-2.0, 0.0], "high": [-1.0, 5.0], "clipped": True,
        }
    ]  # fmt: skip
    assert (told["env_id"], told["algo"], told["frames"]) == (IDS["narrow"], "ppo", 48)
    assert told["weights"] == "0000000048-0000000012"
    assert told["check"]["observations"] == 1_000
    assert 0 <= told["check"]["largest_difference"] < 1e-5
    assert told["versions"]["torch"] == torch.__version__


def test_the_description_of_parts_and_choices(script: Any, tmp_path: Path) -> None:
    trained(ppo(GOAL), tmp_path / "goal")
    trained(ppo("choice"), tmp_path / "choice")
    for name in ("goal", "choice"):
        assert script.main([f"run_dir={tmp_path / name}", "format=torch_export"]) == 0
    goal = document(tmp_path / "goal" / "exports" / "best-torch_export")
    assert [(e["part"], e["start"], e["end"]) for e in goal["inputs"][0]["layout"]] == [
        ("observation['achieved_goal']", 0, 2),
        ("observation['desired_goal']", 2, 4),
        ("observation['observation'][0]", 4, 6),
        ("observation['observation'][1]", 6, 9),
    ]
    assert goal["inputs"][0]["layout"][3]["space"] == "Discrete(3)"
    assert goal["inputs"][0]["low"] == [None] * 6 + [0.0] * 3
    choice = document(tmp_path / "choice" / "exports" / "best-torch_export")
    assert choice["outputs"] == [
        {"name": "action", "shape": ["batch"], "dtype": "int64", "low": -1, "high": 3}
    ]


@pytest.fixture(scope="module")
def as_onnx_file(script: Any, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was exported of it as ONNX; not to be written to."""
    out = tmp_path_factory.mktemp("onnx") / "out"
    assert script.main([f"run_dir={run}", "format=onnx", f"out={out}"]) == 0
    return out


@needs_onnx
def test_names_and_shapes_are_those_in_the_file(as_onnx_file: Path) -> None:
    import onnxruntime

    told = document(as_onnx_file)
    session = onnxruntime.InferenceSession(as_onnx_file / "policy.onnx")
    there = [*session.get_inputs(), *session.get_outputs()]
    for one, other in zip(there, [*told["inputs"], *told["outputs"]], strict=True):
        assert (one.name, one.shape) == (other["name"], other["shape"])
        assert one.type == "tensor(float)"


@pytest.mark.parametrize("form", ["torch_export", pytest.param("onnx", marks=needs_onnx)])
def test_the_lines_in_the_description_need_nothing_of_ours(
    form: str, request: pytest.FixtureRequest
) -> None:
    out: Path = request.getfixturevalue("as_onnx_file" if form == "onnx" else "exported")
    foreign = {"trainers", "tensordict", "torchrl"} | ({"torch"} if form == "onnx" else set())
    lines = document(out)["usage"]
    assert len(lines) <= 5
    lines += ["import sys", f"print(*action.shape, *({foreign} & set(sys.modules)))"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=out,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 2\n"


def test_a_file_holds_nothing_of_this_machine_and_only_the_actor(exported: Path) -> None:
    program = torch.export.load(exported / "policy.pt2")
    names = [name for name, _ in program.named_parameters()]
    assert len(names) == 5  # two layers, a deviation
    for tensor in program.state_dict.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    content = (exported / "policy.pt2").read_bytes()
    assert str(SCRIPT.parents[1]).encode() not in content


class Careless(export.EnvPolicy):
    """Forgets to clip."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.clip = False


class Rigid(export.EnvPolicy):
    """Does not know of the normaliser."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.mode.net[0][0][0] = nn.Identity()


@pytest.mark.parametrize("wrong", [Careless, Rigid])
def test_a_file_that_acts_differently_is_an_error(
    wrong: Any,
    script: Any,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(export, "EnvPolicy", wrong)
    assert script.main([f"run_dir={run}", "format=torch_export", f"out={tmp_path}/new/out"]) == 1
    said = capsys.readouterr()
    assert "export.py: the exported policy differs from the original by " in said.err
    assert len(said.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def always_says(policy: nn.Module, *outputs: float) -> None:
    """Make the last layer give these, whatever is observed."""
    last = [layer for layer in policy.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(outputs))


def one_is(action: Any, others: Any) -> Callable[[np.ndarray], np.ndarray]:
    """An exported policy that gives one action other than all else."""
    return lambda observations: np.array([action, *[others] * (len(observations) - 1)])


@pytest.mark.parametrize("name", ["dqn", "discrete_sac", "ppo"])
def test_another_action_is_right_only_where_it_is_as_good(name: str, tmp_path: Path) -> None:
    trained(tiny(name, env_config(IDS["choice"])), tmp_path / "run")
    loaded = load_policy(tmp_path / "run", "best")
    always_says(loaded.policy, 1.0, 1.0, 0.0, 0.99, 0.0)  # for the actions -1 to 3
    for action in (-1, 0):
        export.compare(loaded, one_is(action, -1), 10)
    for action in (1, 2):
        with pytest.raises(ExportError, match=f"differs from the original by {action + 1}"):
            export.compare(loaded, one_is(action, -1))
    loaded.envs.close()


def test_another_whole_number_is_right_only_where_it_is_as_near(tmp_path: Path) -> None:
    trained(ppo("whole"), tmp_path / "run")
    loaded = load_policy(tmp_path / "run", "best")
    always_says(loaded.policy, -0.1, -0.12)  # which is 4.5 and 4.4 between 0 and 10
    for number in (4, 5):
        export.compare(loaded, one_is([number, 4], [4, 4]), 10)
    with pytest.raises(ExportError, match="differs from the original by 1"):
        export.compare(loaded, one_is([4, 5], [4, 4]))
    loaded.envs.close()


@pytest.mark.parametrize("form", ["torch_export", pytest.param("onnx", marks=needs_onnx)])
def test_a_full_disk_is_a_line_and_leaves_nothing(
    form: str, script: Any, run: Path, tmp_path: Path, capsys: Capture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        code = script.main([f"run_dir={run}", f"format={form}", f"out={tmp_path}/new/out"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert capsys.readouterr() == ("", f"export.py: {tmp_path}/new/out: File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_and_nothing_else(
    script: Any, exported: Path, run: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(exported, out)
    (out / "policy.pt2").write_text("old")
    line = [f"run_dir={run}", "format=torch_export", "which=latest", f"out={out}"]
    assert script.main(line) == 0
    assert len((out / "policy.pt2").read_bytes()) > 1000
    (out / "notes.txt").touch()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "policy.json").write_text('{"Version": "2012-10-17", "Statement": []}')
    (tmp_path / "link").symlink_to(exported)
    capsys.readouterr()
    for taken in (out, theirs, tmp_path / "link"):
        assert script.main([*line[:-1], f"out={taken}"]) == 2
        assert "expected a path where nothing is yet" in capsys.readouterr().err


def test_a_signal_leaves_nothing(run: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(SCRIPT), f"run_dir={run}", "format=torch_export"]
    process = subprocess.Popen(
        [*script, f"out={tmp_path}/out"], env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    )
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60) == 143
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_is_named_before_torch_is_loaded(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "empty").mkdir()
    cases = {
        f"run_dir={run}": "format: got null, expected a value",
        f"run_dir={run} format=onxx": 'format: got "onxx", expected onnx or torch_export; did you',
        f"run_dir={run} format=torch_export wich=best": "did you mean which?",
        f"run_dir={run} format=torch_export which=last": "did you mean latest?",
        f"run_dir={run} format=torch_export plugins=mine": "write plugins=[mine]",
        f"run_dir={run} format=onnx,torch_export": "format: got",
        f"run_dir={run} --which": 'command line: got "--which", expected key=value',
        "format=torch_export": "run_dir: got null, expected a value",
        f"run_dir={tmp_path}/empty format=torch_export": "it has no config.yaml",
        f"run_dir={tmp_path}/nowhere format=torch_export": "there is no such directory",
        f"run_dir={run} format=torch_export out={tmp_path}/full": "a path where nothing is yet",
        f"run_dir={run} format=torch_export out={tmp_path}/file/x": "out: got",
    }
    source = f"""
import sys, runpy
for line in {list(cases)!r}:
    sys.argv = [{str(SCRIPT)!r}, *line.split()]
    try:
        runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
    except SystemExit as stop:
        assert stop.code == 2, (line, stop.code)
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True, text=True, cwd=tmp_path / "empty", timeout=60,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(cases), done.stderr
    for line, expected in zip(said, cases.values(), strict=True):
        assert line.startswith("export.py: ")
        assert expected in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file", "full"]
    assert not (run / "exports").exists()


def test_a_format_that_is_not_installed(
    script: Any, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("trainers.config.export.find_spec", lambda name: None)
    assert script.main([f"run_dir={run}", "format=onnx"]) == 2
    assert "pip install -c constraints.txt -e '.[export]'" in capsys.readouterr().err


def test_a_checkpoint_is_left_as_it_is(script: Any, run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    (checkpoint,) = (copied / "checkpoints").iterdir()
    assert script.main([f"run_dir={checkpoint}", "format=torch_export"]) == 0
    out = copied / "exports" / f"{checkpoint.name}-torch_export"
    assert document(out)["weights"] == checkpoint.name
    (before,) = (run / "checkpoints").iterdir()
    assert {p.name for p in checkpoint.iterdir()} == {p.name for p in before.iterdir()}


def test_help_names_every_key(script: Any, capsys: Capture) -> None:
    assert script.main(["--help"]) == 0
    text = capsys.readouterr().out
    for key in script.ExportConfig.__dataclass_fields__:
        assert f"    {key}=" in text
