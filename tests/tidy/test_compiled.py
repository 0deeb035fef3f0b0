"""What is compiled and what is not do not derive from each other: mypyc would refuse it when an object is made, not
before (docs/decisions/0037)."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

SOURCE_ROOTS = {"meridian": ROOT / "cluster", "meridian_dns": ROOT / "dns"}


def compiled() -> set[str]:
    """The modules that pyproject.toml lists, by their dotted names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return {module.replace("/", ".") for module in hook["modules"]}


def source_of(module: str) -> Path:
    return SOURCE_ROOTS[module.partition(".")[0]] / f"{module.replace('.', '/')}.py"


def bases(module: str) -> Iterator[tuple[str, str, str]]:
    """Class, base and the module of our own that the base is imported from."""
    tree = ast.parse(source_of(module).read_text())
    origin = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                name = ast.unparse(base).partition("[")[0]
                home, original = origin.get(name, ("", ""))
                if home.partition(".")[0] in SOURCE_ROOTS:
                    yield node.name, original, home


def is_protocol(module: str, name: str) -> bool:
    """Whether a class is a typing.Protocol, which has no memory of its own and may be derived from by anybody."""
    tree = ast.parse(source_of(module).read_text())
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    return any(ast.unparse(base).partition("[")[0] == "Protocol" for base in found.bases)


def test_compiled_classes_and_others_keep_apart() -> None:
    listed, wrong = compiled(), []
    paths = [(path, root) for root in SOURCE_ROOTS.values() for path in sorted(root.rglob("*.py"))]
    for path, root in paths:
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        if path.name == "__init__.py" or path.stem.endswith(("_pb2", "_pb2_grpc")):
            continue
        for name, base, home in bases(module):
            if (module in listed) != (home in listed) and not is_protocol(home, base):
                wrong.append(f"{module}.{name} derives from {home}.{base}: list both or none")
    assert listed
    assert not wrong
