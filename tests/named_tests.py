"""Tests by their name, `unit/test_docs.py::test_x`, for documents and tables that name them."""

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent


def exists(name: str) -> bool:
    """Whether there is a test of that name, below tests/."""
    file, sign, function = name.partition("::")
    return bool(sign) and function.startswith("test_") and function in _functions(TESTS / file)


@cache
def _functions(file: Path) -> frozenset[str]:
    if not file.is_file():
        return frozenset()
    module = ast.parse(file.read_text())
    return frozenset(
        node.name for node in module.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
