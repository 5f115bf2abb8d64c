"""The cases of tests/lights/run: leds.py DIRECTORY KERNEL INITRD. LIGHTS="parked busy" runs only these.

The emulated card is broken so that the service enters a state; then the lamp is watched for some
periods, and what it did is compared with the table in docs/lights.md.
"""

import pathlib
import sys
import time

import patterns
from bench import WATCH, Bench, case, run
from guest import Guest
from states import last_lit

QEMU = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"]
LEDS = "luxafor0:green:led0 luxafor0:red:led0"
LIGHTS = """[lights]
driver = "leds"
status_led = "luxafor0:green:led0"
fault_led = "luxafor0:red:led0"
"""
# A pattern lasts 10 s, in ms, and a little longer in a machine that is short of time.
LASTS = 12_000


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


@case("without rights")
def without_rights(bench):
    """A service that may not write patterns sets each step itself."""
    bench.guest.say("chmod g-w /sys/class/leds/luxafor0:*:led0/*pattern")
    try:
        bench.ready(more="[limits]\nqueue = 3000\n")
        status, fault = bench.guest.watch(WATCH)
        return f"breath as a blink, {patterns.check_steps(status, 'breath')}, fault {patterns.check_steps(fault, '6 flashes')}"
    finally:
        bench.clear()
        bench.guest.say(f"rmmod ledtrig-pattern && udev {LEDS}")


@case("without kernel patterns")
def step_by_step(bench):
    """Without the module the supervisor sets each step; a killed one leaves the lights as they are."""
    bench.guest.say("rmmod ledtrig-pattern")
    try:
        bench.ready(more="[limits]\nqueue = 3000\n")
        status, fault = bench.guest.watch(WATCH)
        said = [f"breath as a blink, {patterns.check_steps(status, 'breath')}", patterns.check_steps(fault, "6 flashes")]
        bench.guest.wait(lambda: bench.guest.watch(0.05)[0].values == [255], 10, "a lit status light")
        bench.kill("KILL")
        left = bench.guest.watch(WATCH)[0].values
        assert left in ([255], [0]), f"nobody should drive it: {left}"
    finally:
        bench.guest.say(f"udev {LEDS}")
    bench.clear()
    # The next one takes over what the dead one left.
    bench.ready()
    return f"{', '.join(said)}; taken over: {bench.shows('ready')}"


def main():
    directory, kernel, initrd = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    begun = time.monotonic()
    guest = Guest(directory, QEMU, kernel, initrd)
    release = guest.say("uname -r")
    patterns.precise = tuple(map(int, release.split(".")[:2])) >= (6, 10)
    print(f"== Linux {release} is up after {time.monotonic() - begun:.0f} s", flush=True)
    run(guest, Bench(guest, "llm8850", LIGHTS, patterns.check))


main()
