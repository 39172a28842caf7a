"""Counts lines of code by folder, without blank lines, comments and docstrings: `python -m tests.count_code [TREE]`."""

import ast
import io
import sys
import tokenize
from pathlib import Path

FOLDERS = ("pipeline", "components", "data", "tests")
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def docstring_lines(tree: ast.AST) -> set[int]:
    """Returns the lines of docstrings, those of attributes too: statements that are a text and nothing else."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def count(source: str) -> tuple[int, int]:
    """Returns lines of code, and of docstrings."""
    docstrings = docstring_lines(ast.parse(source))
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in _NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - docstrings), len(docstrings)


def main() -> None:
    """Prints a line for each folder and one for all."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    total = [0, 0]
    for folder in FOLDERS:
        counts = [count(path.read_text(encoding="utf-8")) for path in sorted((root / folder).rglob("*.py"))]
        code, docstrings = (sum(column) for column in zip(*counts, strict=True))
        total = [total[0] + code, total[1] + docstrings]
        print(f"{folder:<11} {code:7,} lines of code, {docstrings:6,} of docstrings ({docstrings / code:.1%})")
    print(f"{'in all':<11} {total[0]:7,} lines of code, {total[1]:6,} of docstrings ({total[1] / total[0]:.1%})")


if __name__ == "__main__":
    main()
