"""Backups in an object store: signatures against the examples of S3's documentation, and a store of our own that looks
at what it is sent."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from tests.admin.mounted import mounted
from tests.cli.command import Ran, run
from tests.cli.test_config import Operator

from meridian.cli.errors import Mistake
from meridian.cli.objects import Keys, keys_of, path_of, put, signed

EXAMPLE = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
AT = datetime(2013, 5, 24, tzinfo=UTC)
BUCKET = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "path", "raw", "more", "signature"),
    [
        ("GET", "/test.txt", b"", {"Range": "bytes=0-9"},
         "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("PUT", "/test$file.text", b"Welcome to Amazon S3.",
         {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
         "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
    ],
)  # fmt: skip
def test_requests_are_signed_as_s3_s_documentation_does(
    method: str, path: str, raw: bytes, more: dict[str, str], signature: str
) -> None:
    fields = signed(method, BUCKET + path, raw, EXAMPLE, AT, more)
    assert fields["authorization"].endswith(f"Signature={signature}")


def test_keys_are_shown_to_nobody_and_missed_by_name() -> None:
    keys = keys_of({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_REGION": "r",
                    "AWS_SESSION_TOKEN": "passing"})  # fmt: skip
    assert "hidden" not in repr(keys) and "passing" not in repr(keys)
    assert signed("GET", f"{BUCKET}/a", b"", keys, AT)["x-amz-security-token"] == "passing"
    with pytest.raises(Mistake, match="AWS_SECRET_ACCESS_KEY is not set"):
        keys_of({"AWS_ACCESS_KEY_ID": "a"})


def test_what_is_signed_of_a_path_is_what_is_sent() -> None:
    assert path_of("https://h/a b/%63.backup") == "/a%20b/c.backup"


class Handler(BaseHTTPRequestHandler):
    """Objects in memory, for who signs as EXAMPLE."""

    def do_PUT(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.allowed("PUT", raw):
            self.server.objects[self.path] = raw  # type: ignore[attr-defined]
            self.answer(200, b"")

    def do_GET(self) -> None:
        if self.allowed("GET", b""):
            found = self.server.objects.get(self.path)  # type: ignore[attr-defined]
            self.answer(404 if found is None else 200, found or b"")

    def allowed(self, method: str, raw: bytes) -> bool:
        at = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        wanted = signed(method, f"http://{self.headers['Host']}{self.path}", raw, EXAMPLE, at)
        good = self.headers["Authorization"] == wanted["authorization"]
        if not good:
            self.answer(403, self.headers["Authorization"].encode())
        return good

    def answer(self, status: int, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def object_store() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.objects = {}  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/bucket"
        finally:
            server.shutdown()
            thread.join()


@pytest_asyncio.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with mounted() as api:
        yield Operator(api, tmp_path)


async def test_a_backup_goes_to_an_object_store_and_comes_back(operator: Operator) -> None:
    async def types(*words: str, secret: str = EXAMPLE.secret) -> Ran:
        return await run(
            *words, "--admin", operator.api.address, "--token-file", operator.folder / "token",
            state=operator.folder / "state", AWS_ACCESS_KEY_ID=EXAMPLE.access, AWS_SECRET_ACCESS_KEY=secret,
            AWS_REGION=EXAMPLE.region,
        )  # fmt: skip

    assert (await operator.types("apply", operator.file)).code == 0
    with object_store() as bucket:
        saved = await types("backup", f"{bucket}/Tue.backup", "--force")
        assert saved.code == 0, saved.all
        restored = await types("restore", f"{bucket}/Tue.backup", "--force")
        assert restored.code == 0 and "is in force, as 1 was" in restored.out, restored.all
        refused = await types("backup", f"{bucket}/Tue.backup", secret="wrong")
        assert refused.code == 1 and "403" in refused.err and "Signature" not in refused.err


@pytest.mark.parametrize("url", ["http://files.example.com/a", "https://files.example.com/", "https://h/a?b=c"])
def test_an_address_that_cannot_be_is_a_mistake(url: str) -> None:
    with pytest.raises(Mistake):
        put(url, b"")
