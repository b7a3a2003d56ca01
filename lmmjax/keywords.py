"""Unknown keywords of functions, answered by the ones that they have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from lmmjax.elsewhere import advice_on_keyword
from lmmjax.errors import ArgumentError

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)


def known_keywords(function: F) -> F:
    """Make a function answer a keyword that it does not have with the one that it has.

    Raises
    ------
    ArgumentError
        When the function that is returned is called with a keyword that it does not have.

    Examples
    --------
    >>> @known_keywords
    ... def interval(level=0.95):
    ...     return level
    >>> interval(alpha=0.1)
    Traceback (most recent call last):
    lmmjax.errors.ArgumentError: interval() has no argument 'alpha': write level=0.9
    """
    code = function.__code__
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    known = frozenset(parameters)
    if code.co_flags & inspect.CO_VARKEYWORDS:
        return function

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not known.issuperset(kwargs):
            name = next(name for name in kwargs if name not in known)
            text = advice_on_keyword(function.__name__, parameters, name, kwargs[name])
            raise ArgumentError(text)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def methods_know_keywords(cls: C) -> C:
    """Make all public methods of a class, inherited ones too, :func:`known_keywords`."""
    for name in dir(cls):
        found = inspect.getattr_static(cls, name)
        if not name.startswith("_") and inspect.isfunction(found):
            setattr(cls, name, known_keywords(found))
    return cls
