"""The appliance on an emulated machine, and a browser beside it."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "campaign"))

import rig  # noqa: E402
from browser import Browser  # noqa: E402


@pytest.fixture(scope="session")
def browser():
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def appliance(tmp_path_factory):
    # The same answer every time, and as long as a prompt makes it.
    running = rig.Appliance(tmp_path_factory.mktemp("appliance"), extra="[defaults]\ntemperature = 0\nmax_tokens = 0\n")
    running.wait_ready()
    yield running
    running.stop()


@pytest.fixture
def slow_appliance(tmp_path_factory):
    """One whose ladder keeps its real deadlines."""
    running = rig.Appliance(tmp_path_factory.mktemp("slow"), real_time=True)
    running.wait_ready()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def nothing_is_left_open(browser):
    """A page would complain of its service's end to the next test."""
    yield
    browser.driver.get("about:blank")
    browser.complaints()


@pytest.fixture
def page(appliance, browser):
    browser.look()
    browser.open(appliance.base + "/")
    yield browser
    assert browser.complaints() == []
