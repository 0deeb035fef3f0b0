"""What workers are made of. (What they do is in test_node, with real ones.)"""

import asyncio
import sys

import pytest


@pytest.mark.parametrize("module", ["gateway_worker", "dns_worker"])
async def test_workers_never_import_what_belongs_to_the_agent(module: str) -> None:
    foreign = ("grpc", "fastapi", "uvicorn", "opentelemetry", "structlog", "prometheus_client", "meridian.store")
    code = f"import sys, meridian.nodes.{module}; print([name for name in {foreign} if name in sys.modules])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output == b"[]\n"
