"""`scripts/evaluate.py`: what it says of a policy, wherever that is, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.algorithms import ALL, tiny, tiny_dqn, tiny_ppo, tiny_sac
from support.environments import env_config
from support.states import assert_same
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from trainers.build import build
from trainers.config import CheckpointConfig, EvalConfig, NetworkConfig, TrainConfig, save_config
from trainers.policies import films
from trainers.policies.evaluate import main
from trainers.policies.load import LoadedPolicy, load_policy
from trainers.run import run
from trainers.saving import checkpoint

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "evaluate.py"
Capture = pytest.CaptureFixture[str]

PENDULUM = env_config("Pendulum-v1", max_episode_steps=20)
OWN = EvalConfig(interval=20, episodes=4, seed=7)
SAVED = CheckpointConfig(interval=20)

PLUGIN = """
import gymnasium
from trainers.plugins import wrappers

@wrappers.register("of_test_evaluate")
def richer(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: reward + 1000)
"""


def trained(config: TrainConfig, run_dir: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run_dir.parent)
        assert run(config, run_dir, None) == 0
    return run_dir


@pytest.fixture(scope="module")
def sac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SAC whose last policy is not its best; not to be written to."""
    config = tiny_sac(PENDULUM, {"lr": 0.1}, total_frames=60, eval=OWN, checkpoint=SAVED)
    run_dir = trained(config, tmp_path_factory.mktemp("sac") / "run")
    best, latest = checkpoint.load(run_dir / "best"), evaluations(run_dir)[-1]
    assert best["frames"] < latest["frames"], "this test wants another seed"
    return run_dir


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPO with a normaliser; not to be written to."""
    algo = {"normalize_observation": True}
    config = tiny_ppo(PENDULUM, algo, eval=OWN, checkpoint=SAVED)
    return trained(config, tmp_path_factory.mktemp("ppo") / "run")


@pytest.fixture
def copy(sac: Path, tmp_path: Path) -> Path:
    """A copy of the run of SAC."""
    return Path(shutil.copytree(sac, tmp_path / "copy"))


def evaluations(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "eval/episode_return" in line]


def evaluated(*arguments: str, code: int = 0) -> dict[str, Any]:
    """What is in the JSON file of an evaluation in the working directory."""
    assert main([*arguments, "out=out.json"]) == code
    return json.loads(Path("out.json").read_text())


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


# --------------------------------------------------------------------- results


def test_the_normaliser_is_the_saved_one_and_stays_so(
    ppo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[LoadedPolicy] = []

    def loading(*arguments: Any) -> LoadedPolicy:
        used.append(load_policy(*arguments))
        return used[-1]

    monkeypatch.setattr("trainers.policies.evaluate.load_policy", loading)
    found = evaluated(f"run_dir={ppo}")
    state = checkpoint.load(ppo / "best")
    assert_same(dict(used[0].policy.state_dict()), state["policy"])
    (shift,) = [name for name in state["policy"] if name.endswith(".shift")]
    assert state["policy"][shift].abs().sum() > 0
    state["policy"][shift] += 3.0
    shifted = Path(shutil.copytree(ppo, tmp_path / "shifted"))
    shutil.rmtree(shifted / "best")
    checkpoint.save(shifted / "best", state)
    assert evaluated(f"run_dir={shifted}")["returns"] != found["returns"]


def test_the_table_and_the_file_say_the_same(copy: Path, capsys: Capture) -> None:
    assert main([f"run_dir={copy}", "episodes=5"]) == 0
    said, complaints = capsys.readouterr()
    assert complaints == ""
    found = json.loads((copy / "evaluation-best.json").read_text())
    returns = np.array(found["returns"])
    assert len(set(returns)) == 5
    middle = np.sort(returns)[1:-1].mean()
    assert found["return"] == pytest.approx(
        {"mean": returns.mean(), "std": returns.std(), "iqm": middle}
    )
    about = {key: found[key] for key in ("policy", "env", "seed", "deterministic", "episodes")}
    assert about == {
        **{"policy": "best", "env": "Pendulum-v1", "seed": 8, "deterministic": True},
        "episodes": 5,
    }
    assert (found["lengths"], found["video"]) == ([20] * 5, None)
    rows = [line.split() for line in said.splitlines()]
    assert rows[1] == ["episode", "return", "length"]
    assert [row[:3] for row in rows[2:7]] == [
        [str(number), f"{value:.2f}", "20"] for number, value in enumerate(returns)
    ]
    assert rows[9] == ["iqm", f"{middle:.2f}", "20.0"]
    assert said.splitlines()[-1] == f"results in {copy / 'evaluation-best.json'}"


def test_the_default_seed_is_not_the_one_that_chose_the_best(sac: Path) -> None:
    default, own = (evaluated(f"run_dir={sac}", *more) for more in ((), ("seed=7",)))
    assert not set(default["returns"]) & set(own["returns"])
    assert evaluated(f"run_dir={sac}", "seed=8") == default


def test_actions_are_sampled_if_asked_for(sac: Path) -> None:
    mode, sample = (
        evaluated(f"run_dir={sac}", f"deterministic={value}") for value in ("true", "false")
    )
    assert not set(mode["returns"]) & set(sample["returns"])
    assert evaluated(f"run_dir={sac}", "deterministic=false") == sample


@pytest.mark.parametrize("name", ALL)
def test_policies_that_have_no_samples_are_known(name: str) -> None:
    config = tiny(name)
    built = build(config, will_train=False)
    envs = built.trainer.collector.envs
    data = TensorDict({"observation": torch.zeros(200, envs.num_observations)}, [200])
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        actions = built.policy(data)["action"]
    envs.close()
    assert (len(actions.unique()) == 1) == (not config.algo.policy_draws)


def test_samples_of_a_policy_that_has_none_are_refused(copy: Path, capsys: Capture) -> None:
    save_config(tiny_dqn(), copy / "config.yaml")
    expected = "deterministic: got false, expected true; the policy of dqn has one action"
    refused([f"run_dir={copy}", "deterministic=false"], expected, capsys)


def test_success_is_reported_where_the_environment_does(tmp_path: Path, capsys: Capture) -> None:
    config = tiny_sac(env_config("tests/Goal-v0"), total_frames=12, eval=OWN)
    run_dir = trained(config, tmp_path / "run")
    found = evaluated(f"run_dir={run_dir}", "episodes=20")
    assert found["success_rate"] == np.mean(found["successes"])
    assert f"success rate {found['success_rate']:.2f}" in capsys.readouterr().out


# ---------------------------------------------------------------------- copies


def test_copies_do_as_well_as_the_run(sac: Path, tmp_path: Path) -> None:
    best, latest = (evaluated(f"run_dir={sac}", f"which={w}") for w in ("best", "latest"))
    assert best["returns"] != latest["returns"]
    (newest, *_) = sorted((sac / "checkpoints").iterdir(), reverse=True)

    def copied(name: str, *sources: Path) -> Path:
        place = tmp_path / name
        for source in sources:
            shutil.copytree(source, place / source.name)
        shutil.copy(sac / "config.yaml", place)
        return place

    beside_best, beside_latest = copied("a", sac / "best"), copied("b", newest)
    inside = Path(shutil.copytree(newest, tmp_path / "c"))
    shutil.copy(sac / "config.yaml", inside)
    whole = copied("d", sac / "best", sac / "checkpoints")
    for expected, *arguments in [
        (best, f"run_dir={beside_best}"),
        (best, f"run_dir={beside_best / 'best'}"),
        (latest, f"run_dir={beside_latest}", "which=latest"),
        (latest, f"run_dir={beside_latest / newest.name}"),
        (latest, f"run_dir={inside}"),
        (latest, f"run_dir={whole / 'checkpoints' / newest.name}"),
    ]:
        found = evaluated(*arguments)
        assert found["returns"] == expected["returns"], arguments
        assert found["frames"] == expected["frames"]


def test_a_checkpoint_is_found_from_within(sac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path("out.json").absolute()
    monkeypatch.chdir(sac / "best")
    assert main(["run_dir=.", f"out={out}"]) == 0


def test_results_have_its_name_from_within(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy / "best")
    assert main(["run_dir=.", "episodes=1"]) == 0
    (copy / "evaluation-best.json").unlink()
    (copy / "best" / "below").mkdir()
    monkeypatch.chdir(copy / "best" / "below")
    assert main(["run_dir=..", "episodes=1"]) == 0
    assert (copy / "evaluation-best.json").is_file()


def test_results_of_a_checkpoint_go_beside_the_configuration(copy: Path) -> None:
    assert main([f"run_dir={copy / 'best'}"]) == 0
    assert (copy / "evaluation-best.json").is_file()
    assert sorted(path.name for path in (copy / "best").iterdir()) == [
        *("manifest.json", "state.json", "tensors.safetensors")
    ]


def test_a_damaged_checkpoint_is_passed_over(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    newest, older = sorted((copy / "checkpoints").iterdir(), reverse=True)
    (newest / "state.json").write_text("{")
    assert evaluated(f"run_dir={copy}", "which=latest")["policy"] == older.name
    assert [m for m in caplog.messages if m.startswith("skipping a damaged checkpoint")]


def test_another_device_and_backend_do_not_matter(copy: Path, sac: Path) -> None:
    path = copy / "config.yaml"
    text = path.read_text().replace("device: cpu", "device: cuda")
    path.write_text(text.replace("backend: sync", "backend: async"))
    assert "cuda" in path.read_text()
    assert "async" in path.read_text()
    assert evaluated(f"run_dir={copy}") == evaluated(f"run_dir={sac}")


# --------------------------------------------------------------------- plugins


def test_plugins_are_imported_if_named_again_and_never_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugin_of_evaluate.py").write_text(PLUGIN)
    plugins = ["plugin_of_evaluate"]
    env = env_config("Pendulum-v1", max_episode_steps=20, wrappers=["of_test_evaluate"])
    run_dir = trained(tiny_sac(env, plugins=plugins, eval=OWN), tmp_path / "run")
    found = evaluated(f"run_dir={run_dir}", "plugins=[plugin_of_evaluate]")
    assert found["return"]["mean"] > 18_000
    monkeypatch.delitem(sys.modules, "plugin_of_evaluate")
    capsys.readouterr()
    refused([f"run_dir={run_dir}"], r"plugins: got \[\], .* add plugins=\[plugin_of_ev", capsys)
    assert "plugin_of_evaluate" not in sys.modules


# -------------------------------------------------------------------- bad input


def refused(arguments: list[str], expected: str, capsys: Capture) -> None:
    """One line, exit code 2."""
    assert main(arguments) == 2
    said, complaint = capsys.readouterr()
    assert said == ""
    assert complaint.count("\n") == 1, complaint
    assert re.match(f"evaluate.py: {expected}", complaint), complaint


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "run_dir: got null, expected a value"),
        (["run_dir=nowhere"], 'run_dir: got "nowhere", .*; there is no such directory'),
        (["run_dir=taken"], 'run_dir: got "taken", .*; there is a file'),
        (["run_dir=."], r'run_dir: got ".", expected a run directory .*; it has no config.yaml'),
        (["run_dir=RUN", "episodes=0"], "episodes: got 0, expected a whole number at least 1"),
        (["run_dir=RUN", "episodes=1.5"], "episodes: got 1.5, expected a whole number"),
        (["run_dir=RUN", "which=bset"], 'which: got "bset", expected best or .* did you mean best'),
        (["run_dir=RUN", "seed=-1"], "seed: got -1, expected a whole number at least 0"),
        (["run_dir=RUN", "episode=3"], r"episode: got 3, .*did you mean episodes\?"),
        (["run_dir=RUN", "output=a.json"], r"output: got \"a.json\", .*did you mean out\?"),
        (["run_dir=RUN", "eval.seed=3"], r"eval.seed: got 3, expected a key: run_dir, which"),
        (["run_dir=RUN", "seed=1,2"], 'seed: got "1,2", expected a single value$'),
        (["run_dir=RUN", "video"], 'command line: got "video", expected key=value'),
        (["RUN"], r"command line: .* expected key=value; did you mean run_dir=.*\?"),
        (["run_dir=RUN", "video=maybe"], 'video: got "maybe", expected true or false'),
        (["run_dir=RUN", "plugins=[no_such_module]"], 'plugins: got "no_such_module"'),
        (["run_dir=RUN", "out=taken/a.json"], "out: .* Not a directory: out=FILE.json"),
        (["run_dir=RUN", "out=."], r'out: got ".", expected the path of a file, FILE.json'),
        (["run_dir=RUN", "out=d.json"], 'out: got "d.json", .* there is a directory'),
    ],
)
def test_wrong_arguments(arguments: list[str], expected: str, sac: Path, capsys: Capture) -> None:
    Path("taken").write_text("")
    Path("d.json").mkdir()
    before = sorted(sac.rglob("*"))
    refused([each.replace("RUN", str(sac)) for each in arguments], expected, capsys)
    assert sorted(sac.rglob("*")) == before
    assert {path.name for path in Path().rglob("*")} == {"taken", "d.json"}


def test_a_run_without_a_checkpoint(copy: Path, capsys: Capture) -> None:
    shutil.rmtree(copy / "best")
    refused([f"run_dir={copy}"], 'which: got "best", expected latest; there is no other', capsys)
    shutil.rmtree(copy / "checkpoints")
    refused([f"run_dir={copy}"], "run_dir: .* that has saved .*it has no checkpoint yet", capsys)


@pytest.mark.parametrize("which", ["best", "latest"])
def test_a_checkpoint_of_other_networks(copy: Path, which: str, capsys: Capture) -> None:
    config = tiny_sac(PENDULUM, network=NetworkConfig(hidden=[9]))
    save_config(config, copy / "config.yaml")
    refused([f"run_dir={copy}", f"which={which}"], "run_dir: .* intact weights of the net", capsys)


@pytest.mark.parametrize("which", ["best", "latest"])
@pytest.mark.parametrize("make", [tiny_sac, tiny_ppo])
def test_a_checkpoint_of_another_environment_or_algorithm(
    copy: Path, which: str, make: Any, capsys: Capture
) -> None:
    env = env_config("MountainCarContinuous-v0") if make is tiny_sac else PENDULUM
    save_config(make(env), copy / "config.yaml")
    refused([f"run_dir={copy}", f"which={which}"], "run_dir: .* intact weights of the net", capsys)


def test_damaged_files(copy: Path, capsys: Capture) -> None:
    for path in copy.rglob("tensors.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    refused([f"run_dir={copy}"], "run_dir: .* it does not match its manifest", capsys)
    assert main([f"run_dir={copy}", "which=latest"]) == 2
    *_, last = capsys.readouterr().err.splitlines()  # behind what is said of each of them
    assert re.match("evaluate.py: run_dir: .* a run with an intact checkpoint", last)
    (copy / "config.yaml").write_text("algo: [")
    refused([f"run_dir={copy}"], ".*config.yaml: .* a readable configuration", capsys)


def test_a_checkpoint_alone(sac: Path, tmp_path: Path, capsys: Capture) -> None:
    alone = shutil.copytree(sac / "best", tmp_path / "alone")
    refused([f"run_dir={alone}"], "run_dir: .* config.yaml is neither in it nor beside it", capsys)


def test_an_environment_that_is_not_there_any_more(copy: Path, capsys: Capture) -> None:
    save_config(tiny_sac(env_config("Pendulun-v1")), copy / "config.yaml")
    refused([f"run_dir={copy}"], r"env.id: got .* did you mean Pendulum-v1\?", capsys)


def test_values_that_are_not_finite(copy: Path, capsys: Capture) -> None:
    env = env_config("tests/Tale-v0", kwargs={"broken": "nan reward", "lengths": [5]})
    trained_one = trained(tiny_sac(env_config(kwargs={"lengths": [5]})), copy / "one")
    save_config(tiny_sac(env), trained_one / "config.yaml")
    capsys.readouterr()
    assert main([f"run_dir={trained_one}"]) == 1
    said, complaint = capsys.readouterr()
    assert said == ""
    assert re.match("evaluate.py: .* not finite in step 2 of an evaluation", complaint)


def test_a_full_disk_is_a_line_behind_the_table(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(copy.rglob("*"))
    monkeypatch.setattr(Path, "replace", fail)
    assert main([f"run_dir={copy}", "episodes=2"]) == 1
    said, complaint = capsys.readouterr()
    assert said.count("\n") == 7
    path = copy / "evaluation-best.json"
    assert complaint == f"evaluate.py: {path}: No space left on device\n"
    assert sorted(copy.rglob("*")) == before


# ------------------------------------------------------------------ the script


def script(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As a process of its own, which says at its end whether it needed torch."""
    program = f"""
import atexit, runpy, sys
atexit.register(lambda: print("torch" if "torch" in sys.modules else "no torch", file=sys.stderr))
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_script_evaluates(copy: Path) -> None:
    process = script(f"run_dir={copy}", "episodes=2")
    assert (process.returncode, process.stderr) == (0, "torch\n")
    assert process.stdout.splitlines()[-1] == f"results in {copy / 'evaluation-best.json'}"


def test_a_reader_that_has_seen_enough_is_no_error(copy: Path) -> None:
    reading, written_to = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, SCRIPT, f"run_dir={copy}", "episodes=2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=written_to,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    os.close(written_to)
    assert (process.returncode, process.stderr) == (1, b"")
    assert (copy / "evaluation-best.json").is_file()


def test_the_script_answers_wrong_input_without_torch(sac: Path) -> None:
    process = script(f"run_dir={sac}", "which=nosuch")
    assert process.returncode == 2
    assert process.stdout == ""
    line, torch = process.stderr.splitlines()
    assert 'which: got "nosuch"' in line
    assert torch == "no torch"


def test_a_renderer_that_is_not_there_is_named(sac: Path) -> None:
    process = script(f"run_dir={sac}", MUJOCO_GL="nosuch")
    assert process.returncode == 2
    line, torch = process.stderr.splitlines()
    assert line.startswith('evaluate.py: MUJOCO_GL: got "nosuch", expected a renderer that is')
    assert torch == "no torch"


def test_help_names_every_key(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    keys = re.findall(r"^  (\w+)  ", capsys.readouterr().out, re.MULTILINE)
    assert keys == [
        *("run_dir", "which", "episodes", "seed", "deterministic", "video", "out", "plugins")
    ]


# ----------------------------------------------------------------------- films


def test_a_film_beside_the_results(copy: Path, capsys: Capture) -> None:
    av = pytest.importorskip("av", reason="the extra video is not installed")
    without = evaluated(f"run_dir={copy}")
    assert main([f"run_dir={copy}", "video=true"]) == 0
    said, complaints = capsys.readouterr()
    assert complaints == ""
    path = copy / "videos" / "evaluation-best.mp4"
    assert f"film of episode 0 in {path}" in said
    with av.open(str(path)) as file:
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(shown) == 21
    assert abs(shown[0].astype(int) - shown[-1]).max() > 100
    found = json.loads((copy / "evaluation-best.json").read_text())
    assert found == without | {"video": "videos/evaluation-best.mp4"}
    assert evaluated(f"run_dir={copy}", "video=true")["video"] == "out.mp4"


def test_no_film_is_no_reason_to_keep_the_results_back(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    run_dir = trained(tiny_sac(env_config(), eval=OWN), tmp_path / "run")
    capsys.readouterr()
    found = evaluated(f"run_dir={run_dir}", "video=true", code=1)
    assert found["video"] is None
    assert len(found["returns"]) == 10
    said, complaint = capsys.readouterr()
    assert "results in out.json" in said
    assert complaint.startswith("no film: tests/Tale-v0 cannot be rendered to pictures")
    assert complaint.count("\n") == 1


def test_mujoco_without_opengl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(films, "_probe", lambda name: "nothing to draw with")
    env = env_config("InvertedPendulum-v5", max_episode_steps=3)
    run_dir = trained(tiny_sac(env, eval=OWN), tmp_path / "run")
    capsys.readouterr()
    assert evaluated(f"run_dir={run_dir}", "video=true", code=1)["video"] is None
    complaint = capsys.readouterr().err
    assert complaint.startswith("no film: MuJoCo cannot render here by egl (nothing to draw with)")
    assert complaint.count("\n") == 1


def test_without_the_extra_a_film_is_refused(
    sac: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("trainers.config.sections.find_spec", lambda name: None)
    expected = r"video: got true, expected false: PyAV.* pip install .*\[video\]"
    refused([f"run_dir={sac}", "video=true"], expected, capsys)
