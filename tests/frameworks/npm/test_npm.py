"""Clients of JavaScript programs: node's own test runner, with the service of the Python clients."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# Where scripts/setup-npm puts the packages: node looks for them beside the files that want them.
PACKAGES = HERE.parents[2] / "build/npm"


@pytest.fixture(scope="module")
def copies():
    for file in HERE.glob("*.mjs"):
        shutil.copy(file, PACKAGES)


@pytest.mark.parametrize("file", sorted(file.name for file in HERE.glob("*.test.mjs")))
def test_in_node(service, copies, file):
    run = subprocess.run(
        ["node", "--test", "--test-reporter=tap", file],
        cwd=PACKAGES,
        env={**os.environ, "LLM8850_BASE": service.base},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(run.stdout, run.stderr)
    assert run.returncode == 0
    assert int(re.search(r"^# pass (\d+)$", run.stdout, re.MULTILINE)[1]) > 3
