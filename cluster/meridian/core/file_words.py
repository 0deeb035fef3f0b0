"""What an operator may say of files that a route serves from the disks of its nodes."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from meridian.core.words import Word

Coding = Literal["br", "zstd", "gzip"]


def _checked_root(root: str) -> str:
    if not root.startswith("/") or "\0" in root or ".." in root.split("/"):
        raise ValueError("say an absolute path without ..: every node reads it on its own disk, wherever apply ran")
    return root


def _checked_path(path: str) -> str:
    if any(segment in ("", ".", "..") for segment in path[1:].split("/")) or not path.startswith("/"):
        raise ValueError("say a path below root, such as /index.html")
    return path


def _checked_name(name: str) -> str:
    if "/" in name or "\0" in name or name.startswith("."):
        raise ValueError("say the name of a file, such as index.html")
    return name


def _checked_type(value: str) -> str:
    if not value.isascii() or not value.isprintable() or "/" not in value:
        raise ValueError("say a media type, such as text/html; charset=utf-8")
    return value


def _checked_value(value: str) -> str:
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError("say it as it is to be sent, such as public, max-age=3600")
    return value


class Files(Word):
    """Files below a folder of the node's own disk (docs/files.md). Their path is that of the request, after `rewrite`;
    names that begin with a dot are hidden, but for `.well-known`, and links that lead out of the folder lead nowhere.
    """

    root: Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_checked_root)] = Field(
        description="absolute; may be a link, which is followed anew for each request"
    )
    index: tuple[Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_checked_name)], ...] = Field(
        default=("index.html",), max_length=8, description="what a folder shows: the first that is there; none: 404"
    )
    precompressed: tuple[Coding, ...] = Field(
        default=(),
        max_length=3,
        description="FILE.br, FILE.zst and FILE.gz are sent instead of FILE to who takes them, the first named before "
        "others that are as welcome",
    )
    cache_control: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_checked_value)] | None = Field(
        default=None, description="Cache-Control of what is served, such as public, max-age=3600"
    )
    fallback: Annotated[str, Field(max_length=4096), AfterValidator(_checked_path)] | None = Field(
        default=None, description="served, as 200, for what is not there, such as /index.html for an application"
    )
    content_types: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9_+-]{1,32}$")], Annotated[str, AfterValidator(_checked_type)]
    ] = Field(default_factory=dict, max_length=200, description="by the end of names, without its dot; before our own")
