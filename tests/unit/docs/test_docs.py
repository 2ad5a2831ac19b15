"""The documentation says what the code does: generated pages are current, code blocks compile and deploy, nothing is left out."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from junctor.server import compat
from junctor.server.service.hot_deploy import load_source, unload
from junctor.server.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
SET_BY_START = {"directory", "odb_url", "redis_url", "secret_keys"}


def python_blocks() -> list[tuple[str, str]]:
    """Every Python block of every page."""
    return [
        (f"{page.parent.name}/{page.name}", block)
        for page in PAGES
        for block in BLOCK.findall(page.read_text("utf-8"))
    ]


def test_the_page_of_object_types_is_what_the_declarations_say() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "render.py", "--check"], check=False)
    assert done.returncode == 0, "run: python docs/render.py"


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_a_python_block_compiles(page: str, block: str) -> None:
    compile(block, page, "exec")


@pytest.mark.parametrize(("page", "block"), [item for item in python_blocks() if "(Service)" in item[1]])
def test_a_service_in_the_documentation_can_be_deployed(page: str, block: str) -> None:
    compat.install()
    module = load_source("documented.py", block, "docs")
    unload(module)
    assert module.services, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_setting_of_a_server_is_documented() -> None:
    text = (ROOT / "docs" / "operation.md").read_text("utf-8")
    missing = [
        item.name
        for item in fields(Settings)
        if item.name not in SET_BY_START and f"`{item.name}`" not in text
    ]
    assert missing == []
