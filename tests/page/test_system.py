"""What the status page tells of the image: its slots, updates, and what its programs found wrong."""

import pytest
import rig
from image import Image

READY = ("Ready", "Answering")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return Image(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def appliance(image, tmp_path_factory):
    running = rig.Appliance(tmp_path_factory.mktemp("appliance"), extra=f'[appliance]\ndir = "{image.told}"\n')
    running.wait_ready()
    yield running
    running.stop()


def for_everybody(page, name):
    """Narrow or wide, by day or night: it fits, and axe-core finds nothing."""
    for scheme in ("light", "dark"):
        for width in (360, 1000):
            page.look(width, scheme)
            assert page.overflow() <= 0
            assert page.violations() == []
            page.shoot(f"{name}-{scheme}-{width}")


def test_slots_a_trial_and_its_end_are_told(page, image, appliance):
    page.wait_text("#running", "Version 0.2.0 runs.")
    assert "Runs, version 0.2.0, not judged yet." == page.text("#slot-a")
    assert not page.find("#setback").is_displayed() and not page.find("#updating").is_displayed()
    image.judged(appliance.config)
    page.wait_text("#slot-a", "Runs, version 0.2.0, good: demo on the CPU answered at 127.0.0.1")

    image.boot_slot("set-primary", "b")
    page.wait_text("#running", "At the next start slot B is tried.")
    assert "In reserve, version not known, to be tried." == page.text("#slot-b")
    image.boot_slot("start")
    image.starts("b", "0.3.0", tryboot=True)
    page.wait_text("#running", "Version 0.3.0 is on trial")
    assert "slot A comes back by itself" in page.text("#running")
    assert "Runs, version 0.3.0, on trial, attempt 1." == page.text("#slot-b")
    for_everybody(page, "trial")

    nowhere = appliance.directory / "nowhere.toml"
    nowhere.write_text('[server]\nlisten = ["127.0.0.1:1"]\n')
    image.judged(nowhere)
    image.starts("a", "0.2.0")
    page.wait_text("#running", "Version 0.2.0 runs.")
    assert page.text("#setback").startswith("Version 0.3.0 in slot B was given up:")
    assert "refused" in page.text("#setback") and "nothing needs to be done" in page.text("#setback")
    assert page.text("#slot-b") == "In reserve, version 0.3.0, bad."
    for_everybody(page, "given-up")


def test_an_update_tells_how_far_it_is_and_why_it_failed(page, image):
    running = image.installs()
    page.wait_text("#running", "Version 0.3.0 is being installed.")
    page.wait_text("#updating", "40 %, Copying image to rootfs.1")
    assert page.run("return document.querySelector('#updating progress').value") == 40
    assert not page.find("#setback").is_displayed(), "what came before is no news meanwhile"
    for_everybody(page, "updating")
    image.ends("no space left on device")
    assert running.wait() != 0
    page.wait_text("#setback", "The last update failed")
    said = page.text("#setback")
    for words in ("no space left on device", "What runs is unchanged.", "(E-UPDATE)"):
        assert words in said, said
    assert not page.find("#updating").is_displayed()
    for_everybody(page, "update-failed")


def test_every_mistake_is_listed_as_long_as_it_is_there(page, image):
    page.wait_text("#headline", *READY)
    assert not page.find("#problems").is_displayed()
    image.takes('[host]\nname = "-"\n[network]\ngateway = "x"\n')
    page.wait_text("#problems", "host.name")
    assert "appliance.toml:2: host.name" in page.text("#problems")
    assert "appliance.toml:4: network.gateway" in page.text("#problems")
    for_everybody(page, "mistakes")
    image.takes("")
    page.wait(lambda: not page.find("#problems").is_displayed(), "it is still told")


def test_elsewhere_there_are_no_slots(slow_appliance, browser):
    browser.look()
    browser.open(slow_appliance.base + "/")
    browser.wait_text("#headline", *READY)
    for section in ("#system", "#problems"):
        assert not browser.find(section).is_displayed()
    assert browser.complaints() == []
