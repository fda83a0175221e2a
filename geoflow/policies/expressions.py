"""``Geodesic(Exponential(5))`` in a configuration: a part of the toolbox, built by name from literal arguments.

Calls of known names with numbers, strings, tuples and further such calls; nothing else is evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from geoflow.policies.foreign import hint, import_attribute


def build(option: str, text: str, known: Mapping[str, Any]) -> Any:
    """What ``text`` describes.

    A bare name stands for the known value itself: ``euler``; a call makes one: ``Power(2)``. For an own part of
    the outermost call give ``module:Name`` in place of its name, as in ``my_lab.paths:Spiral(0.3)``.

    Args:
        option: What the configuration calls it, for messages.
        text: The expression.
        known: Name -> class, function or value.

    Raises:
        ValueError: no such name, an expression of another kind, or arguments that the class refuses.
    """
    module, colon, rest = text.partition(":")
    if colon and all(part.isidentifier() for part in module.split(".")):
        name = rest.partition("(")[0].strip()
        own = import_attribute(option, f"{module}:{name}")
        return build(option, rest, {**known, name: own})
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"{option}={text!r} is no expression ({error.msg}); write a name or a call, such as {_example(known)}."
        ) from error
    return _value(option, text, tree, known)


def _value(option: str, text: str, node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return _lookup(option, text, node.id, known)
    if isinstance(node, ast.Tuple):
        return tuple(_value(option, text, item, known) for item in node.elts)
    starred = isinstance(node, ast.Call) and any(item.arg is None for item in node.keywords)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not starred:
        made = _lookup(option, text, node.func.id, known)
        positional = [_value(option, text, item, known) for item in node.args]
        named = {str(item.arg): _value(option, text, item.value, known) for item in node.keywords}
        try:
            return made(*positional, **named)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{option}={text!r}: {error}") from error
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(
            f"{option}={text!r}: {ast.unparse(node)!r} is neither a number, a string, a tuple nor a call of a known "
            f"name; write it like {_example(known)}."
        ) from error


def _lookup(option: str, text: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        where = "" if name == text.strip() else f" {name!r} is unknown;"
        raise ValueError(
            f"{option}={text!r};{where} it is one of {', '.join(known)}, or module:Name of your own.{hint(name, known)}"
        )
    return known[name]


def _example(known: Mapping[str, Any]) -> str:
    name = next(iter(known))
    return f"{name}()" if isinstance(known[name], type) else name
