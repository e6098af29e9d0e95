"""What a buffer takes is known before it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.algorithms import tiny_dqn, tiny_sac
from support.doubles import stub
from support.games import Games
from support.states import owner
from torchrl.data import Bounded, Categorical

from trainers.build import build
from trainers.config import ConfigError, DQNConfig, SACConfig
from trainers.hooks import Replay
from trainers.replay import memory
from trainers.replay.buffer import FastReplayBuffer
from trainers.replay.memory import available_memory, check_memory, transition_bytes
from trainers.replay.pictures import Pictures
from trainers.replay.rows import RowStorage

CPU = torch.device("cpu")
PONG: Any = ((4, 84, 84), Categorical(6))


def test_a_million_pictures_take_less_than_8_gb() -> None:
    assert 7.0e9 < 1_000_000 * transition_bytes(*PONG) < 7.1e9


@pytest.mark.parametrize("tiny", [tiny_sac, tiny_dqn])
def test_it_is_what_is_taken(tiny: Any) -> None:
    built = build(tiny(total_frames=20))
    built.trainer.train()
    envs = built.trainer.collector.envs
    taken = owner(built.trainer, Replay).buffer.storage._rows.nbytes
    assert taken == 1_000 * transition_bytes(envs.inputs, envs.action_spec)


def test_of_pictures_as_well() -> None:
    size, pictures = 1_000, Pictures(1_000)
    storage = RowStorage(size)
    replay = Replay(FastReplayBuffer(storage=storage, batch_size=4), pictures=pictures)
    replay.extend(stub(), Games(1).rollout(5))
    taken = storage._rows.nbytes + sum(table.nbytes for table in pictures._tables.values())
    looked_back_at = 3 * (2 + 5)
    assert taken == size * transition_bytes((4, 1, 2), Categorical(2)) + looked_back_at


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 4_000_000_000)
    with pytest.raises(ConfigError) as refused:
        check_memory(DQNConfig(buffer_size=1_000_000), *PONG, CPU)
    assert str(refused.value) == (
        "algo.buffer_size: got 1000000, expected at most 565_211; it takes 7.08 GB in memory, of "
        "which 4 GB are available"
    )
    line = check_memory(DQNConfig(buffer_size=565_211), *PONG, CPU)
    assert line == (
        "the replay buffer takes 4 GB for 565_211 transitions in memory, of which 4 GB are "
        "available"
    )
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    assert check_memory(DQNConfig(buffer_size=10**12), *PONG, CPU).endswith("in memory")


def test_nothing_is_built_around_a_buffer_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 20_000)
    config = tiny_sac(algo={"buffer_size": 1_000})
    with pytest.raises(ConfigError, match=r"algo.buffer_size: .* at most 555;"):
        build(config)
    assert build(config, will_train=False).memory == ""  # to be evaluated on a smaller machine


def test_priorities_and_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 600_000)
    monkeypatch.setattr(memory.tempfile, "gettempdir", lambda: str(tmp_path))
    spec = Bounded(-1.0, 1.0, (1,))
    size = 16_000  # of 36 bytes each
    check_memory(SACConfig(buffer_size=size), 3, spec, CPU)
    with pytest.raises(ConfigError):
        check_memory(SACConfig(buffer_size=size, prioritized=True), 3, spec, CPU)
    line = check_memory(SACConfig(buffer_size=10**7, storage="memmap"), 3, spec, CPU)
    assert f"10_000_000 transitions in {tmp_path}, of which" in line


# --------------------------------------------------------------------- what there is


def machine(root: Path, available_kb: int, groups: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:  {available_kb} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    return root


def group(path: Path, *files: tuple[str, str]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files:
        (path / name).write_text(f"{text}\n")


def second_version(root: Path, path: str, limit: str, used: int, cached: int) -> None:
    stat = f"anon 5\ninactive_file {cached}"
    files = (("memory.max", limit), ("memory.current", str(used)), ("memory.stat", stat))
    group(root / "sys/fs/cgroup" / path, *files)


def test_without_limits_it_is_the_machine_s(tmp_path: Path) -> None:
    root = machine(tmp_path, 1_000, "0::/user/shell\n")
    second_version(root, "user/shell", "max", 10, 0)
    assert available_memory(root) == 1_024_000


def test_the_tightest_group_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, 1_000, "0::/user/shell\n")
    second_version(root, "user/shell", "900000", 100_000, 20_000)
    assert available_memory(root) == 820_000
    second_version(root, "user", "500000", 450_000, 0)
    assert available_memory(root) == 50_000


def test_a_container_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    root = machine(tmp_path, 1_000, "0::/\n")
    second_version(root, "", "700000", 100_000, 0)
    assert available_memory(root) == 600_000


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    lines = "9:cpu,cpuacct:/job\n4:memory:/job\n0::/job\n"
    root = machine(tmp_path, 1_000, lines)
    group(
        root / "sys/fs/cgroup/memory",
        ("memory.limit_in_bytes", "400000"),
        ("memory.usage_in_bytes", "300000"),
        ("memory.stat", "inactive_file 7\ntotal_inactive_file 50000"),
    )
    assert available_memory(root) == 150_000


def test_elsewhere_nobody_tells(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


def test_here_somebody_does() -> None:
    assert 10**7 < (available_memory() or 0) < 10**14
