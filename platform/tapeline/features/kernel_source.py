"""The meaning of compiled functions as text: their normalised syntax trees, with everything they call."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any


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
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@cache
def _own_source(module: str, name: str) -> tuple[str, tuple[str, ...]]:
    """A function's normalised tree and the global names it reads."""
    node = _functions_of(str(sys.modules[module].__file__))[name]
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return normalised(node), tuple(sorted(used))


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
    """
    found: dict[str, str] = {}
    waiting = [function.py_func for function in functions]
    while waiting:
        function = waiting.pop()
        place = f"{function.__module__}.{function.__name__}"
        if place in found:
            continue
        found[place], used = _own_source(function.__module__, function.__name__)
        for name in used:
            value = function.__globals__.get(name)
            if hasattr(value, "py_func"):
                waiting.append(value.py_func)
            elif isinstance(value, int | float):
                found[f"{function.__module__}.{name}"] = repr(value)
    return found
