"""plan, apply, get, history, rollback against a real admin API."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.admin.mounted import DOCUMENT, TOKEN, Mounted, mounted
from tests.cli.command import Ran, run
from tests.nodes.test_checks import issue


class Operator:
    """A person with a document, a token and a cluster."""

    def __init__(self, api: Mounted, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.file = folder / "document.yaml"
        self.file.write_text(DOCUMENT)
        (folder / "token").write_text(TOKEN + "\n")

    async def types(self, *arguments: str | Path, given: bytes = b"") -> Ran:
        ran = await run(
            *arguments,
            given=given,
            state=self.folder / "state",
            MERIDIAN_ADMIN=self.api.address,
            MERIDIAN_TOKEN_FILE=str(self.folder / "token"),
        )
        assert "Traceback" not in ran.all
        return ran


@pytest_asyncio.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with mounted() as api:
        yield Operator(api, tmp_path)


async def test_a_document_s_life(operator: Operator) -> None:
    assert (await operator.types("history")).out.startswith("nothing has been applied yet")
    planned = await operator.types("plan", operator.file)
    assert "+ listeners web" in planned.out
    applied = await operator.types("apply", "--now", operator.file, "-m", "first")
    assert applied.code == 0
    assert "version 1 is current" in applied.out
    assert "eu-west-1 has version 1" in applied.out and "us-east-1 has version 1" in applied.out
    operator.file.write_text(DOCUMENT.replace("8000", "8001"))
    assert "endpoints[0].address: 127.0.0.1:8000 -> 127.0.0.1:8001" in (await operator.types("plan", operator.file)).out
    assert (await operator.types("apply", "--now", operator.file)).code == 0
    again = await operator.types("apply", operator.file)
    assert (again.code, "version 2 was current already" in again.out) == (0, True)
    history = json.loads((await operator.types("history", "--json")).out)["versions"]
    assert [(row["version"], row["message"]) for row in history] == [(2, ""), (1, "first")]
    assert history[1]["author"]
    assert (await operator.types("rollback", "1")).code == 0
    assert (await operator.types("get")).out == DOCUMENT
    assert (await operator.types("get", "2")).out == DOCUMENT.replace("8000", "8001")


async def test_a_document_that_is_followed_is_applied_when_a_file_changes(operator: Operator) -> None:
    """A file that cannot be taken is said, and the next one taken."""
    chain, key = issue()
    for name, content in (("a.pem", chain), ("a.key", key)):
        (operator.folder / name).write_bytes(content)
    operator.file.write_text(f"{DOCUMENT}\ncertificates: [{{hosts: [a.example], cert_file: a.pem, key_file: a.key}}]\n")
    environment = {"MERIDIAN_ADMIN": operator.api.address, "MERIDIAN_TOKEN_FILE": str(operator.folder / "token")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meridian.cli.main", "apply", "--now", "--follow", str(operator.file),
        env=os.environ | environment | {"MERIDIAN_LOCAL": str(operator.folder / "state"), "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            await says(process.stdout, "version 1 is current")
            await says(process.stdout, "following 3 files")
            (operator.folder / "a.pem").unlink()
            await says(process.stdout, "there is no file")
            await says(process.stdout, "following 3 files")
            (operator.folder / "a.pem").write_bytes(chain + b"\n")
            await says(process.stdout, "version 2 is current")
    finally:
        process.kill()
        await process.wait()


async def says(lines: asyncio.StreamReader, words: str) -> None:
    """Waits for these words; long lines are wrapped."""
    seen = ""
    while words not in " ".join(seen.split()):
        line = await asyncio.wait_for(lines.readline(), 30)
        assert line, seen
        seen += line.decode()


async def test_what_does_not_exist_is_a_mistake(operator: Operator) -> None:
    for arguments in (["get"], ["get", "7"], ["rollback", "7"], ["drain", "mars"]):
        ran = await operator.types(*arguments)
        assert ran.code == 2
        assert "next: " in ran.err
    (operator.folder / "token").write_text("wrong")
    ran = await operator.types("status")
    assert (ran.code, "the token is missing or wrong" in ran.err) == (2, True)


async def test_apply_names_who_refused_and_why(operator: Operator) -> None:
    operator.api.panel.refusing["us-east-1"] = "certificates: the key does not fit"
    ran = await operator.types("apply", operator.file)
    assert ran.code == 1
    assert "us-east-1 keeps version 0: certificates: the key does not fit" in ran.err
    assert "eu-west-1 has version 1" in ran.out


async def test_apply_names_who_lags(operator: Operator) -> None:
    operator.api.panel.follow = False
    operator.api.panel.serving["eu-west-1"] = 1
    ran = await operator.types("apply", operator.file, "--timeout", "0.3")
    assert ran.code == 1
    assert "us-east-1 still has version 0" in ran.err
    ran = await operator.types("apply", operator.file, "--timeout", "0.3", "--json")
    assert ran.code == 1
    answer = json.loads(ran.out)
    assert not answer["complete"]
    assert answer["nodes"]["us-east-1"]["config_version"] == 0


async def test_apply_without_store_fails_with_the_reason(operator: Operator) -> None:
    operator.api.store.away = True
    ran = await operator.types("apply", operator.file)
    assert ran.code == 1
    assert "no etcd member answered" in ran.err
    assert "nodes go on serving" in ran.err
    status = await operator.types("status")
    assert status.code == 0
    assert "not reachable" in status.out


async def test_removing_much_wants_force(operator: Operator) -> None:
    more = "".join(f"  - {{name: r{i}, match: {{path: /{i}}}, upstream: app}}\n" for i in range(5))
    operator.file.write_text(DOCUMENT + more)
    await operator.types("apply", "--now", operator.file)
    operator.file.write_text(DOCUMENT)
    refused = await operator.types("apply", operator.file)
    assert (refused.code, "removes 5 of 6 routes" in refused.err, "--force" in refused.err) == (1, True, True)
    assert (await operator.types("apply", "--now", operator.file, "--force")).code == 0


async def test_files_go_with_the_document(operator: Operator) -> None:
    (operator.folder / "tls").mkdir()
    (operator.folder / "tls/a.pem").write_text("chain")
    (operator.folder / "tls/a.key").write_text("key")
    operator.file.write_text(
        DOCUMENT.replace("[h1]", "[h2]")
        + "certificates:\n  - {hosts: [a.mine.net], cert_file: tls/a.pem, key_file: tls/a.key}\n"
    )
    assert (await operator.types("apply", operator.file)).code == 0
    stored = json.loads((await operator.types("get", "--json")).out)
    assert set(stored["files"]) == {"tls/a.pem", "tls/a.key"}
    (operator.folder / "tls/a.key").write_bytes(b"x" * (1024 * 1024 + 1))
    ran = await operator.types("apply", operator.file)
    assert (ran.code, "at most 1048576" in ran.err) == (2, True)


async def test_status_drain_undrain(operator: Operator) -> None:
    ran = await operator.types("status")
    assert ran.code == 0
    for word in ("eu-west-1", "us-east", "serving", "leader eu-west-1"):
        assert word in ran.out
    assert json.loads((await operator.types("status", "--json")).out)["leader"] == "eu-west-1"
    assert (await operator.types("drain", "us-east")).out == "us-east is draining\n"
    refused = await operator.types("drain", "eu-west-1")
    assert (refused.code, "nobody would be left serving" in refused.err) == (1, True)
    assert (await operator.types("undrain", "us-east")).out == "us-east is serving\n"
