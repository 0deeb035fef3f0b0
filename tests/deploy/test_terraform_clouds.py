"""The modules and examples for all clouds against what the clouds' providers know, without accounts or the internet:
words, types and what must be given by `validate`, what modules make by `terraform test` on mocks. The providers are
stand-ins with the schemas of tests/deploy/schemas (provider.py).
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deploy.provider import OWNERS, SCHEMAS, providers
from tests.deploy.terraform import terraform
from tests.support import ROOT

TERRAFORM = ROOT / "deploy/terraform"
# `test` validates as well, so the examples that have tests need no more.
EXAMPLES = sorted(
    path.parent.name for path in TERRAFORM.glob("examples/*/main.tf") if not (path.parent / "tests").is_dir()
)
TESTED = sorted(str(path.parent.relative_to(TERRAFORM)) for path in TERRAFORM.glob("*/**/tests"))


@dataclass(frozen=True, slots=True)
class Clouds:
    """A copy of deploy/, and what terraform's environment says of where stand-ins for all providers are."""

    folder: Path
    reattach: str

    def run(self, folder: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        return terraform(folder, *arguments, "-no-color", codes=codes, TF_REATTACH_PROVIDERS=self.reattach)


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouds]:
    folder = tmp_path_factory.mktemp("clouds")
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns(".terraform*", ".meridian"))
    with providers(folder) as reattach:
        yield Clouds(folder, reattach)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_valid(clouds: Clouds, example: str) -> None:
    folder = clouds.folder / "deploy/terraform/examples" / example
    clouds.run(folder, "init")
    assert "configuration is valid" in clouds.run(folder, "validate")


@pytest.mark.parametrize("module", TESTED)
def test_a_module_or_example_makes_what_its_tests_say(clouds: Clouds, module: str) -> None:
    folder = clouds.folder / "deploy/terraform" / module
    clouds.run(folder, "init")
    assert re.search(r"\b[1-9]\d* passed, 0 failed\.", clouds.run(folder, "test"))


def test_a_word_that_the_provider_has_not_is_seen(clouds: Clouds) -> None:
    """So that the tests above mean something: a word, a block and a type that are wrong, and one that is missing."""
    folder = clouds.folder / "wrong"
    folder.mkdir()
    (folder / "main.tf").write_text(
        'terraform {\n  required_providers {\n    hcloud = { source = "hetznercloud/hcloud" }\n  }\n}\n'
        'resource "hcloud_server" "one" {\n  name = "one"\n  colour = "red"\n  labels = "none"\n  wheels {}\n}\n'
    )
    clouds.run(folder, "init")
    said = clouds.run(folder, "validate", codes=(1,))
    for wrong in ('"colour"', '"wheels"', '"labels"', '"server_type"'):
        assert wrong in said, said


def test_every_resource_in_use_has_a_schema() -> None:
    for file in TERRAFORM.rglob("*.tf"):
        for kind, provider, name in re.findall(r'^(resource|data) "([a-z]+)_(\w+)"', file.read_text(), re.MULTILINE):
            if provider in OWNERS:
                known = json.loads((SCHEMAS / f"{provider}.json").read_text())
                assert f"{kind} {provider}_{name}" in known, f"{file}: next: scripts/provider-schemas"


def test_everything_is_laid_out_as_terraform_does(tmp_path: Path) -> None:
    terraform(tmp_path, "fmt", "-check", "-diff", "-recursive", str(TERRAFORM))


def test_every_module_pins_its_versions() -> None:
    modules = [path.parent for path in TERRAFORM.glob("modules/**/variables.tf")]
    assert len(modules) >= 7
    for module in modules:
        text = (module / "versions.tf").read_text()
        assert "required_version" in text, module
        assert text.count("source  =") == text.count("\n      version ="), module
