"""Compiles the walk of a request, and of a DNS question, for the machine that builds the wheel, by mypyc:
scripts/compile, scripts/bundle.

Modules keep their names, interfaces and tests; each `.py` stays beside what was made of it, for those who read and for
tracebacks. Without MERIDIAN_COMPILE=1 the wheel is pure Python and runs anywhere.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GROUP = "meridian_compiled"
"""Modules of one group call each other without going through the interpreter."""
SOURCE_ROOTS = {"meridian": "cluster", "meridian_dns": "dns"}


class CompilingHook(BuildHookInterface[Any]):
    """A build hook of hatchling, named in pyproject.toml beside the modules that it compiles."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the compiled modules to the wheel, and says that it is for this platform."""
        if os.environ.get("MERIDIAN_COMPILE") != "1":
            return
        root = Path(self.root)
        self._work = TemporaryDirectory(prefix="meridian-compile-")
        made = compile_modules(root, [*self.config["modules"]], Path(self._work.name))
        build_data["force_include"].update({str(path): str(path.relative_to(made)) for path in made.rglob("*.so")})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written: what it was made from may go."""
        if hasattr(self, "_work"):
            self._work.cleanup()


def compile_modules(root: Path, modules: list[str], work: Path) -> Path:
    """Compiles `modules`, paths below their source roots; returns the folder that then holds them as packages do."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    sources = [f"{SOURCE_ROOTS[module.partition('/')[0]]}/{module}.py" for module in modules]
    os.chdir(root)
    extensions = mypycify(
        ["--config-file", "pyproject.toml", *sources], group_name=GROUP, opt_level="2", target_dir=str(work / "c"),
        strip_asserts=False,
    )  # fmt: skip
    command = Distribution({"name": GROUP, "ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(work / "made"), str(work / "objects")
    command.ensure_finalized()
    command.run()
    return work / "made"


if __name__ == "__main__":
    sys.exit("run scripts/compile")
