"""Wrong input that shows only once environments and networks are made: exit code 2, and no trace.

What needs no torch to be found wrong is in ``tests/config``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from running import TINY, forked, lines, names, train

MINE = "plugins=[my_plugin]"

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        (("env=gym", "env.id=Pendulun-v1"), "env.id", ["Pendulun-v1", "mean Pendulum-v1?"]),
        (("env=gym", "env.id=Pendulum-v9"), "env.id", ["Pendulum-v9", "Pendulum-v1"]),
        (("env=gym", "env.id=nosuch:Env-v0"), "env.id", ["nosuch:Env-v0"]),
        (("env.kwargs.gravity=9.8",), "env.kwargs", ["Pendulum-v1", "gravity"]),
        (
            ("env=gym", "env.id=CartPole-v1"),
            "algo",
            ["CartPole-v1", "Discrete(2)", "sac needs a finite Box", "fits"],
        ),
        (
            ("algo=td3", "env=gym", "env.id=CartPole-v1"),
            "algo",
            ["CartPole-v1", "Discrete(2)", "td3 needs a finite Box", "fits"],
        ),
        (
            ("env=gym", "env.id=mine/Free-v0", MINE),
            "algo",
            ["mine/Free-v0", "Box(-inf, inf", "sac needs a finite Box", "fits"],
        ),
        (("env=gym", "env.id=mine/Frail-v0", MINE), "env.id", ["mean mine/Fragile-v0?"]),
        (("plugins=[nosuch_module]",), "plugins", ["nosuch_module", "No module named"]),
        (("plugins=[raising_plugin]",), "plugins", ["raising_plugin", "ZeroDivisionError"]),
        (("plugins=[broken_plugin]",), "plugins", ["broken_plugin", "SyntaxError"]),
        (("hooks=[cuont]", MINE), "hooks", ["cuont", "count", "did you mean count?"]),
        (("hooks=[clash]", MINE), "hooks", ["clash", "not taken", "'checkpoints' is registered"]),
        (("env.wrappers=[pnny]", MINE), "env.wrappers", ["pnny", "did you mean penny?"]),
        (
            ("env=gym", "env.id=mine/Camera-v0", MINE),
            "env.id",
            ["mine/Camera-v0", "observation['pixels'] is an image", "env.wrappers"],
        ),
        (("algo.critic=my_criti", MINE), "algo.critic", ["did you mean my_critic?"]),
        (("algo.loss_module=my_los", MINE), "algo.loss_module", ["my_los", "my_loss"]),
        pytest.param(("device=cuda",), "device", ["cuda", "cpu"], marks=needs_no_cuda),
        (("run_dir=a_file",), "run_dir", ["a_file", "there is a file"]),
        (("run_dir=a_file/run",), "run_dir", ["a_file/run"]),
    ],
)
def test_wrong_input(
    arguments: tuple[str, ...],
    key: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_file").touch()
    (tmp_path / "raising_plugin.py").write_text("1 / 0\n")
    (tmp_path / "broken_plugin.py").write_text("def f(:\n")
    before = sorted(tmp_path.rglob("*"))
    tiny = [a for a in TINY if a != "env.max_episode_steps=25" or "env=gym" not in arguments]
    assert train(*tiny, *arguments) == 2
    said, out = capfd.readouterr().err, capfd.readouterr().out
    assert out == ""
    assert said.startswith(f"train.py: {key}: got "), said
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert [word for word in words if word not in said] == [], said
    after = [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts]
    assert after == before


def test_a_resume_that_cannot_be_leaves_the_run_alone(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    wrong = ("env.kwargs.gravity=9.8", "resume_override=true", "total_frames=200")
    assert train(f"resume={finished}", *wrong) == 2
    assert "env.kwargs: got " in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_networks_of_another_size_do_not_fit_a_checkpoint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*TINY, "run_dir=run", "total_frames=50", "eval.interval=0") == 0
    config = Path("run/config.yaml").read_text()
    wrong = ("network.hidden=[8]", "resume_override=true", "total_frames=60")
    assert train("resume=run", *wrong) == 2
    said = capfd.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("train.py: resume: got ")]
    assert line.endswith(
        "size of tensor a (8) must match the size of tensor b (16) at non-singleton dimension 0"
    )
    assert "Traceback" not in said
    assert Path("run/config.yaml").read_text() == config
    assert len(lines(Path("run"))) == 2


@pytest.mark.parametrize("older", [False, True])
def test_a_checkpoint_that_does_not_fit_changes_no_file(older: bool) -> None:
    """With lines behind it, the last of them cut short; only the log tells of it."""
    loggers = "logger=[tensorboard,wandb]"
    assert forked(*TINY, loggers, "run_dir=run", "total_frames=130") == 0
    run_dir = Path("run")
    with (run_dir / "metrics.jsonl").open("ab") as file:
        file.write(b'{"frames": 1')
    source = run_dir / "checkpoints" / names(run_dir)[-1] if older else run_dir
    before = contents(run_dir)
    wrong = ("network.hidden=[8]", "resume_override=true", "total_frames=140")
    assert forked(f"resume={source}", *wrong) == 2
    assert contents(run_dir) == before


def contents(run_dir: Path) -> dict[Path, bytes]:
    """All that is there but logs of programs."""
    files = [path for path in run_dir.rglob("*") if path.is_file() and path.suffix != ".log"]
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["LunarLander", "LunarLanderContinuous"])
def test_a_lander_without_box2d(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for module in [each for each in sys.modules if each.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    assert train(*TINY, f"env={name}") == 2
    said = capfd.readouterr().err
    assert said.startswith('train.py: env.id: got "LunarLander-v3", ')
    assert "the extra box2d: pip install -c constraints.txt -e '.[box2d]'\n" in said
    assert list(Path().iterdir()) == []
