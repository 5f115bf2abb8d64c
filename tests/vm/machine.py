"""The virtual machine: QEMU, with the Raspberry Pi's firmware played outside it (firmware.py)."""

import atexit
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import firmware
from card import run

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "lights"))
from guest import Shell  # noqa: E402

MACHINE = "virt"
# The Pi's own processor, one of it: the machine's time is the number of instructions, so that a slow host changes nothing of
# what happens in it, and several run beside each other.
PROCESSOR = ["-cpu", "cortex-a76", "-accel", "tcg", "-smp", "1", "-m", "1024"]
# With its memory laid out by chance Debian's kernel isolates page tables, which a Pi's does not and which makes QEMU several
# times slower. After a crash it waits busily for as long as `panic` says, which costs half a minute for each second.
OPTIONS = "panic=1 nokaslr mitigations=off lsm=capability init_on_alloc=0"
# The second port of the shell's device; see layer/.
PORTS = ("shell", "reboot")
# Of the PL061, where the device tree says that LEDs are.
STATUS_PIN, FAULT_PIN = 4, 5
PINS = 0x0903_0000 + (1 << STATUS_PIN | 1 << FAULT_PIN) * 4


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Monitor:
    """QEMU's own door (QMP): commands, and events in the order they came."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile()
        self.events = []
        self.lines.readline()
        self.do("qmp_capabilities")

    def next(self):
        """The next event, or nothing at the end."""
        if self.events:
            return self.events.pop(0)
        line = self.lines.readline()
        return json.loads(line) if line else None

    def do(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self.lines.readline():
            told = json.loads(line)
            if "event" in told:
                self.events.append(told)
                continue
            assert "return" in told, told
            return told["return"]
        raise AssertionError(f"QEMU ended over {command}")


class Ended(Exception):
    """The machine went off while something was asked of it."""


class Machine(Shell):
    """One appliance around one card. `power_on` and `cut` are what a plug does."""

    # A busy host is slow.
    PATIENCE = float(os.environ.get("PATIENCE", 2))

    def __init__(self, directory, card, stick, log=None, idle=True, slower=0):
        """With `log`, what is written to the card is recorded there. Without `idle` time that nothing happens in is left out. An
        instruction takes 2 to the power of `slower` ns."""
        self.directory, self.card, self.stick, self.log = pathlib.Path(directory), card, stick, log
        self.idle, self.slower = idle, slower
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port, self.ssh = free_port(), free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.process = self.monitor = self.socket = None
        self.partition, self.tryboot = None, False
        self.console = self.directory / "console.log"
        self.console.write_bytes(b"")
        atexit.register(self.cut)

    # The plug and the firmware.

    def power_on(self, tryboot=False, resume=None):
        """Starts what the firmware finds on the card, or goes on from where `resume` was kept."""
        assert self.process is None, "it is on"
        if resume:
            start, self.partition, self.tryboot = None, resume.partition, resume.tryboot
        else:
            start = self.choose(tryboot)
            assert start, "no slot would start"
            self.partition, self.tryboot = start.partition, tryboot
        self.tree()
        self.report = self.directory / "reboot"
        self.report.unlink(missing_ok=True)
        self.process = subprocess.Popen(self.command(start, resume), stderr=(self.directory / "qemu.log").open("a"))
        for name in ("qmp", "shell"):
            path = self.directory / name
            self.wait(lambda path=path: path.exists() or self.process.poll() is not None, 30, "QEMU's start")
        assert self.process.poll() is None, (self.directory / "qemu.log").read_text()[-1000:]
        self.monitor = Monitor(self.directory / "qmp")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(self.directory / "shell"))
        if resume:
            self.monitor.do("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
            self.monitor.do("migrate-incoming", uri=f"exec:cat {shlex.quote(str(resume.ram))}")
            # A machine that was kept stands still.
            self.until_event(lambda event: event["event"] == "MIGRATION" and event["data"]["status"] == "completed")
            self.monitor.do("cont")
            self.hello()
        return self

    def choose(self, tryboot):
        return firmware.choose(self.card, tryboot)

    def command(self, start, resume):
        for name in ("qmp", "shell"):
            (self.directory / name).unlink(missing_ok=True)
        at = self.directory
        (at / "kernel").write_bytes(start.kernel) if start else None
        (at / "initrd").write_bytes(start.initrd) if start else None
        cmdline = f"{start.cmdline} {OPTIONS}" if start else ""
        disk = {"driver": "qcow2", "node-name": "card", "file": {"driver": "file", "filename": str(self.card.path)}, "discard": "unmap"}
        if self.log:
            # What was written and flushed, in order: see cuts.py.
            disk = {"driver": "blklogwrites", "node-name": "logged", "file": disk, "log-sector-size": 512,
                    "log-super-update-interval": 1, "log": {"driver": "file", "filename": str(self.log)}}
            pathlib.Path(self.log).write_bytes(b"")
        return [
            "qemu-system-aarch64", "-M", MACHINE, *PROCESSOR, "-icount", f"shift={self.slower},sleep={'on' if self.idle else 'off'}",
            "-nodefaults", "-no-reboot", "-display", "none", "-action", "watchdog=reset,panic=none", "-dtb", at / "tree.dtb",
            *(["-kernel", at / "kernel", "-initrd", at / "initrd", "-append", cmdline] if start else ["-incoming", "defer"]),
            "-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console",
            "-chardev", f"socket,id=qmp,path={at / 'qmp'},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
            "-blockdev", json.dumps(disk), "-device", f"virtio-blk-pci,drive={disk['node-name']},id=disk",
            "-drive", f"file={self.stick},format=raw,if=none,id=stick,read-only=on", "-device", "virtio-blk-pci,drive=stick",
            "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:8000,hostfwd=tcp:127.0.0.1:{self.ssh}-:22",
            "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
            # The watchdog, and a function that stands for the card.
            "-device", "i6300esb", "-device", "edu,id=edu",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=shell,path={at / 'shell'},server=on,wait=off", "-device", "virtserialport,chardev=shell,name=shell",
            "-chardev", f"file,id=report,path={self.report}", "-device", "virtserialport,chardev=report,name=reboot",
        ]  # fmt: skip

    def tree(self):
        """The machine's device tree, with what the firmware tells in it and two LEDs."""
        plain, tree = self.directory / "plain.dtb", self.directory / "tree.dtb"
        if not plain.exists():
            run("qemu-system-aarch64", "-M", f"{MACHINE},dumpdtb={plain}", *PROCESSOR, "-nodefaults", "-display", "none")
        shutil.copy(plain, tree)
        run("fdtput", "-cp", tree, "/chosen/bootloader")
        for name, value in (("partition", self.partition), ("tryboot", int(self.tryboot)), ("build-timestamp", 1765000000)):
            run("fdtput", "-t", "u", tree, "/chosen/bootloader", name, str(value))
        pins = run("fdtget", "-t", "u", tree, "/pl061@9030000", "phandle").decode().strip()
        for name, pin in (("status", STATUS_PIN), ("fault", FAULT_PIN)):
            run("fdtput", "-cp", tree, f"/leds/{name}")
            run("fdtput", "-t", "s", tree, f"/leds/{name}", "label", f"llm8850:{name}")
            run("fdtput", "-t", "u", tree, f"/leds/{name}", "gpios", pins, str(pin), "0")
        run("fdtput", "-t", "s", tree, "/leds", "compatible", "gpio-leds")

    def cut(self):
        """The plug is pulled."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def until_event(self, wanted, limit=120):
        self.monitor.socket.settimeout(limit * self.PATIENCE)
        while event := self.monitor.next():
            if wanted(event):
                return event
        raise Ended(self.tail())

    def ended(self, limit=120):
        """Waits for the machine's own end: why, and what it asked of the firmware."""
        self.monitor.socket.settimeout(limit * self.PATIENCE)
        why = []
        try:
            while event := self.monitor.next():
                why.append(event.get("data", {}).get("reason") or event["event"].lower())
        except TimeoutError:
            raise AssertionError(f"it neither ended nor restarted within {limit * self.PATIENCE} s: {self.tail()}") from None
        self.process.wait()
        self.process = None
        asked = self.report.read_text().strip() if self.report.exists() else ""
        return why, asked

    def restarted(self, limit=120):
        """Waits for a restart and carries it out, as the firmware would; why it came about."""
        why, asked = self.ended(limit)
        assert "guest-reset" in why, f"no restart: {why} {self.tail()}"
        # The flag lives for one restart, and only one that was asked for.
        self.power_on(tryboot="tryboot" in asked.split() and "watchdog" not in why)
        return why

    # Keeping and going on.

    def keep(self, name):
        """The running machine, to be gone on with any number of times; it is off afterwards."""
        self.monitor.do("stop")
        self.socket.close()
        file = self.directory / f"{name}.ram"
        self.monitor.do("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.monitor.do("migrate", uri=f"exec:cat > {shlex.quote(str(file))}")
        end = self.until_event(lambda event: event["event"] == "MIGRATION" and event["data"]["status"] in ("completed", "failed"))
        assert end["data"]["status"] == "completed", self.monitor.do("query-migrate")
        self.monitor.do("quit")
        self.process.wait()
        self.process = None
        return Kept(file, self.card, self.partition, self.tryboot)

    # What is asked of it.

    def hello(self, limit=120):
        """The shell, from wherever it was."""
        self.socket.sendall(b"\n")
        self.answer(limit)

    def answer(self, limit):
        try:
            return super().answer(limit)
        except AssertionError as error:
            if self.process.poll() is not None:
                raise Ended(str(error)) from None
            raise

    def tail(self):
        return self.console.read_text(errors="replace")[-1500:]

    def get(self, path, limit=10):
        with urllib.request.urlopen(self.base + path, timeout=limit) as reply:
            return reply.status, reply.read()

    def answers(self, path):
        try:
            return self.get(path)[0] == 200
        except (OSError, urllib.error.URLError):
            if self.process.poll() is not None:
                raise Ended(f"the machine went off: {self.tail()}") from None
            return False

    def ready(self, limit=180):
        """Waits until it answers requests; the seconds that took."""
        begun = time.monotonic()
        # Asking costs the machine time.
        self.wait(lambda: self.answers("/readyz"), limit, "ready", every=1)
        return time.monotonic() - begun

    def ready_at_last(self, limit=180):
        """The same, through whatever restarts it asks for meanwhile."""
        while True:
            try:
                return self.ready(limit)
            except Ended:
                self.restarted()

    def pin(self, pin):
        """Whether the pin is high: out of the device's register, past the machine's own word."""
        told = self.monitor.do("human-monitor-command", **{"command-line": f"xp /1wx {PINS:#x}"})
        return bool(int(told.split(":")[1].strip(), 16) >> pin & 1)


class Kept:
    """A machine that was kept: its memory, and its card as it was."""

    def __init__(self, ram, card, partition, tryboot):
        self.ram, self.card, self.partition, self.tryboot = ram, card, partition, tryboot
