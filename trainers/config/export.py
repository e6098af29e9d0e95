"""What `scripts/export.py` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from trainers.config.errors import ConfigError
from trainers.config.schema import Section

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class ExportError(RuntimeError):
    """What was written does not act as the policy does."""


@dataclass(frozen=True)
class ExportConfig(Section):
    """Whose policy becomes which kind of file, and where."""

    run_dir: str
    format: Literal["onnx", "torch_export"]
    which: Literal["best", "latest"] = "best"
    out: str | None = None
    plugins: list[str] = field(default_factory=list)

    def check_installed(self) -> None:
        """Raise `ConfigError` if the format needs packages of the extra that are not there."""
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if self.format == "onnx" and missing:
            allowed = "a format whose packages are installed"
            hint = (
                f"{', '.join(missing)} missing, which the extra export brings: "
                "pip install -c constraints.txt -e '.[export]'"
            )
            raise ConfigError("format", self.format, allowed, hint)
