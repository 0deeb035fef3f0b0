"""Stand-ins of Terraform providers: they answer with a schema and nothing else.

With them `terraform validate` judges words, types and what must be given, and `terraform test` runs on mocks. What a
real provider checks beyond its schema, such as the shape of a value, is not checked. Terraform is told by
TF_REATTACH_PROVIDERS where they listen, as it is for providers in a debugger; so it installs and starts none.
"""

import json
import os
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_tools import protoc  # type: ignore[import-untyped]

HERE = Path(__file__).parent
SCHEMAS = HERE / "schemas"
OWNERS = {"aws": "hashicorp", "google": "hashicorp", "hcloud": "hetznercloud"}
EMPTY = b""  # of any message: nothing said, and no diagnostic


class Provider(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Gives `schema` (a serialized tfplugin6.ProviderSchema) to who asks for it, and nothing else to anybody."""

    def __init__(self, schema: bytes) -> None:
        self._schema = schema

    def service(self, details: Any) -> Any:
        if not details.method.startswith("/tfplugin6.Provider/"):
            return None  # of the plugin's own household: logs, shutdown
        said = self._schema if details.method.endswith("/GetProviderSchema") else EMPTY
        return grpc.unary_unary_rpc_method_handler(lambda request, context: said)


@contextmanager
def providers(folder: Path) -> Iterator[str]:
    """Runs one for each of tests/deploy/schemas. Gives the value of
    TF_REATTACH_PROVIDERS; `folder` is for sockets."""
    assert protoc.main(["protoc", f"--proto_path={HERE}", f"--python_out={folder}", "tfplugin6.proto"]) == 0
    sys.path.insert(0, str(folder))
    try:
        import tfplugin6_pb2  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(folder))
    where = {}
    with ExitStack() as running:
        for name, owner in OWNERS.items():
            found = tfplugin6_pb2.ProviderSchema()
            fill(found, json.loads((SCHEMAS / f"{name}.json").read_text()))
            server = grpc.server(futures.ThreadPoolExecutor(4))
            server.add_generic_rpc_handlers((Provider(found.SerializeToString()),))
            server.add_insecure_port(f"unix:{folder}/{name}.sock")
            server.start()
            running.callback(server.stop, None)
            address = {"Network": "unix", "String": f"{folder}/{name}.sock"}
            how = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
            where[f"{owner}/{name}"] = how
        yield json.dumps(where)


def fill(schema: Any, known: dict[str, Any]) -> None:
    """Writes into a tfplugin6.ProviderSchema what scripts/provider-schemas wrote."""
    for word, block in known.items():
        kind, _, name = word.partition(" ")
        if kind == "provider":
            _fill(schema.provider.block, block)
        elif kind in ("resource", "data"):
            kinds = schema.resource_schemas if kind == "resource" else schema.data_source_schemas
            _fill(kinds[name].block, block)


def _fill(into: Any, block: dict[str, Any]) -> None:
    for name, (type_, mode) in block["attributes"].items():
        one = into.attributes.add(name=name, type=json.dumps(type_).encode())
        # A provider may fill in what was left out; of which words it does, the types say nothing.
        one.required, one.optional, one.computed = mode == "required", mode == "optional", mode != "required"
    for name, (least, most, inner) in block["blocks"].items():
        _fill(into.block_types.add(type_name=name, nesting=2, min_items=least, max_items=most).block, inner)
