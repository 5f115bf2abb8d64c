"""The cases of tests/systemd/run: cases.py LEADER NSPAWN ROOT, in the container's network.

Every case waits for events with a limit, prints one line with what it measured, and leaves the
service ready. The exit status tells whether all passed. CASES="hung worker" runs only these.
"""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback

LEADER, NSPAWN, ROOT = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
ADDRESS = ("127.0.0.1", 8000)
UNIT = "llm8850.service"
QUESTION = {
    "model": "any",
    "temperature": 0,
    "max_tokens": 48,
    "messages": [{"role": "user", "content": "Name three colours of the rainbow and say why."}],
}
NOTES = []
# Cases that are known to fail, and why; one that passes must leave this list.
KNOWN = {}


def inside(*command, user=None, check=True, stdin=None):
    """Runs a command in the container; its output."""
    enter = ["nsenter", "--target", LEADER, "--mount", "--uts", "--ipc", "--pid", "--"]
    if user:
        enter += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
    done = subprocess.run([*enter, *command], capture_output=True, text=True, input=stdin, timeout=120)
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def shell(script, **options):
    return inside("/bin/sh", "-c", script, **options)


def signal(name, pid):
    shell(f"kill -{name} {pid}")


def show(name):
    return inside("systemctl", "show", "--value", "--property", name, UNIT)


def supervisor():
    return int(show("MainPID"))


def workers():
    return [int(pid) for pid in shell("grep -lsx llm8850-worker /proc/[0-9]*/comm | cut -d/ -f3").split()]


def get(path, limit=5):
    connection = http.client.HTTPConnection(*ADDRESS, timeout=limit)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def ask(limit=120, request=QUESTION):
    """One chat completion over HTTP: the whole reply."""
    connection = http.client.HTTPConnection(*ADDRESS, timeout=limit)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(request))
        response = connection.getresponse()
        body = json.loads(response.read())
        assert response.status == 200, body
        return body
    finally:
        connection.close()


def text(reply):
    return reply["choices"][0]["message"]["content"]


def until(condition, what, limit=60):
    """Waits until it is so; the seconds that took."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except (OSError, http.client.HTTPException):
            pass
        assert time.monotonic() - began < limit, f"not within {limit} s: {what}"
        time.sleep(0.02)


def ready():
    return get("/readyz")[0] == 200


def answers_as_ever():
    assert text(ask()) == ANSWER, "another answer than without a fault"


class Caller(threading.Thread):
    """Connects and asks /livez over and over; counts what clients would have noticed."""

    def __init__(self):
        super().__init__(daemon=True)
        self.asked = self.refused = self.broken = 0
        self.longest = 0.0
        self.going = True

    def run(self):
        while self.going:
            began = time.monotonic()
            try:
                self.asked += 1
                get("/livez", limit=60)
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException):
                self.broken += 1
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.05)

    def end(self):
        self.going = False
        self.join()


def kept_reachable(fault):
    """Lets `fault` end the supervisor while a client calls; what is to be said of it."""
    before, restarts = supervisor(), int(show("NRestarts"))
    stored = int(show("NFileDescriptorStore") or 0)
    caller = Caller()
    caller.start()
    began = time.monotonic()
    fault(before)
    until(lambda: int(show("NRestarts")) > restarts, "a restart")
    again = time.monotonic() - began
    until(ready, "ready again")
    whole = time.monotonic() - began
    caller.end()
    assert supervisor() != before
    answers_as_ever()
    if stored:
        assert caller.refused == 0, f"{caller.refused} connections were refused"
    else:
        NOTES.append("no listening socket is in systemd's store: refused connections are not judged")
    return (f"restarted after {again:.1f} s, ready after {whole:.1f} s; {caller.asked} calls, "
            f"{caller.refused} refused, {caller.broken} broken, longest {caller.longest:.1f} s")


def case_boot():
    """the service becomes ready by itself"""
    took = until(ready, "ready", limit=120)
    boot = int(show("ActiveEnterTimestampMonotonic")) - int(show("InactiveExitTimestampMonotonic"))
    global ANSWER
    reply = ask()
    ANSWER = text(reply)
    assert ANSWER and reply["usage"]["completion_tokens"] > 5
    return f"ready {took:.1f} s after the boot began; systemd had its notice after {boot / 1e6:.2f} s"


def case_rights():
    """the service has no rights but the kernel's log"""
    status = shell(f"cat /proc/{supervisor()}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    user = inside("id", "-u", "llm8850")
    assert fields["Uid"].split()[0] == user
    assert int(fields["CapEff"], 16) == 1 << 34, fields["CapEff"]
    assert fields["NoNewPrivs"].strip() == "1"
    score = shell(f"cat /proc/{supervisor()}/oom_score_adj /proc/{workers()[0]}/oom_score_adj").split()
    return f"uid {user}, CAP_SYSLOG alone, oom_score_adj {' and worker '.join(score)}"


def opened(kind, major):
    """What comes of opening a device node, made now, of which there is no device, within the service's limits."""
    return shell(f"mknod /dev/probe {kind} {major} 250; echo $$ > /sys/fs/cgroup{show('ControlGroup')}/cgroup.procs;"
                 " head -c 0 /dev/probe 2>&1 > /dev/null < /dev/null; rm /dev/probe", check=False)


def case_sandbox():
    """of /sys the service may write devices, LEDs among them, and it opens no disks"""
    # The container's own /sys is read-only throughout: two parts of it that were not, for the service that starts then.
    parts = ("/sys/devices", "/sys/bus")
    for part in parts:
        inside("mount", "-t", "tmpfs", "tmpfs", part)
    inside("systemctl", "restart", UNIT)
    until(ready, "ready after a restart", limit=120)
    options = {}
    for line in shell(f"cat /proc/{supervisor()}/mountinfo").splitlines():
        fields = line.split()
        options[fields[4]] = fields[5].split(",")[0]
    assert [options[part] for part in (*parts, "/proc/sys")] == ["rw", "ro", "ro"], options
    inside("umount", *parts)
    # What only drivers of later give a meaning is admitted, too.
    assert "No such device" in opened("c", 240), opened("c", 240)
    assert "not permitted" in opened("b", 7), opened("b", 7)
    return "/sys/devices can be written, the rest of /sys cannot; disks are refused, a driver's nodes to come are not"


def case_helper():
    """the card helper answers the service's user, and nobody else"""
    def talk(user):
        # There is no Python in the container: this machine's goes through the leader's root.
        path = f"/proc/{LEADER}/root/run/llm8850/card.sock"
        program = ("import os,socket,sys\n"
                   "s=socket.socket(socket.AF_UNIX); s.settimeout(30)\n"
                   "uid=int(sys.argv[2]); gid=int(sys.argv[3])\n"
                   "d=os.open(os.path.dirname(sys.argv[1]),os.O_PATH); os.fchdir(d)\n"
                   "os.setgroups([]); os.setgid(gid); os.setuid(uid)\n"
                   "s.connect('card.sock'); s.sendall(b'{\"verb\":\"probe\"}\\n')\n"
                   "print(s.makefile().read())\n")
        uid, gid = inside("id", "-u", user), inside("id", "-g", user)
        return subprocess.run([sys.executable, "-c", program, path, uid, gid], capture_output=True, text=True)
    began = time.monotonic()
    mine, other = talk("llm8850"), talk("nobody")
    took = time.monotonic() - began
    facts = json.loads(mine.stdout)["done"]
    assert facts["modules"] == ["axcl_host", "ax_pcie_mmb", "ax_pcie_msg", "ax_pcie_host_dev"], facts
    assert "Permission denied" in other.stderr, other
    until(lambda: "llm8850-card@" not in inside("systemctl", "list-units", "--all", "--plain", "llm8850-card@*"),
          "no instance is left")
    return f"probe told {len(facts['modules'])} modules, both in {took:.1f} s; no instance is left"


def case_hung():
    """a supervisor that hangs is killed by the watchdog"""
    return kept_reachable(lambda pid: signal("STOP", pid))


def case_killed():
    """a supervisor that is killed starts again"""
    return kept_reachable(lambda pid: signal("KILL", pid))


def case_crash_loop():
    """a supervisor killed more often than systemd's default bears still comes back"""
    began, times = time.monotonic(), 12
    for _ in range(times):
        pid = supervisor()
        signal("KILL", pid)
        until(lambda: supervisor() not in (0, pid), "another process")
    until(ready, "ready again")
    answers_as_ever()
    return f"{times} times in {time.monotonic() - began:.1f} s, then ready"


def stream(request):
    """A streamed chat completion, piece by piece."""
    connection = http.client.HTTPConnection(*ADDRESS, timeout=120)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(request | {"stream": True}))
        for line in connection.getresponse():
            data = line.decode().removeprefix("data: ").strip()
            if data.startswith("{"):
                yield json.loads(data)["choices"][0]["delta"].get("content") or ""
            elif data == "[DONE]":
                return
        raise AssertionError("the stream ended without [DONE]")
    finally:
        connection.close()


def case_worker():
    """a worker killed as by the kernel for want of memory: its answer goes on, unaltered"""
    request = QUESTION | {"max_tokens": 200}
    whole = "".join(stream(request))
    pid, restarts, before = supervisor(), show("NRestarts"), workers()
    pieces, pause, killed = [], 0.0, 0
    last = time.monotonic()
    for piece in stream(request):
        pause = max(pause, time.monotonic() - last)
        pieces.append(piece)
        if len(pieces) == 10:
            signal("KILL", before[0])
            killed = len(pieces)
        last = time.monotonic()
    assert len(pieces) > 30 and killed and workers() != before, "the answer was over before the fault"
    assert "".join(pieces) == whole, "the answer was altered"
    assert (supervisor(), show("NRestarts")) == (pid, restarts), "the supervisor was restarted"
    return f"killed at piece {killed} of {len(pieces)}, longest pause {pause:.1f} s; same supervisor"


def journal_has(since, words):
    return words in inside("journalctl", "--no-pager", "--unit", UNIT, "--since", f"@{since}")


def case_journal():
    """journald restarts: the service does not notice, its later lines arrive"""
    pid = supervisor()
    inside("systemctl", "restart", "systemd-journald")
    answers_as_ever()
    since = int(time.time())
    inside("systemctl", "reload", UNIT)
    took = until(lambda: journal_has(since, "configuration was read again"), "a line in the journal")
    assert supervisor() == pid
    return f"same process; a line written after it was in the journal {took:.1f} s later"


def case_journal_hangs():
    """journald hangs: the service goes on"""
    pid, restarts = supervisor(), show("NRestarts")
    journald = inside("systemctl", "show", "--value", "--property", "MainPID", "systemd-journald")
    signal("STOP", journald)
    try:
        began = time.monotonic()
        # More lines than a datagram socket's queue takes.
        for _ in range(300):
            signal("HUP", pid)
        answers_as_ever()
        until(lambda: time.monotonic() - began > 15, "longer than the watchdog bears")
        status = get("/livez")[0]
    finally:
        signal("CONT", journald)
        until(ready, "ready")
    assert status == 200 and (supervisor(), show("NRestarts")) == (pid, restarts), "it was restarted"
    return "300 lines and 15 s; same process"


def state_directory(mount):
    """Runs the service with a small state file system, made unusable by `mount`."""
    inside("systemctl", "stop", UNIT)
    shell("mkdir -p /var/lib/llm8850/state && mount -t tmpfs -o size=256k,mode=755 state /var/lib/llm8850/state"
          " && chown llm8850: /var/lib/llm8850/state")
    try:
        inside("systemctl", "start", UNIT)
        until(ready, "ready")
        shell(mount)
        until(ready, "ready")
        pid = supervisor()
        signal("KILL", workers()[0])
        until(lambda: not ready(), "the fault was noticed", limit=10)
        took = until(ready, "ready again")
        answers_as_ever()
        assert supervisor() == pid
        inside("systemctl", "restart", UNIT)
        again = until(ready, "ready after a restart")
        answers_as_ever()
    finally:
        inside("systemctl", "stop", UNIT)
        inside("umount", "/var/lib/llm8850/state")
        inside("systemctl", "start", UNIT)
        until(ready, "ready")
    return f"a killed worker was replaced in {took:.1f} s, a restart took {again:.1f} s"


def case_full():
    """the state directory is full"""
    return state_directory("dd if=/dev/zero of=/var/lib/llm8850/state/filler 2>/dev/null;"
                           " test $(stat -f -c %f /var/lib/llm8850/state) = 0")


def case_read_only():
    """the state directory is read-only"""
    # The ledger is open for writing meanwhile: only between two runs can it be remounted.
    return state_directory(f"systemctl stop {UNIT} && mount -o remount,ro /var/lib/llm8850/state"
                           f" && systemctl start {UNIT}")


def case_clock():
    """the wall clock jumps by ten years, forth and back"""
    dropin = pathlib.Path("/run/systemd/system/llm8850.service.d/clock.conf")
    library = shell("ls /usr/lib/*/faketime/libfaketime.so.1")
    # The file is replaced as a whole, and read at every look at the clock.
    shell(f"mkdir -p {dropin.parent}; echo +0 > /run/faketime; cat > {dropin}", stdin=(
        f"[Service]\nEnvironment=LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/run/faketime"
        " FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n"))
    inside("systemctl", "daemon-reload")
    inside("systemctl", "restart", UNIT)
    until(ready, "ready")
    pid, restarts, seen = supervisor(), show("NRestarts"), []
    try:
        for jump in ("+10y", "-10y", "+0"):
            shell(f"echo {jump} > /run/faketime.new; mv /run/faketime.new /run/faketime")
            reply = ask()
            assert text(reply) == ANSWER
            seen.append((reply["created"] - time.time()) / 31_557_600)
            signal("KILL", workers()[0])
            until(lambda: not ready(), "the fault was noticed", limit=10)
            until(ready, "ready again")
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 6, "more than half a watchdog's time")
        assert (supervisor(), show("NRestarts")) == (pid, restarts), "the supervisor was restarted"
        assert seen[0] > 9 and seen[1] < -9 and abs(seen[2]) < 1, f"the clock did not jump: {seen}"
    finally:
        shell(f"rm -r {dropin.parent}; systemctl daemon-reload; systemctl restart {UNIT}")
        until(ready, "ready")
    return f"it saw {seen[0]:+.1f} and {seen[1]:+.1f} years; same process, workers replaced as ever"


def case_shutdown():
    """the driver's modules are unloaded when the host shuts down"""
    pid = supervisor()
    began = time.monotonic()
    inside("systemctl", "--no-block", "poweroff")
    until(lambda: not os.path.exists(f"/proc/{LEADER}"), "the end", limit=120)
    asked = (ROOT / "srv/system/asked").read_text().split()
    assert asked[1::2] == ["axcl_host", "ax_pcie_mmb", "ax_pcie_msg", "ax_pcie_host_dev"], asked
    assert pid
    return f"in order, {time.monotonic() - began:.1f} s for the whole shutdown"


CASES = [case_boot, case_rights, case_sandbox, case_helper, case_hung, case_killed, case_crash_loop, case_worker,
         case_journal, case_journal_hangs, case_full, case_read_only, case_clock, case_shutdown]


def outcome(case):
    """One line on how the case ended, and whether that is as it should be."""
    name, what = case.__name__.removeprefix("case_"), case.__doc__
    try:
        told = case()
    except Exception as error:
        if name in KNOWN:
            return f"known   {what}: {error} ({KNOWN[name]})", True
        traceback.print_exc()
        print(inside("journalctl", "--unit=llm8850", "--lines=60", "--no-pager", check=False))
        return f"FAILED  {what}: {error}", False
    if name in KNOWN:
        return f"FAILED  {what}: it passes ({told}): strike it off the list of known failures", False
    return f"ok      {what}: {told}", True


def main():
    wanted = os.environ.get("CASES", "").split()
    failed = 0
    for case in CASES:
        if wanted and case is not case_boot and case.__name__.removeprefix("case_") not in wanted:
            continue
        line, good = outcome(case)
        print(line, flush=True)
        failed += not good
        if case is case_boot and not good:
            print(inside("journalctl", "--no-pager", "-n", "60", check=False), flush=True)
            break
        if not good:
            until(ready, "ready for the next case", limit=120)
    for note in dict.fromkeys(NOTES):
        print(f"note    {note}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
