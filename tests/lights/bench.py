"""The appliance in the virtual machine, and how its cases are run."""

import os
import sys
import time
import traceback

import patterns

# Without the lights.
CONFIG = """[server]
listen = ["127.0.0.1:8000"]
[worker]
runtime = "/lib/libaxcl_rt.so"
verify = false
env = { AXCL_EMU_DIR = "/tmp/card" }
term_s = 30
[model]
dir = "/tmp/model"
[recovery]
helper = "/bin/llm8850-card-helper"
system_root = "/tmp/card/root"
state_dir = "/tmp/card/state"
"""
# Two periods of the slowest patterns, and a bit.
WATCH = 11
# A chat whose answer lasts, and a card that takes its time for it.
REQUEST = '{"model":"any","messages":[{"role":"user","content":"Go on."}],"max_tokens":200,"temperature":0}'


def slowly(ms, call="axclrtEngineExecute*"):
    return f'{{"call": "{call}", "times": 0, "act": {{"hang_ms": {ms}}}}}'


class Bench:
    """The appliance in the machine: `lights` is its configuration of them, `check` judges what one of them does."""

    def __init__(self, guest, user, lights, check):
        self.guest, self.user, self.lights, self.check = guest, user, lights, check

    def start(self, *breaks, more="", settings="", rule=None, lights=None):
        """A fresh card, and the service on it; not awaited."""
        guest = self.guest
        options = "".join(f" --break '{b}'" for b in breaks) + (f" --set '{settings}'" if settings else "")
        guest.say(f"rm -rf /tmp/card /tmp/log /tmp/pid /tmp/machine.log; mkdir -p /tmp/card/faults; chown -R {self.user} /tmp/card")
        guest.write("/tmp/start", f"axcl-machine /tmp/card{options} > /tmp/machine.log 2>&1 &\n")
        guest.say(f"su {self.user} -c 'sh /tmp/start'")
        guest.wait(lambda: "ready" in guest.say("cat /tmp/machine.log"), 30, "axcl-machine")
        # The made-up root of card and driver has the machine's true lights.
        guest.say("cd /tmp/card/root && mkdir -p proc sys/class && ln -s /sys/class/leds sys/class/ && ln -s /proc/device-tree proc/")
        if rule:
            self.rule(rule)
        guest.write("/tmp/config.toml", CONFIG + (lights or self.lights) + more)
        guest.write("/tmp/start", "llm8850-supervisor --config /tmp/config.toml > /tmp/log 2>&1 & echo $! > /tmp/pid\n")
        guest.say(f"su {self.user} -c 'sh /tmp/start'")
        guest.wait(guest.status, 60, "the service's first answer")

    def ready(self, *breaks, **options):
        self.start(*breaks, **options)
        self.state("ready", 120)

    def rule(self, rule):
        self.guest.write("/tmp/card/faults/rule.json", rule)

    def control(self, command):
        """Asks axcl-machine."""
        self.guest.say(f"ask /tmp/card/machine.sock '{command}'")

    def state(self, name, limit=60):
        return self.guest.wait_status(lambda s: s["state"] == name, limit, name)

    def kill(self, name):
        """Sends the supervisor a signal; when."""
        return int(float(self.guest.say(f"kill -{name} $(cat /tmp/pid) && cut -d' ' -f1 /proc/uptime")) * 1000)

    def pid(self, name):
        return self.guest.say(f"pidof {name}", check=False)

    def clear(self):
        """Ends everything. The worker ends with its supervisor."""
        self.guest.say("killall -KILL llm8850-supervisor llm8850-worker axcl-machine 2> /dev/null", check=False)
        self.guest.wait(lambda: not self.pid("llm8850-supervisor"), 20, "the supervisor's end")

    def shows(self, row, seconds=WATCH):
        """Watches both lights, which must show the table's row for a state that lasts."""
        before = self.guest.status()
        tracks = self.guest.watch(seconds)
        after = self.guest.status()
        said = []
        for track, name, lamp in zip(tracks, patterns.expected(row), ("status", "fault")):
            told = before["lights"][lamp]["shows"]["name"]
            assert told == name, f"{row}: /v1/status tells {told!r} of the {lamp} light, the table {name!r}"
            said.append(f"{lamp} {self.check(track, name)}")
        assert after["lights"] == before["lights"], f"{row} did not last: {before} {after}"
        return ", ".join(said)


CASES = {}


def case(name):
    return lambda function: CASES.setdefault(name, function)


def run(guest, bench):
    """All cases, or those asked for; ends the program."""
    wanted = os.environ.get("LIGHTS", "").split()
    chosen = [n for n in CASES if not wanted or any(w in n for w in wanted)]
    begun = time.monotonic()
    failed = 0
    guest.say("axmodel-pack --hollow qwen2.5-0.5b -o /tmp/model > /dev/null 2>&1", 120)
    for name in chosen:
        since = time.monotonic()
        try:
            said = CASES[name](bench)
            print(f"ok     {name} ({time.monotonic() - since:.0f} s): {said}", flush=True)
        except Exception as e:
            failed += 1
            print(f"FAILED {name}: {e}", flush=True)
            if not isinstance(e, AssertionError):
                traceback.print_exc()
            print(guest.say("tail -n 30 /tmp/log; cat /tmp/wget.log", check=False))
        bench.clear()
    print(f"== {len(chosen) - failed} of {len(chosen)} cases pass, {time.monotonic() - begun:.0f} s")
    sys.exit(1 if failed else 0)
