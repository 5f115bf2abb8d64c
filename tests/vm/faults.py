"""Cases: the start, the service's processes, the watchdog, the card's slot, settings, partitions."""

import io
import json
import os
import pathlib
import subprocess
import tarfile
import time
import urllib.request

from appliance import KEY, Debian, client
from card import Card
from machine import FAULT_PIN, STATUS_PIN

SEND_MODEL = pathlib.Path(__file__).resolve().parents[2] / "scripts/send-model"


def boot(bench):
    """from power to an answer, all units well, the start judged good"""
    with bench.machine("first") as machine:
        since = time.monotonic()
        machine.power_on()
        machine.ready()
        took = time.monotonic() - since
        assert machine.partition == 2
        machine.answers_right()
        asked = time.monotonic() - since
        machine.hello()
        slots = machine.judged()
        failed = machine.failed()
        assert not failed, f"failed units: {failed}"
        assert slots["running"] == "a", slots
        up = float(machine.say("cut -d' ' -f1 /proc/uptime"))
        size = int(machine.say("lsblk -bno SIZE /dev/disk/by-partlabel/models")) >> 20
        assert size > 1024, f"models has {size} MiB: it did not grow"
        assert machine.say("cat /sys/class/watchdog/watchdog0/identity") == "i6300ESB timer"
        assert "active" in machine.say("cat /sys/class/watchdog/watchdog0/state")
        mounted = machine.say("findmnt -no SOURCE,FSTYPE,OPTIONS /")
        assert "erofs ro" in " ".join(mounted.split()), mounted
        machine.say("echo kept >> /var/log/marker; sync")
        bench.kept = machine.keep("kept")
    by = slots["a"]["verdict"]["by"]
    return f"/readyz after {took:.0f} s, the answer after {asked:.0f} s, judged good by {by}; {up:.0f} s of its own time"


def chat(bench):
    """the official client, from outside through the forwarded port: whole as this machine's own service answers, and streamed"""
    with bench.running("chat") as machine:
        began = time.monotonic()
        machine.answers_right()
        took = time.monotonic() - began
        pieces = client(machine.base).chat.completions.create(
            model="any", messages=[{"role": "user", "content": "Say hello."}], temperature=0, max_tokens=6, stream=True
        )
        text = [p.choices[0].delta.content for p in pieces if p.choices and p.choices[0].delta.content]
        assert len(text) > 2, text
        assert client(machine.base).models.list().data
    return f"the golden answer in {took:.0f} s; streamed in {len(text)} pieces"


def archived(machine, name):
    """A file of the archive that a technician is sent."""
    _, archive = machine.get("/v1/diagnostics", limit=60)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        return files.extractfile(f"llm8850/{name}").read().decode()


def diagnostics(bench):
    """the archive that a technician is sent holds what the journal has of the service"""
    with bench.running("diagnostics") as machine:
        journal = archived(machine, "journal.txt")
        for words in ["listening on", "llm8850-boot-slot["]:
            assert words in journal, f"no {words}: {journal[:2000]}"
    return f"{len(journal.splitlines())} lines of the journal"


def lights(bench):
    """the lights, as the pins of the device have them: status breathes, fault is dark"""
    with bench.running("lights") as machine:
        assert machine.say("ls /sys/class/leds").split() == ["llm8850:fault", "llm8850:status"]
        seen = set()
        machine.wait(lambda: seen.add(machine.pin(STATUS_PIN)) or len(seen) == 2, 30, "a change of the status light")
        assert not machine.pin(FAULT_PIN), "the fault light shines"
        machine.say("systemctl stop llm8850")
        machine.wait(lambda: not machine.pin(STATUS_PIN), 30, "darkness")
    return "both levels seen, dark after a stop"


def slow(bench):
    """a processor sixteen times slower: everything takes longer, nothing is given up"""
    with bench.machine("slow", slower=4) as machine:
        machine.power_on()
        machine.ready()
        machine.answers_right()
        machine.hello()
        assert not machine.failed(), machine.failed()
        up = float(machine.say("cut -d' ' -f1 /proc/uptime"))
    return f"answered after {up:.0f} s of its own time"


def back(machine, fault, who):
    """A fault of the service after which it must answer as ever: how long it was away."""
    before = who()
    began = time.monotonic()
    fault(before)
    machine.wait(lambda: who() not in (0, before), 120, "another process")
    machine.ready()
    took = time.monotonic() - began
    machine.answers_right()
    return took


def supervisor(bench):
    """the supervisor killed, then stopped: another one answers"""
    with bench.running("supervisor") as machine:
        took = [back(machine, lambda pid, s=s: machine.say(f"kill -{s} {pid}"), machine.supervisor) for s in ("KILL", "STOP")]
        assert not machine.failed(), machine.failed()
    return f"killed: ready after {took[0]:.0f} s; stopped, ended by its watchdog: {took[1]:.0f} s"


def worker(bench):
    """the worker killed, then stopped while it answers: the same supervisor, the right answer"""
    with bench.running("worker") as machine:
        pid = machine.supervisor()
        killed = back(machine, lambda pid: machine.say(f"kill -KILL {pid}"), machine.worker)
        stopped = back(machine, lambda pid: (machine.say(f"kill -STOP {pid}"), machine.ask()), machine.worker)
        assert machine.supervisor() == pid, "the supervisor was restarted"
    return f"killed: ready after {killed:.0f} s; stopped in the middle: {stopped:.0f} s"


def memory(bench):
    """the kernel takes the worker for want of memory: the same supervisor, the right answer"""
    with bench.running("memory") as machine:
        pid = machine.supervisor()
        took = back(machine, lambda _: machine.say("echo f > /proc/sysrq-trigger"), machine.worker)
        killed = machine.say("dmesg | grep 'Out of memory: Killed' | tail -n 1")
        assert "llm8850-worker" in killed, killed
        assert machine.supervisor() == pid, "systemd ended the supervisor, too"
    return f"ready after {took:.0f} s"


def frozen(bench):
    """PID 1 frozen: the hardware watchdog restarts the host, and the journal of before is there"""
    with bench.running("frozen") as machine:
        machine.say("echo before-the-freeze | systemd-cat -t vm; journalctl --sync")
        began = time.monotonic()
        machine.say("echo 1 > /sys/fs/cgroup/init.scope/cgroup.freeze")
        why = machine.restarted()
        took = time.monotonic() - began
        assert "watchdog" in why, why
        machine.ready()
        machine.answers_right()
        machine.hello()
        assert "before-the-freeze" in machine.journal("-b -1", "-t vm"), "the journal of before is gone"
        both = archived(machine, "journal.txt").count("listening on")
        assert both >= 2, f"the archive tells of {both} of two starts"
    return f"reset after {took:.0f} s, answers {time.monotonic() - began:.0f} s after the freeze"


def crash(bench):
    """the kernel crashes (sysrq-c): the host restarts by itself"""
    with bench.running("crash") as machine:
        began = time.monotonic()
        machine.socket.sendall(b"echo c > /proc/sysrq-trigger\n")
        why = machine.restarted()
        took = time.monotonic() - began
        machine.ready()
        machine.answers_right()
    by = "by the watchdog" if "watchdog" in why else "by the kernel itself"
    return f"restarted after {took:.0f} s {by}, answers after {time.monotonic() - began:.0f} s"


def slot(bench):
    """a PCI function removed and found again on the real bus; service and host stay"""
    with bench.running("slot") as machine:
        at = machine.say("grep -lx 0x11e8 /sys/bus/pci/devices/*/device").removesuffix("/device")
        pid = machine.supervisor()
        machine.say(f"echo 1 > {at}/remove")
        assert machine.say(f"test -e {at} || echo gone") == "gone"
        machine.answers_right()
        machine.say("echo 1 > /sys/bus/pci/rescan")
        assert machine.say(f"cat {at}/vendor") == "0x1234"
        machine.answers_right()
        assert machine.supervisor() == pid
    return f"{at.rsplit('/', 1)[1]} went and came"


GOOD = b'# by hand\r\n[host]\r\nname = "lobby"\r\n[defaults]\r\nmax_tokens = 7\r\n'
BAD = b'[host]\r\nname = "hall"\r\n[netwrok]\r\nx = 1\r\n[defaults]\r\nmax_tokens = "many"\r\ntemperature = 0.5\r\n'


def settings(bench):
    """appliance.toml with Windows' line ends is taken; one with mistakes as far as it goes, and both are told in status.txt"""
    card = Card(bench.work / "settings-base.qcow2", bench.kept.card.path)
    card.put("setup", {"appliance.toml": GOOD})
    with bench.machine("settings", base=card.path) as machine:
        machine.power_on()
        machine.ready()
        machine.hello()
        assert machine.say("cat /proc/sys/kernel/hostname") == "lobby"
        assert "max_tokens = 7" in machine.say("cat /run/llm8850-config/config.toml")
        assert not machine.failed(), machine.failed()
        machine.cut()
        status = machine.card.file("setup", "status.txt").decode()
        assert "No mistakes." in status and "lobby" in status, status
        machine.card.put("setup", {"appliance.toml": BAD})
        machine.power_on()
        machine.ready()
        machine.answers_right()
        machine.hello()
        assert machine.say("cat /proc/sys/kernel/hostname") == "hall"
        assert not machine.failed(), machine.failed()
        machine.cut()
        status = machine.card.file("setup", "status.txt").decode()
        mistakes = [line for line in status.splitlines() if line.startswith("- ")]
        assert any("netwrok" in line for line in mistakes) and any("max_tokens" in line for line in mistakes), status
    return f"told: {' '.join(mistakes)}"


def zeroed(bench, name, *labels):
    """Starts it with nothing but zeros in these partitions, until it is reached."""
    card = Card(bench.work / f"{name}-base.qcow2", bench.kept.card.path)
    for label in labels:
        card.zero(label)
    return bench.machine(name, base=card.path)


def emptied_state(bench):
    """nothing but zeros in the partitions state and setup: both are made again, and it answers"""
    with zeroed(bench, "emptied_state", "state", "setup") as machine:
        began = time.monotonic()
        machine.power_on()
        machine.ready()
        took = time.monotonic() - began
        machine.answers_right()
        problems = told(machine)
        assert any("state" in line for line in problems) and any("setup" in line for line in problems), problems
        machine.cut()
        assert b"boot_partition=2" in machine.card.file("setup", "autoboot.txt")[:512]
        assert b"[host]" in machine.card.file("setup", "appliance.toml")
    return f"answers after {took:.0f} s; told: {problems}"


def emptied_models(bench):
    """nothing but zeros in the partition models: it is made again, and the box is reached, though it has no model"""
    with zeroed(bench, "emptied_models", "models") as machine:
        began = time.monotonic()
        machine.power_on()
        machine.wait(lambda: machine.answers("/livez"), 180, "an answer")
        took = time.monotonic() - began
        assert not machine.answers("/readyz"), "it is ready without a model"
        problems = told(machine)
        assert any("models" in line for line in problems), problems
    return f"reachable after {took:.0f} s; told: {problems}"


def told(machine):
    """What a start on a damaged card told, with all units well and both file systems there."""
    machine.hello()
    assert not machine.failed(), machine.failed()
    assert machine.say("findmnt -no FSTYPE /var; findmnt -no FSTYPE /models").split() == ["ext4", "ext4"]
    return [line[:160] for found in machine.told("problems").values() for line in found]


def reset(bench):
    """a factory reset, asked for by the service: settings and state as new, models kept"""
    with bench.running("reset") as machine:
        began = time.monotonic()
        machine.say("touch /var/lib/llm8850/mine && sync")
        machine.order("factory-reset")
        machine.restarted()
        machine.ready()
        machine.answers_right()
        machine.hello()
        assert machine.say("test -e /var/lib/llm8850/mine || echo gone") == "gone"
        assert not machine.failed(), machine.failed()
    return f"answers again after {time.monotonic() - began:.0f} s"


def asked(machine, method, path):
    """What an admin is answered."""
    request = urllib.request.Request(machine.base + path, method=method, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return reply.read()


def upload(bench):
    """a model sent over the network, the power cut meanwhile: the sender goes on where it was, and the model is there, whole; then it is chosen"""
    card = Card(bench.work / "upload-base.qcow2", bench.kept.card.path)
    card.put("setup", {"appliance.toml": f'[[access.key]]\nname = "tests"\nsecret = "{KEY}"\nadmin = true\n'.encode()})
    with bench.machine("upload", base=card.path) as machine:
        machine.power_on()
        machine.ready()
        sender = subprocess.Popen([SEND_MODEL, bench.model, machine.base, "--name", "second"], text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, env={**os.environ, "LLM8850_KEY": KEY})  # fmt: skip
        try:
            said = []
            for line in sender.stdout:
                said.append(line)
                if "_l1_" in line:
                    break
            machine.cut()
            assert KEY.encode() not in machine.card.file("setup", "appliance.toml"), "the key is still in the file"
            machine.power_on()
            machine.ready()
            rest, _ = sender.communicate(timeout=300 * machine.PATIENCE)
        finally:
            sender.kill()
        assert sender.returncode == 0 and "second is installed" in rest, (said, rest)
        machine.answers_right()
        machine.hello()
        machine.whole("second")
        # It is chosen: the service is started anew for it, and what it served before goes.
        pid = machine.supervisor()
        asked(machine, "POST", "/v1/models/installs/second/default")
        machine.wait(lambda: machine.supervisor() not in (0, pid), 60, "another service")
        machine.ready()
        machine.answers_right()
        assert json.loads(asked(machine, "GET", "/v1/models/installs"))["default"] == "second"
        machine.hello()
        assert machine.say("readlink /models/default") == "second"
        assert not machine.failed(), machine.failed()
    return rest.strip().splitlines()[0]


def debian(bench):
    """the Debian package on a Debian: installed, answers, also after its worker's end and a restart; removed"""
    with bench.machine("debian", base=bench.stock / "debian.img", kind=Debian) as machine:
        machine.power_on()
        machine.hello()
        # Debian was unpacked here: its dpkg knows of no package.
        machine.say("dpkg --force-depends --force-confold --install /root/llm8850.deb", limit=300)
        began = time.monotonic()
        machine.ready()
        took = time.monotonic() - began
        machine.answers_right()
        pid = machine.supervisor()
        machine.say("kill -KILL $(pgrep -x llm8850-worker)")
        machine.answers_right()
        assert machine.supervisor() == pid
        machine.say("systemctl --no-block reboot")
        machine.restarted()
        machine.ready()
        machine.answers_right()
        machine.hello()
        assert not machine.failed(), machine.failed()
        machine.say("dpkg --remove llm8850", limit=300)
        assert machine.show("LoadState") == "not-found", machine.show("LoadState")
    return f"ready {took:.0f} s after the installation"


# The long ones first, for the machines to end together.
CASES = [settings, debian, upload, emptied_state, emptied_models, slow, frozen, crash, reset,
         supervisor, worker, memory, chat, diagnostics, lights, slot]  # fmt: skip
