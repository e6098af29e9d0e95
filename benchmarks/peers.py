"""The other libraries, each in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.figures import MeasurementError
from trainers import processes
from trainers.config import ConfigError, EnvConfig

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "benchmarks" / "requirements"
ENVIRONMENTS = ROOT / ".bench"

PACKAGES = {
    "sb3": ("stable-baselines3", "torch"),
    "sbx": ("sbx-rl", "jax", "flax"),
}
TRAINERS = (*PACKAGES, "torchrl")


def python_of(who: str) -> str:
    """The interpreter a contestant runs in; TorchRL's trainers have ours, and our versions."""
    return str(ENVIRONMENTS / who / "bin" / "python") if who in PACKAGES else sys.executable


def set_up(peer: str) -> None:
    """Make a peer's environment, unless it is there already with these very versions.

    Raises:
        MeasurementError: it could not be installed.
    """
    requirements = REQUIREMENTS / f"{peer}.txt"
    constraints = ROOT / "constraints.txt"
    stamp = ENVIRONMENTS / peer / "installed.txt"
    wanted = f"{sys.version}\n{requirements.read_text()}{constraints.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {ENVIRONMENTS / peer}", file=sys.stderr, flush=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENTS / peer)],
        [python_of(peer), *install, str(requirements)],
    ):
        done = processes.run(command)
        if done.returncode:
            output = (done.stdout + done.stderr).strip()[-2_000:]
            raise MeasurementError(f"{' '.join(command)} failed: {output}")
    # Last: what broke off or failed is begun anew.
    stamp.write_text(wanted)


def versions(peer: str) -> dict[str, str]:
    """Of its packages that matter, as installed."""
    script = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    command = [python_of(peer), "-c", script, *PACKAGES[peer]]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def without_envpool() -> str | None:
    """Why nothing can be collected with EnvPool; None if it can."""
    if find_spec("envpool") is None:
        return "the package envpool is not installed"
    try:
        EnvConfig.accept("backend", "envpool")
    except ConfigError as error:
        return str(error)
    return None


def gpu() -> str:
    """The name of the one that is used."""
    import torch  # takes a second

    return torch.cuda.get_device_name()


def without_gpu() -> str | None:
    """Why nothing can be run on a GPU; None if it can."""
    import torch  # takes a second

    return None if torch.cuda.is_available() else "there is no GPU that torch can use"
