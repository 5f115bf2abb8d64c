"""What the status page tells of the image's models, and that one of them is chosen there."""

import os
import shutil
import subprocess

import pytest
import rig
from image import Image
from selenium.webdriver.common.keys import Keys
from test_system import for_everybody


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    image = Image(tmp_path_factory.mktemp("image"))
    for name, size in (("floor", 2_500_000), ("wall", 100)):
        (image.root / "models" / name).mkdir(parents=True)
        (image.root / "models" / name / "config.json").write_bytes(b" " * size)
    (image.root / "models/default").symlink_to("wall")
    image.takes_in()
    yield image
    image.listener.close()


@pytest.fixture(scope="module")
def appliance(image, tmp_path_factory):
    program = rig.OUT / "llm8850-supervisor"
    made = subprocess.run([program, "--make-key", "page"], capture_output=True, text=True, check=True).stdout
    extra = f'{made[made.index("[[access.key]]"):]}admin = true\n[appliance]\ndir = "{image.told}"\nmodels = "{image.socket}"\n'
    running = rig.Appliance(tmp_path_factory.mktemp("appliance"), extra=extra)
    running.key = made.split()[0]
    running.wait_ready()
    # It is loaded; on the image its place is a link.
    shutil.rmtree(running.model)
    os.symlink("/models/default", running.model)
    yield running
    running.stop()


def chosen(page):
    return page.run("return (document.querySelector('#packages input:checked') || {}).value")


def test_a_model_is_chosen_by_keyboard(page, image, appliance):
    page.wait_text("#running", "Version 0.2.0 runs.")
    assert not page.find("#models").is_displayed()
    page.find("#key").send_keys(appliance.key, Keys.ENTER)
    page.wait_text("#packages", "wall, 0.0 MB, served")
    assert "floor, 2.5 MB" in page.text("#packages") and "free" in page.text("#room")
    assert chosen(page) == "wall"
    for_everybody(page, "models")

    page.find("#packages input:checked").send_keys(Keys.ARROW_UP)
    assert chosen(page) == "floor"
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait_text("#chosen", "floor is being loaded.")
    page.wait_text("#packages", "floor, 2.5 MB, served")
    assert (image.root / "models/default").readlink().as_posix() == "floor"
    assert page.driver.switch_to.active_element.get_attribute("value") == "floor"
    assert page.text("#unchosen") == ""

    # Removed meanwhile, by somebody else: told, and nothing else changes.
    shutil.rmtree(image.root / "models/wall")
    page.find("#packages input:checked").send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    page.wait_text("#unchosen", "There is no model")
    assert (image.root / "models/default").readlink().as_posix() == "floor"
    assert all("404" in complaint for complaint in page.complaints())


def test_where_the_settings_say_which_nothing_is_chosen(page, appliance):
    os.unlink(appliance.model)
    os.mkdir(appliance.model)
    page.driver.refresh()
    page.wait_text("#room", f"model.dir is {appliance.model}")
    assert page.find("#packages input").get_attribute("disabled")
    assert not page.find("#choose button").is_displayed()
    for_everybody(page, "models-configured")
