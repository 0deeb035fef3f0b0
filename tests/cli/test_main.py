"""How the command fails: one clear message, exit code 2 for the operator's mistake, 1 for a failure, no traceback."""

import json
import time
from pathlib import Path

import pytest
from tests.admin.mounted import DOCUMENT
from tests.cli.command import run

from meridian.core.authentication import hash_of

TLS_WITHOUT_FILES = (
    DOCUMENT.replace("[h1]", "[h2]")
    + "certificates:\n  - {hosts: [shop.mine.net], cert_file: none.pem, key_file: none.key}\n"
)

# What is wrong, the document's text, and what the message must say.
BAD_DOCUMENTS = {
    "not YAML": ("listeners: [", "line 2, column 1: not YAML"),
    "not a mapping": ("- a\n- b\n", "a document is a mapping"),
    "empty": ("", "listeners: is missing"),
    "unknown key": (DOCUMENT.replace("routes:", "route:"), "did you mean 'routes'?"),
    "unknown upstream": (DOCUMENT.replace("upstream: app", "upstream: ap"), "there is no upstream 'ap' (known: app)"),
    "bad port": (DOCUMENT.replace("8000", "80000"), "the port must be between 1 and 65535"),
    "bad type": (DOCUMENT.replace("[h1]", "[h9]"), "listeners[0].protocols[0]"),
    "key twice": (DOCUMENT.replace("- name: app", "- name: app\n    name: b"), "written twice"),
    "name twice": (DOCUMENT + "  - {name: all, upstream: app}\n", "'all' is used twice in routes"),
    "TLS without certificate": (DOCUMENT.replace("[h1]", "[h2]"), "there is no certificate"),
    "missing certificate": (TLS_WITHOUT_FILES, "none.pem"),
    "bad rate": (
        DOCUMENT + "limits:\n  - {name: l, rate: fast, burst: 1}\n",
        "'fast' is not a rate; write for example 100/s",
    ),
}


async def test_a_secret_and_the_hash_that_stands_for_it(tmp_path: Path) -> None:
    first, second = [json.loads((await run("secret", "--json", state=tmp_path)).out) for _ in range(2)]
    assert first["hash"] == hash_of(first["secret"].encode()) and len(first["secret"]) >= 43
    assert first["secret"] != second["secret"]
    assert "next: " in (await run("secret", state=tmp_path)).out


def assert_clear(ran_err: str, says: str) -> None:
    assert says in ran_err
    assert ran_err.count("meridian: ") == 1
    assert "Traceback" not in ran_err and "pydantic" not in ran_err and 'File "' not in ran_err


@pytest.mark.parametrize("kind", BAD_DOCUMENTS)
async def test_a_bad_document_is_one_message_and_exit_code_2(kind: str, tmp_path: Path) -> None:
    text, says = BAD_DOCUMENTS[kind]
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    ran = await run("plan", file, state=tmp_path / "state")
    assert ran.code == 2
    assert_clear(ran.err, says)
    assert "next: " in ran.err
    assert str(file) in ran.err


async def test_serve_and_local_up_check_the_document_too(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(DOCUMENT.replace("routes:", "route:"))
    for command in (("serve", file), ("local", "up", "--document", file)):
        ran = await run(*command, state=tmp_path / "state")
        assert ran.code == 2
        assert_clear(ran.err, "did you mean 'routes'?")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "missing.yaml"], "there is no file missing.yaml"),
        (["plan", "/"], "cannot read /"),
        (["apply", "minimal.yaml"], "no cluster to speak to"),
        (["status"], "no cluster to speak to"),
        (["status", "--admin", "nowhere"], "needs a token"),
        (["status", "--admin", "nowhere", "--token-file", "missing"], "'nowhere' is not an admin address"),
        (["status", "--admin", "127.0.0.1:1", "--token-file", "missing"], "cannot read the token file missing"),
        (["local", "start", "eu-west-1"], "there is no local cluster yet"),
        (["local", "status"], "there is no local cluster yet"),
        (["local", "up", "--document", "missing.yaml"], "there is no file missing.yaml"),
        (["local", "up", "--services", "missing.py"], "there is no file missing.py"),
        (["serve", "missing.yaml"], "there is no file missing.yaml"),
        (["chaos", "explode"], "chaos wants one of: list, run, report"),
    ],
)
async def test_a_bad_command_is_one_message_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minimal.yaml").write_text(DOCUMENT)
    ran = await run(*arguments, state=tmp_path / "state")
    assert ran.code == 2
    assert_clear(ran.err, says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["aply", "x"], "aply"),
        (["status", "--wach"], "--wach"),
        (["rollback", "seven"], "VERSION"),
        (["rollback"], "VERSION"),
        (["local", "up", "--workers", "0"], "workers"),
        (["node", "--name", "a"], "--region"),
    ],
)
async def test_a_wrong_usage_is_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    ran = await run(*arguments, state=tmp_path)
    assert ran.code == 2
    assert says in ran.err
    assert "Traceback" not in ran.err


async def test_too_large_and_not_text(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_bytes(b"#" * (16 * 1024 * 1024 + 1))
    assert_clear((await run("plan", file, state=tmp_path)).err, "at most 16777216 are taken")
    file.write_bytes(b"\xff\xfe")
    assert_clear((await run("plan", file, state=tmp_path)).err, "is not text: byte 0 is not UTF-8")


async def test_an_admin_api_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    ran = await run("status", "--admin", "127.0.0.1:1", "--token-file", token, state=tmp_path)
    assert ran.code == 1
    assert_clear(ran.err, "no admin API answers")
    assert "127.0.0.1:1: Connection refused" in ran.err


async def test_errors_are_json_for_programs(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(DOCUMENT.replace("routes:", "route:"))
    ran = await run("plan", file, "--json", state=tmp_path)
    assert ran.code == 2
    error = json.loads(ran.out)["error"]
    assert "did you mean" in error["problems"][0]
    assert error["remedy"]
    assert ran.err == ""


async def test_help_is_quick_and_names_every_command(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        ran = await run("--help", state=tmp_path)
        seconds.append(time.monotonic() - begun)
        assert ran.code == 0
    for command in (
        "serve",
        "node",
        "local",
        "plan",
        "apply",
        "get",
        "history",
        "rollback",
        "schema",
        "status",
        "drain",
    ):
        assert f"  {command} " in ran.out
    assert min(seconds) < 0.5


async def test_schema_needs_no_cluster(tmp_path: Path) -> None:
    ran = await run("schema", state=tmp_path)
    assert ran.code == 0
    assert "listeners" in json.loads(ran.out)["properties"]
