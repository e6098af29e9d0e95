"""Which keywords of TorchRL's losses have a key in ``configs/algo/``."""

from __future__ import annotations

import inspect

from support.algorithms import has

from trainers.config.keywords import ALIASES


def keywords_of(loss_class: type) -> set[str]:
    """All that it can be called with, by what it hands on as well."""
    known: set[str] = set()
    for kind in loss_class.__mro__:
        if "__init__" in vars(kind):
            parameters = inspect.signature(kind.__init__).parameters
            known |= parameters.keys()
            if all(each.kind is not each.VAR_KEYWORD for each in parameters.values()):
                break
    return known - {"self", "kwargs"}


def key_of(name: str, keyword: str) -> str | None:
    """By which key an algorithm is told it."""
    return next((key for key in (keyword, *ALIASES.get(keyword, ())) if has(name, key)), None)


def configured(name: str, loss_class: type) -> set[str]:
    """The keywords with a key, but for the discount, which value estimators are told."""
    return {each for each in keywords_of(loss_class) if key_of(name, each)} - {"gamma"}
