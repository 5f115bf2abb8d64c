"""The service of the official clients' tests, and what every framework is asked."""

import importlib.util
import pathlib

import pytest

from asked import QUESTION, TOKENS

CLIENTS = pathlib.Path(__file__).resolve().parents[1] / "clients/conftest.py"


def of_the_clients():
    """Their conftest.py under another name than this one's."""
    spec = importlib.util.spec_from_file_location("clients_conftest", CLIENTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Greedy, so that every client can be compared with the plain one. What is too long is told so.
SETTINGS = """
[defaults]
temperature = 0
form_max_tokens = 48
[limits]
overflow = "error"
"""


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    running = of_the_clients().Service(tmp_path_factory.mktemp("service"), SETTINGS)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def expected(service):
    """What the plain client gets."""
    return service.client().chat.completions.create(
        model="any", messages=[{"role": "user", "content": QUESTION}], max_tokens=TOKENS
    )


@pytest.fixture(scope="session")
def text(expected):
    return expected.choices[0].message.content
