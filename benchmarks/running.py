"""Everything in turn, several times."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence

from benchmarks.figures import MeasurementError, Samples, add_bound, add_references, number
from benchmarks.jobs import PROGRAMS, Job, Sizes, jobs
from benchmarks.peers import ROOT
from benchmarks.rows import ROWS
from trainers import processes


def measured(
    groups: Sequence[str],
    sizes: Sizes,
    repeats: int,
    threads: int,
    left_out: Collection[str] = (),
) -> tuple[Samples, bool]:
    """All values of all rounds, and whether anything failed; some contestants may be left out."""
    environments = {on_gpu: surroundings(threads, on_gpu) for on_gpu in (False, True)}
    samples: Samples = {}
    failed = False
    for repeat in range(repeats):
        for job in jobs(groups, sizes, seed=repeat):
            if job.who in left_out:
                continue
            try:
                values = run(job, environments[job.on_gpu], job.limit_s(samples))
            except MeasurementError as error:
                failed = True
                print(f"error: {job.who}: {error}", file=sys.stderr, flush=True)
                continue
            for (row, who), value in values.items():
                samples.setdefault((row, who), []).append(value)
                said = f"{ROWS[row].title}, {who}: {number(value)} {ROWS[row].unit}"
                print(f"{repeat + 1}/{repeats} {said}", file=sys.stderr, flush=True)
    add_bound(samples)
    add_references(samples)
    return samples, failed


def run(
    job: Job, environment: Mapping[str, str], limit_s: float | None = None
) -> dict[tuple[str, str], float]:
    """The values a job gave, by row and contestant.

    Args:
        job: its program is killed if this process ends, or is interrupted.
        environment: variables of the program.
        limit_s: after so many seconds it is cut off, and what it has said until then counts.

    Raises:
        MeasurementError: it failed, or its output is not what it should be.
    """
    with tempfile.TemporaryDirectory() as directory:
        started = time.time()
        try:
            done = processes.run(job.command, limit_s, cwd=directory, env=environment)
        except subprocess.TimeoutExpired as late:
            done = subprocess.CompletedProcess(job.command, 0, late.output, late.stderr)
    if done.returncode:
        raise MeasurementError(f"exit code {done.returncode}: {done.stderr.strip()[-1_000:]}")
    said = done.stdout[: done.stdout.rfind("\n") + 1]  # of one that was cut off, perhaps not all
    try:
        values = job.read(said.splitlines()[-1], started)
    except (LookupError, ValueError) as error:
        raise MeasurementError(f"its output was not understood: {done.stdout[-200:]!r}") from error
    return {(row, job.who): value for row, value in values.items()}


def surroundings(threads: int, on_gpu: bool = False) -> dict[str, str]:
    """Environment variables of every program: as many threads for everyone, and mostly no GPU."""
    hidden = {} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return (
        os.environ
        | hidden
        | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(PROGRAMS)]),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            # As `scripts/train.py` has it: numpy's matrices are too small for more than one thread.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_DYNAMIC": "false",
            "MKL_DYNAMIC": "false",
            "JAX_PLATFORMS": "cpu",
        }
    )
