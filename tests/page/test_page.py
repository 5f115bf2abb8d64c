"""The status page in a real browser, beside the real service."""

import signal
import subprocess

import kinds
import pytest
import rig
from selenium.webdriver.common.keys import Keys

READY = ("Ready", "Answering")


def test_a_ready_appliance_says_so(page, appliance):
    page.wait_text("#headline", *READY)
    assert page.text("#model") == "demo"
    assert page.find("#state").get_attribute("data-mood") == "good"
    assert not page.find("#remedy").is_displayed()
    assert "Card temperature" in page.text("#facts") and "Waiting" in page.text("#facts")
    assert "breath" in page.text("#lamp-status") or "flicker" in page.text("#lamp-status")
    assert "off" in page.text("#lamp-fault")
    playing = "return document.querySelector('#lamp-status .lamp').getAnimations({subtree: true}).length"
    assert page.run(playing) == 1
    assert page.driver.title.endswith("– llm8850")


def test_a_prompt_streams_an_answer(page):
    page.wait_text("#headline", *READY)
    # How often the answer grew: it comes in pieces.
    page.run(
        "window.grew = 0;"
        "new MutationObserver(() => window.grew += 1).observe(document.getElementById('text'), {childList: true})"
    )
    page.find("#prompt").send_keys("What is the capital of France?", Keys.CONTROL, Keys.ENTER)
    page.wait_text("#progress", "Done.")
    assert len(page.text("#text")) > 10
    assert page.run("return window.grew") > 3
    assert page.run("return document.getElementById('text').children.length") == 0
    page.wait_text("#facts", "tokens/s")
    assert page.text("#wrong") == ""
    page.shoot("answered")


def test_an_answer_can_be_stopped(page, appliance):
    page.wait_text("#headline", *READY)
    abandoned = appliance.get("/v1/status")["counters"]["abandoned"]
    # Some 2,000 tokens, until the context is full: not over before the button is found.
    page.find("#prompt").send_keys("Tell a very long story about a coyote.")
    page.find("#send").click()
    page.wait_text("#progress", "Answering")
    page.find("#stop").click()
    page.wait_text("#progress", "Stopped.")
    assert page.find("#send").is_enabled() and not page.find("#stop").is_enabled()
    page.wait(lambda: appliance.get("/v1/status")["counters"]["abandoned"] > abandoned, "the card was not freed")


def test_everything_is_reached_by_keyboard_and_focus_is_seen(page):
    page.wait_text("#headline", *READY)
    reached = []
    for _ in range(12):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(
            page.run(
                "const e = document.activeElement;"
                "return [e.id || e.getAttribute('href'), getComputedStyle(e).outlineStyle]"
            )
        )
    names = [name for name, _ in reached]
    for wanted in ("#prompt", "prompt", "send", "/v1/diagnostics", "/v1/logs"):
        assert wanted in names, names
    assert all(outline == "solid" for name, outline in reached if name), reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_it_fits_and_is_readable_for_everybody(page, scheme, width):
    page.look(width, scheme)
    page.wait_text("#headline", *READY)
    page.wait_text("#incidents", ".")
    assert page.overflow() <= 0
    assert page.violations() == []
    page.shoot(f"ready-{scheme}-{width}")


def test_it_polls_only_while_it_is_seen(page):
    page.wait_text("#headline", *READY)
    count = "return performance.getEntriesByType('resource').filter(e => e.name.endsWith('/v1/status')).length"
    page.wait(lambda: page.run(count) >= 2, "it never polled")
    page.run("Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true}); window.away = true")
    seen = page.run(count)
    page.driver.execute_async_script("setTimeout(arguments[0], 5000)")
    assert page.run(count) <= seen + 1
    page.run("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait(lambda: page.run(count) > seen + 1, "it never polled again")


def test_links_lead_somewhere(page, appliance):
    for link in page.driver.find_elements("css selector", "nav a"):
        reply = page.driver.execute_async_script(
            "fetch(arguments[0]).then(r => arguments[1](r.status), e => arguments[1](String(e)))",
            link.get_attribute("href"),
        )
        assert reply == 200, link.get_attribute("href")


def test_a_degraded_appliance_says_what_to_do(page, appliance):
    damage = next(kind for kind in kinds.KINDS if kind.name == "model file flipped")
    damage.inject(appliance)
    try:
        page.wait_text("#headline", "Answering with the spare model")
        page.wait_text("#remedy", "The file is damaged")
        assert "E-MODEL-CHECKSUM" in page.text("#remedy")
        assert page.find("#state").get_attribute("data-mood") == "work"
        page.wait_text("#lamp-fault", "slow blink")
        page.wait_text("#incidents", "E-MODEL-CHECKSUM")
        for scheme in ("light", "dark"):
            page.look(360, scheme)
            assert page.overflow() <= 0
            assert page.violations() == []
            page.shoot(f"degraded-{scheme}")
    finally:
        damage.mend(appliance)
    page.wait_text("#headline", *READY)
    page.wait_text("#incidents", "Mended after")


def test_a_recovering_appliance_says_so(slow_appliance, browser):
    browser.look(360)
    browser.open(slow_appliance.base + "/")
    browser.wait_text("#headline", *READY)
    # The driver never comes up again: until its deadline the ladder stands on that rung.
    slow_appliance.breaks(kind="modprobe_hangs", heals_at="R5")
    slow_appliance.breaks(kind="dead", heals_at="R3")
    browser.wait_text("#headline", "Recovering")
    browser.wait_text("#meaning", "The driver is loaded anew.")
    assert "mends itself" in browser.text("#remedy") and "(E-CARD-" in browser.text("#remedy")
    browser.wait_text("#lamp-fault", "3 flashes")
    assert browser.overflow() <= 0
    assert browser.violations() == []
    browser.shoot("recovering")
    assert browser.complaints() == []


def test_a_service_that_is_gone_is_noticed(slow_appliance, browser):
    browser.look(360)
    browser.open(slow_appliance.base + "/")
    browser.wait_text("#headline", *READY)
    slow_appliance.supervisor.kill()
    browser.wait_text("#headline", "No connection")
    assert browser.find("#state").get_attribute("data-mood") == "bad"
    slow_appliance.supervisor.wait()
    slow_appliance.start()
    browser.wait_text("#headline", *READY)
    # The browser itself tells of each connection refused meanwhile.
    assert all("ERR_CONNECTION" in line or "ERR_EMPTY" in line for line in browser.complaints())


def ask_for_a_key(appliance, browser, section=""):
    """Has it ask for a key; gives the key."""
    # The page of an appliance that is gone complains.
    browser.open("about:blank")
    browser.complaints()
    program = rig.OUT / "llm8850-supervisor"
    made = subprocess.run([program, "--make-key", "page"], capture_output=True, text=True, check=True).stdout
    entry = made[made.index("[[access.key]]") :]
    appliance.config.write_text(f"{appliance.config.read_text()}\n[access]\n{section}\n{entry}admin = true\n")
    appliance.supervisor.send_signal(signal.SIGHUP)
    return made.split()[0]


def test_a_key_is_asked_for_and_kept_while_the_tab_is_open(slow_appliance, browser, tmp_path):
    key = ask_for_a_key(slow_appliance, browser)
    rig.wait_until(lambda: slow_appliance.get("/v1/status")["keys"], 60, "keys asked for")
    browser.look(360)
    browser.open(slow_appliance.base + "/")
    # The state is told to everybody.
    browser.wait_text("#headline", *READY)
    assert browser.find("#access").is_displayed()
    assert browser.overflow() <= 0
    assert browser.violations() == []
    browser.shoot("locked")
    browser.find("#prompt").send_keys("Hello!", Keys.CONTROL, Keys.ENTER)
    browser.wait_text("#wrong", "API key")
    browser.find("#key").send_keys("sk-wrong", Keys.ENTER)
    browser.wait_text("#refused", "not accepted")
    browser.find("#key").clear()
    browser.find("#key").send_keys(key, Keys.ENTER)
    browser.wait(lambda: not browser.find("#access").is_displayed(), "the key was not accepted")
    browser.find("#send").click()
    browser.wait_text("#progress", "Done.")

    browser.open(slow_appliance.base + "/")
    browser.wait_text("#headline", *READY)
    assert not browser.find("#access").is_displayed()
    saving = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Page.setDownloadBehavior", saving)
    for name, part in (("diagnostics.tar.gz", b"\x1f\x8b"), ("log.txt", b"listening on")):
        browser.find(f"a[data-file$='{name}']").click()
        saved = tmp_path / f"llm8850-{name}"
        browser.wait(saved.exists, f"{name} was not saved")
        assert part in saved.read_bytes()
    assert browser.text("#unsaved") == ""
    assert key not in browser.run("return document.documentElement.outerHTML")
    complaints = browser.complaints()
    assert all("401" in line for line in complaints), complaints
    browser.run("sessionStorage.clear()")


def test_a_status_that_is_not_public_is_told_to_who_has_a_key(slow_appliance, browser):
    key = ask_for_a_key(slow_appliance, browser, "public_status = false")
    rig.wait_until(lambda: slow_appliance.status() is None, 60, "the status was not closed")
    browser.look()
    browser.open(slow_appliance.base + "/")
    browser.wait_text("#headline", "Locked")
    browser.find("#key").send_keys(key, Keys.ENTER)
    browser.wait_text("#headline", *READY)
    complaints = browser.complaints()
    assert all("401" in line for line in complaints), complaints
    browser.run("sessionStorage.clear()")
