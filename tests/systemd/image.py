"""The cases of tests/systemd/run-image: image.py LEADER NSPAWN ROOT, in the container's network."""

import json
import pathlib
import shutil
import struct
import sys

from cases import LEADER, ROOT, ask, get, inside, ready, until

FORGETFUL = "nothing is remembered over a restart"
# What the container has not: boot firmware that knows of slots, ssh.
ABSENT = ("llm8850-slots.service", "llm8850-judge.service", "sshd-key.service")


def status():
    return json.loads(get("/v1/status")[1])


def answers():
    assert ask()["choices"][0]["message"]["content"], "no answer"


def without_var():
    """without the partition `state`"""
    took = until(ready, "ready", limit=240)
    assert inside("findmnt", "--noheadings", "--output", "FSTYPE", "/var") == "tmpfs"
    for unit in ("llm8850.service", "var.mount", "llm8850-disks.service", "llm8850-provision.service"):
        assert inside("systemctl", "is-active", unit) == "active", unit
    failed = [line.split()[0] for line in
              inside("systemctl", "list-units", "--state=failed", "--plain", "--no-legend").splitlines()]
    assert set(failed) <= set(ABSENT), failed
    # What it keeps is its own to write.
    inside("touch", "/var/lib/llm8850/state/probe", "/var/lib/llm8850/orders/.probe", user="llm8850")
    told = status()["problems"]
    assert any("no partition `state`" in problem for problem in told), told
    assert any(FORGETFUL in problem for problem in told), told
    answers()
    return f"ready after {took:.1f} s, with /var in memory, and told"


def judged():
    """slots, told of by a made-up boot firmware, within their units' limits"""
    host = pathlib.Path(f"/proc/{LEADER}/root/run/host-with-slots")
    chosen = host / "proc/device-tree/chosen/bootloader"
    for directory in (chosen, host / "setup", host / "var/lib", host / "usr/lib"):
        directory.mkdir(parents=True)
    for name, number in (("partition", 2), ("tryboot", 0), ("build-timestamp", 1_800_000_000)):
        (chosen / name).write_bytes(struct.pack(">I", number))
    for unit, verb in (("llm8850-slots", "start"), ("llm8850-judge", "judge")):
        drop_in = pathlib.Path(f"/proc/{LEADER}/root/run/systemd/system/{unit}.service.d/10-host.conf")
        drop_in.parent.mkdir(parents=True)
        program = "/usr/bin/llm8850-boot-slot --system-root /run/host-with-slots --setup-dir /run/host-with-slots/setup"
        drop_in.write_text(f"[Service]\nExecStart=\nExecStart={program} {verb}\n")
    inside("systemctl", "daemon-reload")
    inside("systemctl", "restart", "llm8850-slots.service", "llm8850-judge.service")
    told = host / "run/llm8850-appliance/slots.json"
    until(lambda: json.loads(told.read_text())["a"]["state"] == "good", "judged good")
    assert "boot_partition=2" in (host / "setup/autoboot.txt").read_text()
    return f"judged good: {json.loads(told.read_text())['a']['verdict']['by']}"


def without_a_card():
    """with the vendor's runtime, but no card"""
    (ROOT / "usr/lib/axcl").mkdir()
    # A host whose buses are empty.
    (ROOT / "srv/host/proc").mkdir(parents=True)
    (ROOT / "srv/host/proc/modules").touch()
    (ROOT / "srv/host/sys/bus/pci/devices").mkdir(parents=True)
    (ROOT / "srv/host/run").symlink_to("/run")
    config = ROOT / "usr/lib/llm8850/config.toml"
    config.write_text(config.read_text().replace("[recovery]\n", '[recovery]\nsystem_root = "/srv/host"\n'))
    shutil.copy(ROOT / "usr/lib/llm8850/libaxcl_rt.so", ROOT / "usr/lib/axcl")
    shutil.copytree(ROOT / "models/default", ROOT / "models/fallback")
    inside("systemctl", "restart", "llm8850-provision.service", "llm8850.service")
    took = until(lambda: status()["state"] == "degraded" and ready(), "degraded", limit=240)
    told = status()
    assert "no_card -> degraded" in inside("journalctl", "--no-pager", "--unit=llm8850")
    assert told["model"]["runtime"].endswith("_emulated"), told["model"]
    answers()
    return f"the small model answers after {took:.1f} s"


def main():
    for case in (without_var, judged, without_a_card):
        try:
            print(f"ok      {case.__doc__}: {case()}", flush=True)
        except Exception as error:
            print(inside("journalctl", "--no-pager", "-n", "120", check=False))
            print(f"FAILED  {case.__doc__}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
