"""Terraform as tests run it: the real program, without the internet, its state in a folder of its own."""

import os
import shutil
import subprocess
from pathlib import Path


def terraform(
    folder: Path, *arguments: str, timeout_seconds: float = 100.0, codes: tuple[int, ...] = (0,), **environment: str
) -> str:
    """Runs terraform in `folder` and returns what it prints; a code that is none of `codes` fails the test."""
    program = shutil.which("terraform")
    assert program is not None, "terraform 1.11 or later is needed to test deploy/terraform"
    # No question to its maker about newer versions, and no settings of whoever runs the tests.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_", "GOOGLE_"))}
    rc = folder / "terraform.rc"
    if not rc.exists():
        rc.write_text("disable_checkpoint = true\n")
    own |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_CLI_CONFIG_FILE": str(rc)} | environment
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=own, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )
    assert done.returncode in codes, f"terraform {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if done.returncode else "")


def rendered(folder: Path, template: Path, values: str) -> str:
    """What `templatefile` makes of a template with these values (in Terraform's language)."""
    (folder / "main.tf").write_text(f'output "text" {{\n  value = templatefile("{template}", {values})\n}}\n')
    terraform(folder, "init", "-no-color")
    terraform(folder, "apply", "-no-color", "-auto-approve")
    return terraform(folder, "output", "-raw", "text")
