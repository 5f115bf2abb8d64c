"""The cases of tests/lights/run: cases.py DIRECTORY KERNEL INITRD. LIGHTS="parked busy" runs only these.

The emulated card is broken so that the service enters a state; then the lamp is watched for some
periods, and what it did is compared with the table in docs/lights.md.
"""

import os
import pathlib
import sys
import time
import traceback

import patterns
from guest import Guest

QEMU = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"]
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
[lights]
driver = "leds"
status_led = "luxafor0:green:led0"
fault_led = "luxafor0:red:led0"
"""
# Two periods of the slowest patterns, and a bit.
WATCH = 11
# A pattern lasts 10 s, in ms, and a little longer in a machine that is short of time.
LASTS = 12_000
# A chat whose answer lasts, and a card that takes its time for it.
REQUEST = '{"model":"any","messages":[{"role":"user","content":"Go on."}],"max_tokens":200,"temperature":0}'


def slowly(ms, call="axclrtEngineExecute*"):
    return f'{{"call": "{call}", "times": 0, "act": {{"hang_ms": {ms}}}}}'


class Bench:
    """The appliance in the machine."""

    def __init__(self, guest):
        self.guest = guest

    def start(self, *breaks, more="", settings="", rule=None):
        """A fresh card, and the service on it; not awaited."""
        guest = self.guest
        options = "".join(f" --break '{b}'" for b in breaks) + (f" --set '{settings}'" if settings else "")
        guest.say("rm -rf /tmp/card; mkdir -p /tmp/card/faults; chown -R llm8850 /tmp/card")
        guest.write("/tmp/start", f"axcl-machine /tmp/card{options} > /tmp/machine.log 2>&1 &\n")
        guest.say("su llm8850 -c 'sh /tmp/start'")
        guest.wait(lambda: "ready" in guest.say("cat /tmp/machine.log"), 30, "axcl-machine")
        # The made-up root of card and driver has the machine's true lights.
        guest.say("mkdir -p /tmp/card/root/sys/class && ln -s /sys/class/leds /tmp/card/root/sys/class/leds")
        if rule:
            self.rule(rule)
        guest.write("/tmp/config.toml", CONFIG + more)
        guest.write("/tmp/start", "llm8850-supervisor --config /tmp/config.toml > /tmp/log 2>&1 & echo $! > /tmp/pid\n")
        guest.say("su llm8850 -c 'sh /tmp/start'")
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
        """Ends everything. The worker ends with its supervisor, whose lights go dark by themselves."""
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
            said.append(f"{lamp} {patterns.check(track, name)}")
        assert after["lights"] == before["lights"], f"{row} did not last: {before} {after}"
        return ", ".join(said)


CASES = {}


def case(name):
    return lambda function: CASES.setdefault(name, function)


@case("probing, loading, ready")
def starting(bench):
    # The driver takes 14 s to load, then as long again to be opened.
    bench.start(settings='{"modprobe_ms": 14000}', rule=slowly(14000, "axclrtSetDevice").replace('"times": 0', '"times": 1'))
    bench.state("probing")
    said = ["probing: " + bench.shows("probing")]
    bench.state("loading")
    said.append("loading: " + bench.shows("loading"))
    bench.state("ready")
    said.append("ready: " + bench.shows("ready"))
    return "; ".join(said)


@case("busy")
def busy(bench):
    """The status light dips for each token."""
    bench.ready()
    bench.rule(slowly(20))
    bench.guest.write("/tmp/request", REQUEST)
    bench.guest.say("wget -O /tmp/answer --post-file /tmp/request http://127.0.0.1:8000/v1/chat/completions > /tmp/wget.log 2>&1 &")
    bench.guest.wait_status(lambda s: s["state"] == "busy" and s["counters"]["tokens"] > 1, 60, "an answer")
    first = bench.guest.status()["counters"]["tokens"]
    status, fault = bench.guest.watch(WATCH)
    tokens = bench.guest.status()["counters"]["tokens"] - first
    assert bench.guest.status()["state"] == "busy"
    dips = patterns.dips(status)
    # Status and lights are not read at the same moment.
    assert tokens >= 5 and abs(dips - tokens) <= 3, f"{dips} dips for {tokens} tokens"
    patterns.check(fault, "off")
    return f"{dips} dips for {tokens} tokens"


@case("stopping")
def stopping(bench):
    """Dark from the signal on, though an answer is still being given."""
    bench.ready()
    bench.rule(slowly(20))
    bench.guest.write("/tmp/request", REQUEST)
    bench.guest.say("wget -O /tmp/answer --post-file /tmp/request http://127.0.0.1:8000/v1/chat/completions > /tmp/wget.log 2>&1 &")
    bench.guest.wait_status(lambda s: s["counters"]["tokens"] > 1, 60, "an answer")
    signalled = bench.kill("TERM")
    bench.guest.wait(lambda: "-> stopping" in bench.guest.say("cat /tmp/log"), 10, "stopping")
    tracks = bench.guest.watch(6)
    assert bench.pid("llm8850-supervisor"), "the answer should still be under way"
    for track in tracks:
        patterns.check(track, "off")
    bench.guest.wait(lambda: not bench.pid("llm8850-supervisor"), 120, "the end")
    after = last_lit(bench, signalled)
    assert after < 1000, f"dark only {after} ms after SIGTERM"
    return f"dark {after} ms after SIGTERM, 6 s and more before the end"


def last_lit(bench, since):
    """How long after `since` either light shone last, in ms."""
    tracks = bench.guest.tracks(since, bench.guest.clock())
    ends = [end for track in tracks for _, end in track.lit()]
    assert all(track.values[-1] == 0 for track in tracks), f"not dark: {tracks[0]} / {tracks[1]}"
    return max(ends, default=since) - since


@case("killed")
def killed(bench):
    """An error in the configuration lets both lights shine; nobody is left to put them out."""
    bench.ready(more="[limits]\nqueue = 3000\n")
    said = bench.shows("ready, with an error in the configuration")
    since = bench.kill("KILL")
    bench.guest.wait(lambda: all(t.values == [0] for t in bench.guest.watch(3)), 30, "darkness")
    after = last_lit(bench, since)
    assert 2000 < after <= LASTS, f"the last light {after} ms after SIGKILL"
    return f"{said}; the last light {after / 1000:.1f} s after SIGKILL"


@case("hung")
def hung(bench):
    """A supervisor that hangs is as dark as a dead one, and shines again when it goes on."""
    bench.ready()
    since = bench.kill("STOP")
    bench.guest.wait(lambda: all(t.values == [0] for t in bench.guest.watch(3)), 30, "darkness")
    after = last_lit(bench, since)
    assert 2000 < after <= LASTS, f"the last light {after} ms after SIGSTOP"
    bench.kill("CONT")
    bench.state("ready")
    return f"the last light {after / 1000:.1f} s after SIGSTOP; going on: {bench.shows('ready')}"


@case("recovering R1")
def recovering_r1(bench):
    """A worker that hangs is given 30 s to end."""
    bench.ready()
    bench.guest.say("kill -STOP $(pidof llm8850-worker)")
    bench.state("recovering", 60)
    return bench.shows("recovering, R1")


@case("recovering R2, R3, R5")
def recovering(bench):
    """A card that only the host's restart mends: the ladder, one rung after the other."""
    bench.ready(settings='{"reboot_ms": 14000, "modprobe_ms": 14000}')
    bench.control('{"break": {"kind": "shutdown_hangs"}}')
    bench.control('{"break": {"kind": "dead", "heals_at": "R5"}}')
    return "; ".join(f"{rung}: {at_rung(bench, rung)}" for rung in ("R2", "R3", "R5"))


def at_rung(bench, rung):
    def reached(status):
        return status["state"] == "recovering" and (status["incident"] or {}).get("rung") == rung

    bench.guest.wait_status(reached, 240, f"rung {rung}")
    return bench.shows(f"recovering, {rung}")


@case("parked")
def parked(bench):
    """No firmware: only a person can help."""
    bench.start('{"kind": "firmware_missing"}')
    # The first rest lasts 5 s, the second 30 s.
    bench.state("parked", 120)
    bench.guest.wait_status(lambda s: s["state"] != "parked", 60, "the next try")
    bench.state("parked", 120)
    return bench.shows("parked")


@case("recovering R4, no card")
def no_card(bench):
    """Resetting the slot takes 20 s where no card appears."""
    bench.start('{"kind": "absent"}')
    said = "R4: " + at_rung(bench, "R4")
    bench.state("no_card")
    return f"{said}; no card: {bench.shows('no_card')}"


@case("degraded")
def degraded(bench):
    """No firmware, but a small model on the CPU."""
    more = '[fallback]\nmodel_dir = "/tmp/model"\nruntime = "/lib/libaxcl_rt.so"\n'
    bench.start('{"kind": "firmware_missing"}', more=more)
    bench.state("degraded", 120)
    return bench.shows("degraded", 16)


@case("thermal hold")
def thermal_hold(bench):
    bench.ready()
    bench.control('{"break": {"kind": "heat", "from": 60000, "to": 90000, "over_ms": 200}}')
    bench.state("thermal_hold", 60)
    return bench.shows("thermal_hold")


@case("without rights")
def without_rights(bench):
    """A service that may not write patterns sets each step itself."""
    bench.guest.say("chmod g-w /sys/class/leds/luxafor0:*:led0/*pattern")
    try:
        bench.ready(more="[limits]\nqueue = 3000\n")
        status, fault = bench.guest.watch(WATCH)
        return f"breath as a blink, {patterns.blink(status, 2500)}, fault {patterns.check(fault, '6 flashes')}"
    finally:
        bench.clear()
        bench.guest.say("rmmod ledtrig-pattern && udev")


@case("without kernel patterns")
def step_by_step(bench):
    """Without the module the supervisor sets each step; a killed one leaves the lights as they are."""
    bench.guest.say("rmmod ledtrig-pattern")
    try:
        bench.ready(more="[limits]\nqueue = 3000\n")
        status, fault = bench.guest.watch(WATCH)
        said = [f"breath as a blink, {patterns.blink(status, 2500)}", patterns.check(fault, "6 flashes")]
        bench.guest.wait(lambda: bench.guest.watch(0.05)[0].values == [255], 10, "a lit status light")
        bench.kill("KILL")
        left = bench.guest.watch(WATCH)[0].values
        assert left in ([255], [0]), f"nobody should drive it: {left}"
    finally:
        bench.guest.say("udev")
    bench.clear()
    # The next one takes over what the dead one left.
    bench.ready()
    return f"{', '.join(said)}; taken over: {bench.shows('ready')}"


def main():
    directory, kernel, initrd = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    wanted = os.environ.get("LIGHTS", "").split()
    chosen = [n for n in CASES if not wanted or any(w in n for w in wanted)]
    begun = time.monotonic()
    guest = Guest(directory, QEMU, kernel, initrd)
    failed = 0
    try:
        guest.say("axmodel-pack --hollow qwen2.5-0.5b -o /tmp/model > /dev/null 2>&1")
        release = guest.say("uname -r")
        patterns.precise = tuple(map(int, release.split(".")[:2])) >= (6, 10)
        print(f"== Linux {release} is up after {time.monotonic() - begun:.0f} s", flush=True)
        bench = Bench(guest)
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
    finally:
        guest.stop()
    print(f"== {len(chosen) - failed} of {len(chosen)} cases pass, {time.monotonic() - begun:.0f} s")
    sys.exit(1 if failed else 0)


main()
