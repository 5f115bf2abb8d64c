"""What the supervisor itself costs, measured with a worker that has no model (`examples/stamping_worker.rs`)."""

import json
import pathlib
import platform
import re
import selectors
import socket
import statistics
import struct
import subprocess
import tempfile
import time

from bench_service import DEMO, PROGRAMS, ROUNDS, Service, say

STREAMS, TOKENS, INTERVAL_US = 20, 100, 4000
STAMP = re.compile(rb'"content":"(\d+) "')


def stamping(settings=""):
    return Service(DEMO, settings, worker=PROGRAMS / "examples" / "stamping_worker", STAMP_INTERVAL_US=str(INTERVAL_US))


def post(path, body, connection):
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\nconnection: {connection}\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def since_steady():
    """By how much the clock that stamps is ahead of the one nobody sets."""
    return time.time_ns() - time.monotonic_ns()


def unless_set(before):
    if abs(since_steady() - before) > 50_000:
        raise SystemExit("the clock was set meanwhile: measure again")


# The kernel tells when bytes came into a socket: those of the same machine when they were written.
STAMPED = getattr(socket, "SO_TIMESTAMPNS", 35)


def received(s):
    """(bytes, when they were in the socket, when they were here)"""
    part, extras, *_ = s.recvmsg(65536, socket.CMSG_SPACE(16))
    now = time.time_ns()
    seconds, ns = next((struct.unpack("qq", data) for level, kind, data in extras if kind == STAMPED), (0, now))
    return part, seconds * 1_000_000_000 + ns, now


def latency():
    """Milliseconds from a token's frame to its bytes in the client's socket and at the client, and the
    supervisor's memory: all streams are asked for at once, and answered one after another."""
    service = stamping(f"[limits]\nqueue = {STREAMS}\n")
    request = post("/v1/chat/completions", {
        "model": "any", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": TOKENS + 1, "stream": True}, "close")
    waiting = selectors.DefaultSelector()
    for _ in range(STREAMS):
        s = socket.create_connection(("127.0.0.1", service.port))
        s.setsockopt(socket.SOL_SOCKET, STAMPED, 1)
        s.sendall(request)
        waiting.register(s, selectors.EVENT_READ, (bytearray(), []))
    late, offset = [], since_steady()
    while waiting.get_map():
        for key, _ in waiting.select():
            part, there, here = received(key.fileobj)
            data, times = key.data
            if not part:
                waiting.unregister(key.fileobj)
                key.fileobj.close()
                # The first stamp is the request's.
                late += times[1:]
                continue
            # Pieces end where events do, unless many came at once.
            data.extend(part)
            whole, _, rest = bytes(data).rpartition(b"\n")
            data[:] = rest
            times += [((there - int(stamp)) / 1e6, (here - int(stamp)) / 1e6) for stamp in STAMP.findall(whole)]
    peak = rss(service.process.pid, "VmHWM")
    service.stop()
    if len(late) != STREAMS * TOKENS:
        raise SystemExit(f"{len(late)} tokens of {STREAMS * TOKENS} came")
    unless_set(offset)
    there, here = map(sorted, zip(*late))
    return there[len(late) // 2], here[len(late) // 2], here[len(late) * 99 // 100], here[-1], peak


def rss(pid, field):
    """Mebibytes of a process's memory."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def latencies():
    runs = [latency() for _ in range(ROUNDS)]
    there, p50, p99, worst, peak = (statistics.median(run[i] for run in runs) for i in range(5))
    print(f"\nAdded latency: from a worker's frame to the client, {STREAMS} streams at hand, one answered")
    print(f"at a time, a token each {INTERVAL_US / 1000:g} ms; {STREAMS * TOKENS} tokens, median of {ROUNDS} runs")
    print("\n| in the client's socket p50, ms | read by the client p50, ms | p99, ms | slowest, ms | worst run's p99, ms | supervisor's memory at most, MiB |")
    print("|---|---|---|---|---|---|")
    print(f"| {there:.3f} | {p50:.3f} | {p99:.3f} | {worst:.3f} | {max(run[2] for run in runs):.3f} | {peak:.1f} |", flush=True)


TURNS, REQUESTS = (1, 60), 200
QUESTION = "what does the old coyote say about the road and the rain tonight"
ANSWER = "it says that the road is long and the rain is short and that anyone who waits beside it for a while will hear both"


def conversation(turns, number):
    """A talk, as its client sends it: all of it, each time."""
    messages = [{"role": "system", "content": "You are an old coyote beside the road. " * 5}]
    for turn in range(turns):
        messages += [{"role": "user", "content": f"{turn}: {QUESTION}"}, {"role": "assistant", "content": f"{turn}: {ANSWER}"}]
    return [*messages, {"role": "user", "content": f"{QUESTION}, {number}?"}]


def intake(service, turns, path, limit):
    """(bytes of a request, milliseconds from before its first byte is sent until the worker has its frame)"""
    times, offset = [], since_steady()
    with socket.create_connection(("127.0.0.1", service.port)) as s:
        for number in range(REQUESTS):
            request = post(path, {"model": "any", "messages": conversation(turns, number), "stream": True, **limit}, "keep-alive")
            began = time.time_ns()
            s.sendall(request)
            reply = bytearray()
            while not reply.endswith(b"\r\n0\r\n\r\n"):
                part = s.recv(65536)
                if not part:
                    raise SystemExit(f"the service closed the connection: {bytes(reply)}")
                reply += part
            times.append((int(STAMP.search(reply)[1]) - began) / 1e6)
    unless_set(offset)
    times.sort()
    return len(request), times[len(times) // 2], times[len(times) * 99 // 100]


def intakes():
    service = stamping()
    print(f"\nFrom a request's bytes to the worker's frame, both ends included: one connection, {REQUESTS} requests,")
    print(f"median of {ROUNDS} runs in turns")
    ways = {"/v1/chat/completions": {"max_tokens": 1}, "/api/chat": {"options": {"num_predict": 1}}}
    kinds = [(path, turns) for path in ways for turns in TURNS]
    runs = [{(path, turns): intake(service, turns, path, ways[path]) for path, turns in kinds} for _ in range(ROUNDS)]
    service.stop()
    print("\n| request | turns | bytes | p50, ms | p99, ms |")
    print("|---|---|---|---|---|")
    for path, turns in kinds:
        size, p50, p99 = (statistics.median(run[path, turns][i] for run in runs) for i in range(3))
        print(f"| {path} | {turns} | {size} | {p50:.3f} | {p99:.3f} |", flush=True)


def first_answer():
    """Milliseconds from the supervisor's start to its first answer to /livez."""
    with tempfile.TemporaryDirectory(prefix="llm8850-bench-") as folder, socket.socket() as s:
        # Whoever is ready to listen is told apart from who is not by the connection.
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        s.close()
        config = pathlib.Path(folder) / "config.toml"
        config.write_text(f'[server]\nlisten = ["127.0.0.1:{port}"]\n[worker]\nruntime = "{PROGRAMS / "libaxcl_rt.so"}"\n'
                          f'[model]\ndir = "{DEMO}"\n')
        began = time.monotonic()
        process = subprocess.Popen([PROGRAMS / "llm8850-supervisor", "--config", config],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while time.monotonic() - began < 30:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                        s.sendall(b"GET /livez HTTP/1.1\r\nhost: bench\r\n\r\n")
                        if s.recv(65536).startswith(b"HTTP/1.1 200"):
                            return 1e3 * (time.monotonic() - began)
                except OSError:
                    time.sleep(0.0005)
            raise SystemExit("the supervisor does not answer")
        finally:
            process.terminate()
            process.wait(60)


def starts():
    times = [first_answer() for _ in range(max(5, ROUNDS))]
    print("\nFrom the supervisor's start to its first answer, GET /livez; median of", len(times))
    print("\n| median, ms | slowest, ms |")
    print("|---|---|")
    print(f"| {statistics.median(times):.1f} | {max(times):.1f} |", flush=True)


NAMES = ("llm8850-supervisor", "llm8850-worker", "llm8850-card-helper", "llm8850-boot-slot", "llm8850-provision")


def stripped(program, strip):
    """Mebibytes of it as it is installed; None where it is not built."""
    if not program.exists():
        return None
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([strip, "-o", out.name, program], check=True)
        return pathlib.Path(out.name).stat().st_size / (1 << 20)


def sizes():
    cross = PROGRAMS.parent / "aarch64-unknown-linux-gnu" / "release"
    print("\nPrograms, MiB without symbols")
    print(f"\n| program | {platform.machine()} | aarch64 |")
    print("|---|---|---|")
    for name in NAMES:
        cells = [stripped(PROGRAMS / name, "strip"), stripped(cross / name, "aarch64-linux-gnu-strip")]
        print(f"| {name} |", " | ".join("not built" if size is None else f"{size:.2f}" for size in cells), "|", flush=True)


def supervisor():
    say("== the supervisor's own time")
    latencies()
    intakes()
    starts()
    sizes()
