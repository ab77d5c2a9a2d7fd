"""Claims about `bench/gpu.py`, which is carried to machines that have a GPU and little else."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

BENCH = REPOSITORY / "bench" / "gpu.py"
MAY_BE_THERE = {"numpy", "tokenizers", "torch", "transformers"}
"""`tokenizers` is a part of what transformers needs."""


def ran(*arguments: str, without: str | None = None) -> subprocess.CompletedProcess[str]:
    lines = [
        "import runpy, sys",
        f"sys.modules[{without!r}] = None" if without else "",
        f"sys.argv = {[str(BENCH), *arguments]!r}",
        "runpy.run_path(sys.argv[0], run_name='__main__')",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("package", ["torch", "transformers", "numpy"])
def test_a_package_that_is_missing_is_one_sentence(package: str) -> None:
    if package != "torch" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is missing too, and named first")
    done = ran(without=package)
    assert done.returncode == 2
    assert done.stderr.startswith("It needs torch, transformers and numpy")
    assert f"{package} is not installed: pip install torch" in done.stderr
    assert done.stderr.count("\n") == 1


def test_its_help_needs_nothing() -> None:
    done = ran("--help", without="torch")
    assert done.returncode == 0
    assert "--json JSON" in done.stdout


def test_it_imports_nothing_that_such_a_machine_lacks() -> None:
    imported = set()
    for node in ast.walk(ast.parse(BENCH.read_text())):
        if isinstance(node, ast.Import):
            imported |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    ours = sorted(each for each in imported if each.startswith("ai_assets"))
    others = {each.partition(".")[0] for each in imported - set(ours)}
    assert others - set(sys.stdlib_module_names) <= MAY_BE_THERE
    # -S: no package of this environment is there.
    program = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import {', '.join(ours)}"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_on_a_processor_it_says_so_and_measures_a_part(tmp_path: Path) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: make test-gpu")
    done = ran("--texts", "8", "--json", str(tmp_path / "made" / "found.json"))
    found = json.loads((tmp_path / "made" / "found.json").read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    if found["device"] == "cpu":
        assert done.stdout.startswith("No CUDA device here: nothing below is a figure of a GPU.")
    assert found["checks"]["same vectors whatever the batch"]["holds"] is True
    assert found["passed"] is True
