"""What `scripts/evaluate.py` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.schema import Section, number
from trainers.config.sections import check_can_film


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """Whose policy is evaluated, in how many episodes, and what is kept of it."""

    run_dir: str
    which: Literal["best", "latest"] = "best"
    episodes: int = number(10, ge=1)
    seed: int | None = number(None, ge=0, le=2**32 - 1)
    deterministic: bool = True
    video: bool = False
    out: str | None = None
    plugins: list[str] = field(default_factory=list)

    def check(self) -> None:
        """A film takes the name of the results, but for its end."""
        if self.out is not None and not self.out.endswith(".json"):
            raise ConfigError("out", self.out, "the path of a file, FILE.json")

    def check_installed(self) -> None:
        """Raise `ConfigError` if a film is wanted whose packages, an extra, are not there."""
        if self.video:
            check_can_film("video")
