"""The cases of tests/lights/run-gpio: pins.py DIRECTORY KERNEL INITRD DEVICE-TREE. LIGHTS="parked busy" runs only these.

As in leds.py, but what is watched are the pins of a Raspberry Pi 4, as their registers tell.
"""

import pathlib
import sys
import time

import patterns
from bench import WATCH, Bench, case, run
from guest import Guest
from states import last_lit

QEMU = ["qemu-system-aarch64", "-M", "raspi4b", "-accel", "tcg,thread=multi", "-m", "2048"]
# /dev/mem takes the place of /dev/gpiomem, which only Raspberry Pi OS has.
OPTIONS = "iomem=relaxed"
LIGHTS = '[lights]\ndriver = "auto"\n'
ERROR = "[limits]\nqueue = 3000\n"
ROW = "ready, with an error in the configuration"


class Pi(Guest):
    """Its only serial port is console and shell; what the pins do is kept in a file."""

    CONSOLE = "ttyAMA0"
    PATIENCE = 4
    pins, active_low = (23, 24), False

    def ports(self, shell):
        return (shell,)

    def record_of_pins(self):
        """(time, levels, outputs) at each change."""
        lines = self.say("cat /tmp/pins").splitlines()
        return [(int(time), int(levels, 16), int(outputs, 16)) for time, levels, outputs in map(str.split, lines)]

    def changes(self):
        """A light shines where its pin is an output of the right level."""
        return [
            (time, *(255 * (outputs >> pin & 1 and (levels >> pin & 1) != self.active_low) for pin in self.pins))
            for time, levels, outputs in self.record_of_pins()
        ]

    def outputs(self):
        """Pins that are outputs now: by the registers, which the kernel must confirm."""
        _, _, mask = self.record_of_pins()[-1]
        found = {pin for pin in range(28) if mask >> pin & 1}
        told = self.say("grep -h 'function gpio_out' /sys/kernel/debug/pinctrl/fe200000.gpio*/pins | cut -d' ' -f2", check=False)
        assert {int(pin) for pin in told.split()} == found, f"the kernel's outputs: {told}; by registers: {found}"
        return found

    def power_on(self):
        """The pins as after switching on, inputs all, and a new record of them: a killed service leaves outputs."""
        self.say("for register in 0 4 8; do devmem 0xfe20000$register 32 0; done")
        self.say("kill $(pidof pins); rm -f /tmp/pins; pins > /tmp/pins 2> /dev/console &")
        self.wait(lambda: self.say("cat /tmp/pins"), 10, "a record of the pins")


def end(bench):
    """Ends the service in good order; how long after the signal a light shone last, in ms."""
    since = bench.kill("TERM")
    bench.guest.wait(lambda: not bench.pid("llm8850-supervisor"), 30, "the end")
    return last_lit(bench, since)


@case("ended")
def ended(bench):
    """The pins are taken, and given back dark."""
    bench.guest.power_on()
    bench.ready(more=ERROR)
    said = bench.shows(ROW)
    assert bench.guest.outputs() == {23, 24}, bench.guest.outputs()
    after = end(bench)
    assert after < 1000, f"dark only {after} ms after SIGTERM"
    assert bench.guest.outputs() == set(), "the pins should be inputs again"
    return f"{said}; dark {after} ms after SIGTERM, and the pins inputs again"


@case("other pins, active low")
def other_pins(bench):
    guest = bench.guest
    guest.power_on()
    guest.pins, guest.active_low = (5, 6), True
    try:
        lights = '[lights]\ndriver = "gpio"\nstatus_pin = 5\nfault_pin = 6\npolarity = "active_low"\n'
        bench.ready(more=ERROR, lights=lights)
        said = bench.shows(ROW)
        after = end(bench)
        record = guest.record_of_pins()
        moved = {pin for pin in range(28) for _, levels, outputs in record if (levels ^ record[0][1] | outputs) >> pin & 1}
        assert moved == {5, 6}, f"pins that moved: {moved}"
        assert guest.outputs() == set(), "the pins should be inputs again"
        return f"{said}; dark {after} ms after SIGTERM; no other pin moved"
    finally:
        guest.pins, guest.active_low = Pi.pins, Pi.active_low


def stop_lit(bench):
    """Stops the supervisor in a moment in which the status light shines."""
    while True:
        bench.kill("STOP")
        if bench.guest.watch(0.1)[0].values == [255]:
            return
        bench.kill("CONT")


@case("killed, hung")
def killed(bench):
    """Nobody puts out the light of a supervisor that is dead or hangs; the next one takes it over."""
    bench.ready()
    stop_lit(bench)
    left = bench.guest.watch(WATCH)[0].values
    assert left == [255], f"nobody should drive it: {left}"
    bench.kill("CONT")
    said = f"going on: {bench.shows('ready')}"
    stop_lit(bench)
    bench.kill("KILL")
    left = bench.guest.watch(WATCH)[0].values
    assert left == [255] and bench.guest.outputs() == {23, 24}, f"nobody should drive it: {left}"
    bench.clear()
    bench.ready()
    return f"stays lit for {WATCH} s and more after SIGSTOP; {said}; stays lit after SIGKILL; taken over: {bench.shows('ready')}"


@case("without rights")
def without_rights(bench):
    """A service that may not have the pins says so, and serves."""
    user, bench.user = bench.user, "llm8850"
    bench.guest.power_on()
    try:
        bench.ready()
        told = [line for line in bench.guest.say("cat /tmp/log").splitlines() if "E-LIGHTS" in line]
        assert len(told) == 1 and bench.guest.outputs() == set(), f"told: {told}"
        return told[0].partition("ERROR ")[2]
    finally:
        bench.user = user


@case("kernel's LEDs on the pins")
def leds(bench):
    """What the image does: leds-gpio drives the pins, and the kernel plays the patterns."""
    user, bench.user = bench.user, "llm8850"
    bench.guest.say("insmod /modules/leds-gpio.ko && udev llm8850:status llm8850:fault")
    try:
        bench.ready(more=ERROR)
        said = bench.shows(ROW)
        since = bench.kill("KILL")
        bench.guest.wait(lambda: all(t.values == [0] for t in bench.guest.watch(3)), 30, "darkness")
        return f"{said}; the last light {last_lit(bench, since) / 1000:.1f} s after SIGKILL"
    finally:
        bench.clear()
        bench.user = user
        bench.guest.say("rmmod leds-gpio ledtrig-pattern")


def main():
    directory, kernel, initrd, tree = pathlib.Path(sys.argv[1]), *sys.argv[2:5]
    begun = time.monotonic()
    guest = Pi(directory, [*QEMU, "-dtb", tree], kernel, initrd, OPTIONS)
    model = guest.say("tr '\\0' '\\n' < /proc/device-tree/model")
    print(f"== {model}, Linux {guest.say('uname -r')} is up after {time.monotonic() - begun:.0f} s", flush=True)
    run(guest, Bench(guest, "root", LIGHTS, patterns.check_steps))


main()
