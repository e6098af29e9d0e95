"""Command lines of key=value that choose no files, read as `scripts/train.py` reads its own."""

from __future__ import annotations

import os
from typing import TypeVar

from trainers.config.composer import composing
from trainers.config.errors import ConfigError
from trainers.config.schema import Section

AnySection = TypeVar("AnySection", bound=Section)


def from_arguments(section: type[AnySection], argv: list[str]) -> AnySection:
    """The section that the arguments spell out; `ConfigError` names the first that is wrong."""
    for argument in argv:
        if "=" not in argument and os.path.isdir(argument):
            raise ConfigError(
                "command line", argument, "key=value", f"did you mean run_dir={argument}?"
            )
    with composing() as composer:
        overrides = composer.parse(argv)
        composer.single(overrides)  # refuses a key with several values
    return section.from_dict({each.key_or_group: each.value() for each in overrides})
