import re
import runpy
from pathlib import Path

from junctor.cli import exit_codes

ROOT = Path(__file__).parents[3]


def test_the_reference_of_commands_is_what_the_commands_say():
    # 'python docs/render_cli.py' writes it anew
    rendered = runpy.run_path(str(ROOT / "docs" / "render_cli.py"))
    assert rendered["PAGE"].read_text(encoding="utf-8") == rendered["page"]()


def test_the_readme_lists_every_exit_code():
    text = (ROOT / "cli" / "README.md").read_text(encoding="utf-8")
    listed = {
        int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    }
    assert listed == {int(code): meaning for code, meaning in exit_codes.MEANING.items()}


def test_the_readme_names_every_file():
    text = (ROOT / "cli" / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in (ROOT / "cli").glob("*.py")} - {"__init__.py"}
    covered = {name for name in names if f"`{name}`" in text}
    covered |= {
        name for name in names if name.startswith(("environment", "process")) and f"`{name[:7]}" in text
    }
    assert names - covered <= {
        "output.py",
        "failures.py",
        "exit_codes.py",
        "visible.py",
        "completion.py",
        "progress.py",
    }
