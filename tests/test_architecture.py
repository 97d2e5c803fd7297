"""The packages import each other in one direction only, and no recipe imports another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "custom_ops": {"custom_ops"},
    "zoo": {"custom_ops", "zoo"},
    "recipes": {"custom_ops", "zoo", "recipes"},
}
SCRIPTS = {path.stem for path in (ROOT / "recipes").glob("*.py")} - {"__init__", "cli"}


def imports(path: Path) -> set[str]:
    """The modules that a file names in import statements, wherever they stand in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_in_one_direction(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        ours = {name.partition(".")[0] for name in imports(path)} & MAY_IMPORT.keys()
        assert ours <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


def test_no_recipe_imports_another_and_parts_import_no_recipe():
    assert {"finetune", "evaluate", "predict"} <= SCRIPTS
    for path in (ROOT / "recipes").rglob("*.py"):
        scripts = {name.split(".")[1] for name in imports(path) if name.startswith("recipes.")} & SCRIPTS
        assert not scripts, f"{path.relative_to(ROOT)} imports the recipes {scripts}"


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["finetune"],
        ["train"],
        ["study"],
        ["evaluate"],
        ["predict"],
        ["visualize"],
        ["export"],
        ["serve"],
        ["benchmark-export"],
        ["cache"],
        ["list"],
        ["describe"],
        ["compare"],
        ["copy"],
    ],
)
def test_help_does_not_import_tensorflow(command):
    code = (
        "import sys\n"
        "from recipes.cli import main\n"
        "try:\n"
        f"    main({[*command, '--help']})\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "loaded = {'tensorflow', 'keras', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: zoo" in done.stdout
