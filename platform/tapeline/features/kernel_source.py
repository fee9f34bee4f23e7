"""The meaning of compiled functions as text: their normalised syntax trees, with everything they call."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tapeline.core.errors import ParameterError


def normalised(tree: ast.AST) -> str:
    """Dump of a tree without docstrings, annotations, decorators and places: equal for equal behaviour as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Module):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            node.decorator_list = []
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(tree)


@cache
def _functions_of(file: str) -> dict[str, ast.FunctionDef]:
    if not file:
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@cache
def _own_source(module: str, name: str) -> tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """A function's normalised tree, the global names that it reads, and the dotted names."""
    functions = _functions_of(str(getattr(sys.modules[module], "__file__", "")))
    if name not in functions:
        raise ParameterError(
            f"compiled function {name} has no source that can be followed",
            where=f"module {module}",
            remedy="Define it with def at the top level of a module file",
        )
    node = functions[name]
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    dotted = {_dotted(part) for part in ast.walk(node) if isinstance(part, ast.Attribute)} - {()}
    return normalised(node), tuple(sorted(used)), tuple(sorted(dotted))


def _dotted(node: ast.expr) -> tuple[str, ...]:
    """The parts of a name with dots; empty for an attribute of anything else."""
    if isinstance(node, ast.Name):
        return (node.id,)
    before = _dotted(node.value) if isinstance(node, ast.Attribute) else ()
    return (*before, node.attr) if before and isinstance(node, ast.Attribute) else ()


def kernel_sources(functions: Iterable[Any]) -> dict[str, str]:
    """Normalised source of compiled functions, of all functions they call, and values of the constants they read.

    Parameters
    ----------
    functions
        Numba dispatchers.

    Returns
    -------
    dict
        ``module.name`` → normalised syntax tree, or the constant's value.

    Raises
    ------
    ParameterError
        If a function's source cannot be found, or it reads a global of a kind whose value cannot be written down.
    """
    found: dict[str, str] = {}
    waiting = [function.py_func for function in functions]
    while waiting:
        function = waiting.pop()
        place = f"{function.__module__}.{function.__name__}"
        if place in found:
            continue
        found[place], used, dotted = _own_source(function.__module__, function.__name__)
        values = {f"{function.__module__}.{name}": function.__globals__.get(name) for name in used}
        for first, *rest in dotted:
            owner = function.__globals__.get(first)
            for attribute in rest:
                if not isinstance(owner, ModuleType) or owner.__name__.partition(".")[0] in _LIBRARIES:
                    break
                name, owner = f"{owner.__name__}.{attribute}", getattr(owner, attribute, None)
                values[name] = owner
        for name, value in values.items():
            if hasattr(value, "py_func"):
                waiting.append(value.py_func)
            elif (text := _constant(value, name)) is not None:
                found[name] = text
    return found


_LIBRARIES = {"math", "numpy", "numba"}


def _constant(value: Any, name: str) -> str | None:
    """A global constant as text; None for what is no value, such as a module, a type or a built-in function."""
    if isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, np.generic):
        return f"{value.dtype.str} {value!r}"
    if isinstance(value, tuple):
        return f"({', '.join(str(_constant(item, name)) for item in value)})"
    if value is None or isinstance(value, ModuleType | type) or callable(value):
        return None
    raise ParameterError(
        f"a compiled function reads the global {name}, whose value a plan's hash cannot hold",
        where=f"a {type(value).__name__}",
        remedy="Make it a number, a tuple of numbers or an array",
    )
