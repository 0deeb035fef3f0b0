"""What runs README's commands (tests/local/test_readme) finds what does not work."""

import os
from pathlib import Path

import pytest
from tests.tidy.readme import Block, PageError, parse, run

PAGE = """
# Title

```sh
folder=$PWD
echo "one $folder"
```

<!-- run
expect: two
expect: 2
within: 9
-->
```bash
cd /
printf '%s\\n' two
echo 2 >&2
```

```yaml
not: run
```

<!-- a remark, not for us -->
~~~sh
cat | wc -c
echo "$folder $PWD"
~~~

<!-- run
elsewhere: it needs a moon
-->

```sh
launch
```
"""


def test_finds_blocks_and_what_is_said_of_them() -> None:
    one, two, three, four = parse(PAGE)
    assert one == Block(4, 'folder=$PWD\necho "one $folder"\n')
    assert (two.expect, two.within_seconds, two.exit_status) == (("two", "2"), 9.0, 0)
    assert three.expect == ()
    assert four.elsewhere == "it needs a moon"


@pytest.mark.parametrize(
    "page", ["```sh\necho", "<!-- run\nexpects: x\n-->\n```sh\ntrue\n```", "<!-- run\nexit:\n-->\n```sh\n```"]
)
def test_a_page_that_cannot_be_read_is_told(page: str) -> None:
    with pytest.raises(PageError):
        parse(page)


async def run_page(page: str, folder: Path) -> list[str]:
    return await run(parse(page), folder, {"PATH": os.environ["PATH"]}, folder)


async def test_runs_in_one_session(tmp_path: Path) -> None:
    outputs = await run_page(PAGE, tmp_path)
    assert f"one {tmp_path}" in outputs[0]
    assert outputs[2].split() == ["0", str(tmp_path), "/"]
    assert outputs[3] == ""


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```sh\ntrue\nfalse\ntrue\n```", "line 1 ended with 1, not 0"),
        ("```sh\ntrue\n```\n```sh\nexit 3\n```", "line 4 ended with 3, not 0"),
        ("```sh\nno-such-command-here\n```", "not found"),
        ("<!-- run\nexpect: blue\n-->\n```sh\necho red\n```", "does not say 'blue'"),
        ("<!-- run\nexit: 1\n-->\n```sh\ntrue\n```", "ended with 0, not 1"),
        ("<!-- run\nwithin: 0.3\n-->\n```sh\nsleep 60\n```", "took more than 0 s"),
        ("```sh\nif true\n```", "ended with"),
    ],
)
async def test_a_block_that_is_not_as_said_is_red(page: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PageError, match=message):
        await run_page(page, tmp_path)


async def test_an_expected_failure_ends_its_block_and_the_page_goes_on(tmp_path: Path) -> None:
    page = "<!-- run\nexit: 2\n-->\n```sh\necho before\n(exit 2)\necho after\n```\n```sh\necho next\n```"
    assert [output.split() for output in await run_page(page, tmp_path)] == [["before"], ["next"]]
