"""The virtual machine: a shell on a serial port, and the lamp's record."""

import atexit
import bisect
import json
import pathlib
import re
import socket
import subprocess
import time


class Shell:
    """A shell in a machine, at the other end of `self.socket`; it ends what it says to a line with `=== STATUS`."""

    # Limits of time are longer by this.
    PATIENCE = 1

    def answer(self, limit):
        """What a command wrote, and its exit status."""
        self.socket.settimeout(limit * self.PATIENCE)
        heard = b""
        while not (end := re.search(rb"=== (\d+)\r?\n$", heard)):
            try:
                heard += (more := self.socket.recv(65536))
            except TimeoutError:
                more = b""
            if not more:
                console = self.console.read_text()[-2000:] if self.console.exists() else ""
                raise AssertionError(f"the machine does not answer: {heard[-2000:]} {console}")
        return heard[: end.start()].decode().strip(), int(end.group(1))

    def say(self, command, limit=60, check=True):
        """Runs a line of shell in the machine; its output."""
        assert "\n" not in command, command
        self.socket.sendall(command.encode() + b"\n")
        told, status = self.answer(limit)
        assert not check or status == 0, f"{command}: {status}: {told}"
        return told

    def write(self, path, text):
        """Puts a small file into the machine, complete from the beginning."""
        escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("'", "'\\''").replace("%", "%%")
        self.say(f"printf '{escaped}' > {path}.new && mv {path}.new {path}")

    def wait(self, condition, limit, what, every=0.1):
        """Until `condition` gives something, which is returned."""
        end = time.monotonic() + limit * self.PATIENCE
        while not (found := condition()):
            assert time.monotonic() < end, f"{what}: not within {limit * self.PATIENCE} s"
            time.sleep(every)
        return found


class Guest(Shell):
    """A running machine. What the lamp showed is asked for by the machine's own clock, in ms since boot.

    The first serial port is the console, the second has the shell, the third the lamp's record.
    """

    CONSOLE = "ttyS0"

    def __init__(self, directory, qemu, kernel, initrd, options=""):
        self.record = directory / "lights.log"
        self.console = directory / "console.log"
        for file in (self.record, self.console):
            file.unlink(missing_ok=True)
        path = directory / "shell.sock"
        path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [*qemu, "-nodefaults", "-no-reboot", "-display", "none"]
            + ["-kernel", kernel, "-initrd", initrd]
            + ["-append", f"console={self.CONSOLE} quiet panic=-1 rdinit=/init {options}"]
            + [word for port in self.ports(f"unix:{path},server=on") for word in ("-serial", port)],
            stderr=(directory / "qemu.log").open("w"),
        )
        atexit.register(self.stop)
        self.socket = socket.socket(socket.AF_UNIX)
        self.wait(lambda: path.exists() or self.process.poll() is not None, 30, "QEMU's start")
        self.socket.connect(str(path))
        self.answer(180)

    def ports(self, shell):
        return f"file:{self.console}", shell, f"file:{self.record}"

    def stop(self):
        self.process.kill()
        self.process.wait()

    def status(self):
        """The service's own account, or nothing."""
        told = self.say("wget -qO- http://127.0.0.1:8000/v1/status 2> /dev/null", check=False)
        try:
            return json.loads(told)
        except ValueError:
            return None

    def wait_status(self, condition, limit, what):
        seen = []

        def found():
            seen.append(self.status())
            return seen[-1] if seen[-1] and condition(seen[-1]) else None

        try:
            return self.wait(found, limit, what)
        except AssertionError as e:
            last = seen[-1] or {}
            raise AssertionError(f"{e}; last: {last.get('state')} {last.get('incident')}") from None

    def clock(self):
        return int(float(self.say("cut -d' ' -f1 /proc/uptime")) * 1000)

    def watch(self, seconds):
        """What the lamp does from now on for so long: both lights' tracks."""
        start = self.clock()
        end = start + int(seconds * 1000)
        while (now := self.clock()) < end + 300:
            time.sleep(min(1, (end + 300 - now) / 1000))
        return self.tracks(start, end)

    def changes(self):
        """What the lamp did so far: (time, status light, fault light) at each change."""
        lines = self.record.read_text().splitlines(keepends=True)
        return [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]

    def tracks(self, start, end):
        """The status and the fault light's track: what shone at `start`, and each change until `end`."""
        changes = self.changes()
        times = [change[0] for change in changes]
        first = bisect.bisect_right(times, start)
        before = changes[first - 1] if first else (0, 0, 0)
        seen = [(start, *before[1:]), *changes[first : bisect.bisect_right(times, end)]]
        return [Track(seen, light, end) for light in (1, 2)]


class Track:
    """What one light did: stretches of (from, to, brightness), in ms."""

    def __init__(self, changes, light, end):
        self.stretches = []
        points = [(c[0], c[light]) for c in changes] + [(end, None)]
        for (start, value), (until, _) in zip(points, points[1:]):
            if self.stretches and self.stretches[-1][2] == value:
                start = self.stretches.pop()[0]
            self.stretches.append((start, until, value))

    @property
    def values(self):
        return [value for _, _, value in self.stretches]

    def lit(self, dark=False):
        """Stretches in which it shone, however brightly, or in which it was dark."""
        found = []
        for start, end, value in self.stretches:
            if (value == 0) == dark:
                if found and found[-1][1] == start:
                    start = found.pop()[0]
                found.append((start, end))
        return found

    def __str__(self):
        return " ".join(f"{value}:{end - start}" for start, end, value in self.stretches[:60])
