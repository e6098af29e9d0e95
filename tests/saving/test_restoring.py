"""What is told of a resume."""

from __future__ import annotations

import logging
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from support.doubles import make_trainer

from trainers.saving import restoring
from trainers.saving.restoring import (
    Continuity,
    Restored,
    changed,
    report,
    restored,
    resumed_exactly,
    surroundings,
)


def test_what_says_nothing_is_exact_but_for_a_collector() -> None:
    silent, told = SimpleNamespace(), SimpleNamespace(restored=("statistical", "half of it"))
    assert restored("replay", silent) == Restored("replay", "exact", "")
    assert restored("replay", told) == Restored("replay", "statistical", "half of it")
    assert not resumed_exactly(silent)
    assert not resumed_exactly(told)
    assert resumed_exactly(SimpleNamespace(restored=("exact", "")))


def test_what_was_loaded_is_of_other_episodes_for_one_rollout_only() -> None:
    begun_anew, goes_on = SimpleNamespace(), SimpleNamespace(restored=("exact", ""))
    continuity = Continuity()
    assert not continuity.is_broken(begun_anew)
    for collector, broken in ((begun_anew, True), (goes_on, False)):
        continuity.resumed()
        assert [continuity.is_broken(collector) for _ in range(2)] == [broken, False]


def test_the_surroundings_are_what_numbers_depend_on() -> None:
    found = surroundings(torch.device("cpu"))
    assert found["device"] == "cpu"
    assert found["threads"] == str(torch.get_num_threads())
    assert found["torch"].startswith(torch.__version__.split("+")[0])
    assert {"python", "torchrl", "tensordict", "numpy", "gymnasium", "cpu"} <= found.keys()
    assert all(isinstance(value, str) and value for value in found.values())


@pytest.mark.parametrize("package", ["mujoco", "envpool", "ale-py", "Box2D"])
def test_simulators_are_among_them_where_they_are_installed(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if name != package:
            raise metadata.PackageNotFoundError(name)
        return "7.8"

    monkeypatch.setattr(metadata, "version", installed)
    versions = restoring._versions.__wrapped__()  # which are looked up once
    assert {name: versions[name] for name in versions if name != "python"} == {package: "7.8"}


def test_each_change_is_told_with_its_cost() -> None:
    before = {"torch": "2.11.0", "threads": "1", "device": "cpu", "envpool": "1.4", "numpy": "2"}
    now = {"torch": "2.13.0", "threads": "2", "device": "NVIDIA H100", "numpy": "2"}
    found = {each.component: each for each in changed(before, now)}
    assert list(found) == ["device", "envpool", "threads", "torch"]
    assert {each.how for each in found.values()} == {"statistical"}
    assert found["threads"].why == "1 -> 2: sums of floats are taken in another order"
    assert found["device"].why.startswith("cpu -> NVIDIA H100: random numbers")
    assert found["envpool"].why.startswith("1.4 -> none: ")
    assert found["torch"].why == "2.11.0 -> 2.13.0: another version may compute something else"
    assert changed(now, now) == []


def test_a_report_is_a_line_and_one_for_each_exception() -> None:
    exact, others = report(
        [Restored("networks"), Restored("metrics"), Restored("hook spy", "fresh", "no such hook")]
    )
    assert exact == "restored bit for bit: networks, metrics"
    assert others == ["hook spy: fresh, no such hook"]


def test_a_resume_tells(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_trainer(total_frames=3), make_trainer(total_frames=3)
    first.train()
    monkeypatch.setattr(restoring, "_COSTS", restoring._COSTS | {"threads": "a lot"})
    state = first.state_dict()
    state["surroundings"]["threads"] = "77"
    state["random"]["cuda"].append(torch.zeros(16, dtype=torch.uint8))  # one more than there is
    with caplog.at_level(logging.INFO, "trainers"):
        second.load_state_dict(state)
    told = {record.getMessage(): record.levelname for record in caplog.records}
    assert told[f"threads: statistical, 77 -> {torch.get_num_threads()}: a lot"] == "WARNING"
    assert told["random numbers: statistical, GPUs that had some are gone: 1"] == "WARNING"
    (exact,) = [each for each in told if each.startswith("restored bit for bit: networks")]
    assert told[exact] == "INFO"
    assert {each.component for each in second.restored} >= {"networks", "environments", "threads"}
