"""The command line of `scripts/evaluate.py`: how good is the policy of a run?"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.config.arguments import from_arguments
from trainers.config.errors import ConfigError
from trainers.config.evaluate import EvaluateConfig
from trainers.disk import WriteError, write_whole, writing
from trainers.errors import NonFiniteError
from trainers.policies.load import LoadedPolicy, check_run, load_policy, locate_run

if TYPE_CHECKING:
    from trainers.policies.episodes import Episodes

FINE, FAILED, WRONG_INPUT = 0, 1, 2

HELP = """\
evaluate.py run_dir=RUN [key=value ...]

Evaluates the policy of a run in the environment it was trained in: a table here, and in JSON.

  run_dir         what train.py left, a copy of it, or a checkpoint with config.yaml in or beside it
  which           best (by the run's own evaluations; default) or latest (the newest checkpoint)
  episodes        how many; default: 10
  seed            of the episodes; default: one above eval.seed, whose episodes have chosen the best
  deterministic   true (default): the policy's mode; false: a sample, of policies that have some
  video           true films the first episode (the extra video); default: false
  out             the JSON file; default: RUN/evaluation-WHICH.json, the film in RUN/videos/;
                  a film is put beside a file that is given
  plugins         those that the run was started with: [my_pkg.mine]

Exit codes: 0 evaluated (and filmed), 2 wrong input, 1 anything else.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command line; the exit code: 0, 1 or 2."""
    if {"-h", "--help"} & set(argv):
        print(HELP, end="")
        return FINE
    try:
        return _run(from_arguments(EvaluateConfig, list(argv)))
    except ConfigError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return WRONG_INPUT
    except (NonFiniteError, WriteError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return FAILED


def _run(config: EvaluateConfig) -> int:
    algo = check_run(Path(config.run_dir), config.which, config.plugins).algo
    if not config.deterministic and not algo.policy_draws:
        hint = f"the policy of {algo.name} has one action for an observation, none to sample"
        raise ConfigError("deterministic", False, "true", hint)
    config.check_installed()
    results, video = _outputs(config)
    for path in [results, video] if config.video else [results]:
        _check_writable(path)
    loaded = load_policy(Path(config.run_dir), config.which, config.plugins)
    loaded.envs.close()  # others are made, as many as there are episodes at a time
    seed = loaded.config.eval.seed + 1 if config.seed is None else config.seed
    episodes = _evaluated(loaded, config, seed)
    report = {
        "policy": loaded.source.name,
        "frames": loaded.frames,
        "env": loaded.config.env.id,
        "seed": seed,
        "deterministic": config.deterministic,
        **_results(episodes),
        "video": None,
    }
    try:
        _write(results, report)
    finally:  # the episodes were not played in vain
        _print_table(report)
    filmed = config.video and _filmed(loaded, episodes, video)  # takes longer than all else
    if filmed:
        _write(results, report | {"video": os.path.relpath(video, results.parent)})
    print(f"results in {results}" + (f", film of episode 0 in {video}" if filmed else ""))
    return FAILED if config.video and not filmed else FINE


def _outputs(config: EvaluateConfig) -> tuple[Path, Path]:
    """Where the results and the film go."""
    if config.out is not None:
        results = Path(config.out)
        return results, results.with_suffix(".mp4")
    run_dir, checkpoint = locate_run(Path(config.run_dir))
    name = f"evaluation-{checkpoint.name if checkpoint else config.which}"
    return run_dir / f"{name}.json", run_dir / "videos" / f"{name}.mp4"


def _check_writable(path: Path) -> None:
    """Raise a `ConfigError` unless a file can be written there, its directory made if need be."""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "there is a directory")
        parent = next(place for place in path.absolute().parents if place.exists())
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        hint = f"{error.strerror}: out=FILE.json goes elsewhere"
        raise ConfigError("out", str(path), "a file that can be written", hint) from error


def _evaluated(loaded: LoadedPolicy, config: EvaluateConfig, seed: int) -> Episodes:
    import torch

    from trainers.environments.envs import Envs
    from trainers.policies.episodes import evaluation_envs, evaluation_seeds, run_episodes

    torch.set_num_threads(1)  # ten observations at a time need no more
    seeds = evaluation_seeds(seed, config.episodes)
    env = replace(loaded.config.env, backend="sync")
    envs = evaluation_envs(partial(Envs, env), seeds)
    try:
        return run_episodes(loaded.policy, envs, seeds, deterministic=config.deterministic)
    finally:
        envs.close()


def _results(episodes: Episodes) -> dict[str, Any]:
    """As plain data: one entry an episode, and statistics over all of them."""
    from trainers.policies.episodes import statistics

    results: dict[str, Any] = {
        "episodes": len(episodes.returns),
        "return": statistics(episodes.returns),
        "length": statistics(episodes.lengths),
        "returns": episodes.returns.tolist(),
        "lengths": episodes.lengths.tolist(),
    }
    if episodes.successes is not None:
        results["success_rate"] = float(episodes.successes.mean())
        results["successes"] = episodes.successes.tolist()
    return results


def _print_table(report: dict[str, Any]) -> None:
    how = "deterministic" if report["deterministic"] else "sampled actions"
    count = report["episodes"]
    print(
        f"{report['policy']}, after {report['frames']} frames of {report['env']}: "
        f"{count} episode{'s' * (count > 1)}, seed {report['seed']}, {how}"
    )
    print(f"{'episode':>7} {'return':>12} {'length':>8}")
    for number, row in enumerate(zip(report["returns"], report["lengths"], strict=True)):
        print(f"{number:>7} {row[0]:>12.2f} {row[1]:>8}")
    for name in ("mean", "std", "iqm"):
        print(f"{name:>7} {report['return'][name]:>12.2f} {report['length'][name]:>8.1f}")
    if "success_rate" in report:
        print(f"success rate {report['success_rate']:.2f}")


def _filmed(loaded: LoadedPolicy, episodes: Episodes, path: Path) -> bool:
    """Film the first episode; if it cannot be done, say why."""
    from trainers.policies.films import RenderingError, check_rendering, film

    try:
        check_rendering(loaded.config.env)
        film(loaded.config.env, episodes, path)
    except RenderingError as error:
        print(f"no film: {error}", file=sys.stderr)
        return False
    return True


def _write(path: Path, report: dict[str, Any]) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{json.dumps(report, indent=1)}\n".encode())
