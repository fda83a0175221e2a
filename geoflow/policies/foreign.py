"""module:Class in a configuration: a policy or a geometry of somebody else's, imported by its name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def import_class(option: str, name: str, base: type[T], known: Iterable[str]) -> type[T]:
    """The class that ``name``, as in my_lab.policies:Mine, stands for.

    It must be installed or on PYTHONPATH: a checkpoint names code, and never carries it.

    Args:
        option: What the configuration calls it, for messages.
        name: ``module:Class``.
        base: What the class must derive from.
        known: Names of our own, which are no classes to import, for messages.

    Raises:
        ValueError: no such module or class, one that is no subclass of ``base``, one that is
            abstract, or a misspelt name of ours.
    """
    if ":" not in name:
        known = list(known)
        raise ValueError(
            f"{option}={name!r}; it is one of {', '.join(known)}, or module:Class of your own.{hint(name, known)}"
        )
    kind = import_attribute(option, name)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ValueError(
            f"{option}={name!r}; expected a subclass of {base.__module__}.{base.__name__}, and that is none."
        )
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        raise ValueError(f"{option}={name!r} is abstract; it still lacks {', '.join(missing)}.")
    return kind


def import_attribute(option: str, name: str) -> Any:
    """What ``module:Name`` stands for.

    Raises:
        ValueError: no such module, or nothing of that name in it.
    """
    module, _, attribute = name.partition(":")
    try:
        found = import_module(module)
    except (ImportError, ValueError, TypeError) as error:  # the latter two for an empty or a relative name
        raise ValueError(
            f"{option}={name!r}; module {module!r} cannot be imported ({error}). Install it, or put its folder "
            "on PYTHONPATH."
        ) from error
    value = getattr(found, attribute, None)
    if value is None:
        raise ValueError(f"{option}={name!r}; {module} has no {attribute!r}.{hint(attribute, dir(found))}")
    return value


def hint(name: str, known: Iterable[str]) -> str:
    """A guess at what was meant, or nothing."""
    close = get_close_matches(name, list(known), 1)
    return f" Did you mean {close[0]}?" if close else ""
