"""The steps of tests/deb/run: steps.py LEADER ARCHITECTURE. Each waits for what it expects, and prints one line."""

import http.client
import json
import subprocess
import sys
import time

LEADER, ARCHITECTURE = sys.argv[1:]
CONFIG = "/etc/llm8850/config.toml"
UNITS = ("llm8850.service", "llm8850-card.socket", "llm8850-unload.service")
# What a person without the card would write.
OURS = """[server]
listen = ["127.0.0.1:8000"]
[worker]
runtime = "/usr/lib/llm8850/libaxcl_rt.so"
verify = false
[model]
dir = "/srv/model"
# No helper: there is no driver here that it could load.
[recovery]
state_dir = "/var/lib/llm8850/state"
"""
# In the container's network, from outside of its files.
ASK = """
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", 8000, timeout=120)
c.request(sys.argv[1], sys.argv[2], sys.argv[3] or None)
r = c.getresponse()
sys.stdout.write(f"{r.status}\\n" + r.read().decode())
"""


def inside(*command, check=True):
    enter = ["nsenter", "--target", LEADER, "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
    done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=300)
    if check and done.returncode:
        journal = "" if command[0] == "journalctl" else inside("journalctl", "--no-pager", "-n", "60")
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}\n{journal}")
    return done.stdout.strip()


def ask(method, path, body=""):
    command = ["nsenter", "--target", LEADER, "--net", "--", sys.executable, "-c", ASK, method, path, body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=130)
    if done.returncode:
        raise http.client.HTTPException(done.stderr)
    status, _, said = done.stdout.partition("\n")
    return int(status), said


def until(condition, what, limit=120):
    began, last = time.monotonic(), None
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except (OSError, http.client.HTTPException) as problem:
            last = problem
        if time.monotonic() - began > limit:
            journal = inside("journalctl", "--no-pager", "-n", "60")
            raise AssertionError(f"not within {limit} s: {what}; {last!r}\n{journal}")
        time.sleep(0.1)


def show(name, unit="llm8850.service"):
    return inside("systemctl", "show", "--value", "--property", name, unit, check=False)


def answer():
    asked = {"model": "any", "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}
    status, said = ask("POST", "/v1/chat/completions", json.dumps(asked))
    assert status == 200, said
    return json.loads(said)["choices"][0]["message"]["content"]


def dpkg(*arguments):
    return inside("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *arguments)


def step(what, measured=""):
    print(f"ok    {what:48} {measured}", flush=True)


until(lambda: inside("systemctl", "is-system-running", check=False) in ("running", "degraded"), "the container's boot")
failed_before = inside("systemctl", "--failed", "--plain", "--no-legend")

# Its own would have the helper look for a driver, and restart the host for want of one.
inside("/bin/sh", "-c", f"mkdir -p /etc/llm8850; cat > {CONFIG} <<'END'\n{OURS}END")
dpkg("--install", "--force-confold", f"/packages/llm8850_0.0.1_{ARCHITECTURE}.deb")
states = [inside("systemctl", "is-active", unit, check=False) for unit in UNITS]
assert states == ["active"] * 3, states
assert all(inside("systemctl", "is-enabled", unit) == "enabled" for unit in UNITS)
took = until(lambda: ask("GET", "/readyz")[0] == 200, "readiness")
owner = inside("stat", "--format=%U", "/var/lib/llm8850")
assert owner == "llm8850", owner
first = answer()
assert first.strip()
inside("llm8850-supervisor", "--check-config", "--config", f"{CONFIG}.dpkg-dist")
step("installed: answers; its own configuration is right", f"ready after {took:.1f} s")

before = show("MainPID")
dpkg("--install", "--force-confold", f"/packages/llm8850_0.0.2_{ARCHITECTURE}.deb")
took = until(lambda: show("MainPID") not in (before, "0") and ask("GET", "/readyz")[0] == 200, "readiness after the update")
assert inside("cat", CONFIG) == OURS.strip(), "the configuration was not kept"
assert answer() == first
step("updated: another process, the same configuration", f"ready after {took:.1f} s")

inside("systemctl", "disable", "--now", "llm8850.service")
dpkg("--install", "--force-confold", f"/packages/llm8850_0.0.2_{ARCHITECTURE}.deb")
assert inside("systemctl", "is-enabled", "llm8850.service", check=False) == "disabled"
assert inside("systemctl", "is-active", "llm8850.service", check=False) == "inactive"
inside("systemctl", "enable", "--now", "llm8850.service")
until(lambda: ask("GET", "/readyz")[0] == 200, "readiness")
step("disabled by its owner: stays so over an update")

dpkg("--remove", "llm8850")
assert show("ActiveState") == "inactive" and show("LoadState") == "not-found", show("LoadState")
assert inside("cat", CONFIG) == OURS.strip()
inside("test", "-d", "/var/lib/llm8850/state")
step("removed: stopped, configuration and incidents kept")

inside("install", "-d", "/var/lib/llm8850/model")
inside("touch", "/var/lib/llm8850/model/weights")
dpkg("--purge", "llm8850")
gone = "! test -e /etc/llm8850 && ! test -e /var/lib/llm8850/state && test -e /var/lib/llm8850/model/weights"
inside("/bin/sh", "-c", gone)
left = inside("/bin/sh", "-c", "find /etc /usr -name '*llm8850*' ! -path '/usr/share/doc/*'")
assert not left, left
assert inside("systemctl", "--failed", "--plain", "--no-legend") == failed_before
step("purged: nothing left but models")
print("5 passed, 0 failed")
