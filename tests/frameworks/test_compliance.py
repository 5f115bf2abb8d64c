"""llm-comply checks answers against OpenAI's published schema."""

import json
import pathlib
import subprocess
import sys

import pytest

from conftest import of_the_clients

# Any name is answered; models of this one are asked to reason, too.
MODEL = "o1"


# So small a model goes on for ever now and then, and what is cut off does not pass.
SETTINGS = """
[defaults]
temperature = 0
repeat_penalty = 1.1
max_tokens = 400
[limits]
images = "note"
"""


@pytest.fixture
def service(tmp_path):
    running = of_the_clients().Service(tmp_path, SETTINGS)
    yield running
    running.stop()


def test_every_check_passes(service):
    command = [pathlib.Path(sys.executable).with_name("llm-comply"), "--format", "openai-chat"]
    command += ["-u", service.base + "/v1", "-k", "unused", "-m", MODEL, "--json"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout
    report = json.loads(told[told.index("{") :])
    assert len(report["results"]) == 9
    for result in report["results"]:
        assert result["status"] == "passed", result
        # A model that does not think has no tokens of thought.
        assert all("reasoning_tokens is 0" in warning for warning in result.get("warnings", [])), result
