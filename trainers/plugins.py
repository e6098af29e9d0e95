"""What a user's module can add by name: losses, networks, hooks, wrappers of environments.

::

    # my_pkg/mine.py, given as plugins=[my_pkg.mine]
    from trainers.plugins import hooks, losses, networks, wrappers

    @losses.register("my_sac")      # algo.loss_module=my_sac
    class MySAC(SACLoss): ...       # called like the algorithm's own loss

    @networks.register("my_critic") # algo.critic=my_critic
    def my_critic(num_observations, num_actions):
        return Critic(...)          # nn.Module: (observation, action) -> [..., 1]

    @hooks.register("my_hook")      # hooks=[my_hook]
    def my_hook(trainer):
        trainer.register_hook("post_steps", ...)

    @wrappers.register("my_wrapper")            # env.wrappers=[my_wrapper]
    class MyWrapper(gymnasium.Wrapper): ...     # called with the environment alone

Environments are registered with ``gymnasium.register`` and used by ``env=gym env.id=...``.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from trainers.config import ConfigError
from trainers.config.errors import did_you_mean


class Registry:
    """Named things of one kind; ``key`` is where the configuration asks for them."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._entries: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Class or function decorator; a second thing under the same name is an error."""

        def add(entry: Any) -> Any:
            if self._entries.setdefault(name, entry) is not entry:
                raise ValueError(f"{self.key}: {name!r} is registered already")
            return entry

        return add

    def get(self, name: str) -> Callable[..., Any]:
        """The thing called ``name``; `ConfigError` names what there is."""
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "nothing (are its plugins given?)"
            raise ConfigError(
                self.key, name, f"a name that a plugin registered: {known}",
                did_you_mean(name, self._entries),
            )  # fmt: skip
        return self._entries[name]

    def make(self, name: str, *arguments: Any) -> Any:
        """What the thing called ``name`` returns; if it raises, that is a `ConfigError`."""
        entry = self.get(name)
        try:
            return entry(*arguments)
        except ConfigError:
            raise
        except Exception as error:
            types = ", ".join(type(argument).__name__ for argument in arguments)
            raise ConfigError(
                self.key, name, f"one that can be called with {types}", described(error)
            ) from error


losses = Registry("algo.loss_module")
networks = Registry("algo.critic")
hooks = Registry("hooks")
wrappers = Registry("env.wrappers")


def load_plugins(modules: Iterable[str]) -> None:
    """Import the modules, from the working directory too; a failure is a `ConfigError`."""
    for module in modules:
        if os.getcwd() not in sys.path:  # a script's own directory takes its place there
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(module)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                "plugins",
                module,
                "a module that can be imported",
                described(error),
            ) from error


def described(error: Exception) -> str:
    """The error in one line, and where it was raised."""
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said} ({innermost.filename}:{innermost.lineno})"
