"""Who imports whom, and where each dependency is at home: both rules, read from the imports themselves."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "emhance"

ORDER: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("config",),
    ("maps",),
    ("steps",),
    ("network", "provenance"),
    ("pipeline", "validation"),
    ("evidence",),
    ("report", "training", "legacy"),
    ("batch",),
    ("cli",),
)
"""A group may import those before it and itself; members of one line never import each other."""

HOMES = {
    "mrcfile": ("maps/mrc.py",),
    "safetensors": ("network/weights.py", "legacy/"),
    "tomli": ("network/weights.py", "legacy/", "validation/confidence.py", "training/settings.py"),
    "tomli_w": ("network/weights.py", "legacy/", "training/settings.py"),
    "torch": ("network/", "training/", "legacy/"),
    "h5py": ("legacy/",),
    "skimage": ("legacy/",),
    "requests": ("legacy/download.py",),
    "pooch": ("legacy/download.py",),
    "matplotlib": ("report/plots.py",),
    "jinja2": ("report/page.py",),
    "gemmi": (
        "training/atoms.py",
        "training/sequences.py",
        "training/scattering.py",
        "training/example_protein.py",
        "validation/",
    ),
    "PeptideBuilder": ("training/example_protein.py",),
    "dask": ("batch/dask_runner.py",),
    "distributed": ("batch/dask_runner.py",),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "numpy": ("",),
    "scipy": ("",),
}
"""Files or folders that may import a third-party package; an empty one stands for all. What is not listed has no home."""

FILES = sorted(PACKAGE.rglob("*.py"))


def group_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Full names of the modules a file imports, inside functions as well, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            if module == "emhance":
                yield from ((f"emhance.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def rank(group: str) -> int:
    return next(i for i, groups in enumerate(ORDER) if group in groups)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return  # the table of public names
    own = group_of(path)
    assert any(own in groups for groups in ORDER), f"the folder or module {own} has no place in ORDER"
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] != "emhance" or len(parts) == 1:
            continue
        other = parts[1]
        allowed = other == own or rank(other) < rank(own)
        assert allowed, f"{path.relative_to(PACKAGE)}:{line}: {own} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_dependency_is_used_at_home_only(path: Path) -> None:
    relative = path.relative_to(PACKAGE).as_posix()
    for name, line in imports(path):
        top = name.split(".")[0]
        if top == "emhance" or top in sys.stdlib_module_names:
            continue
        assert top in HOMES, f"{relative}:{line}: {top} has no home yet; name one in HOMES"
        assert relative.startswith(HOMES[top]), f"{relative}:{line}: {top} is at home in {', '.join(HOMES[top])}"


def test_steps_maps_and_records_know_no_torch() -> None:
    for path in FILES:
        if group_of(path) in ("errors", "config", "maps", "steps", "provenance", "report"):
            assert "torch" not in {name.split(".")[0] for name, _ in imports(path)}, path


def test_nothing_is_executed_and_nothing_unpickled() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "compile", "pickle.load", "pickle.loads", "marshal.loads"), (
                f"{path}:{node.lineno}"
            )
            if name == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), (
                    f"{path}:{node.lineno}"
                )
            if name == "np.load":
                assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords), (
                    f"{path}:{node.lineno}"
                )


def test_no_assert_no_print_and_no_bare_except_in_the_package() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            assert not isinstance(node, ast.Assert), where
            if isinstance(node, ast.Call) and group_of(path) != "cli":
                assert ast.unparse(node.func) != "print", where
            if isinstance(node, ast.ExceptHandler):
                caught = "" if node.type is None else ast.unparse(node.type)
                assert caught not in ("", "Exception", "BaseException"), where
