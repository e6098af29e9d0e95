"""The configuration as a file. What is read back is data: nothing in it is ever executed."""

from __future__ import annotations

from pathlib import Path

import yaml

from trainers.config.errors import ConfigError
from trainers.config.train import TrainConfig
from trainers.disk import sync


def save_config(config: TrainConfig, path: Path) -> None:
    """Write `config` as YAML, every key spelled out, whole or not at all."""
    staged = path.with_name(f".{path.name}.partial")
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    staged.write_text(text, encoding="utf-8")
    sync(staged)
    staged.replace(path)
    sync(path.parent)


def load_config(path: Path) -> TrainConfig:
    """Read what `save_config` wrote; `ConfigError` if it is missing, damaged or invalid."""
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(str(path), None, "a readable configuration", reason) from error
    try:
        return TrainConfig.from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.key}", error.given, error.allowed, error.hint) from error
