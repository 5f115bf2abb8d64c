"""The cases for any driver: each state shows what the table in docs/lights.md promises."""

import patterns
from bench import REQUEST, WATCH, case, slowly


@case("probing, loading, ready")
def starting(bench):
    # The driver takes 14 s to load, then longer to be opened.
    bench.start(settings='{"modprobe_ms": 14000}', rule=slowly(19000, "axclrtSetDevice").replace('"times": 0', '"times": 1'))
    bench.state("probing")
    said = ["probing: " + bench.shows("probing")]
    bench.state("loading")
    said.append("loading: " + bench.shows("loading", 16))
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
    bench.check(fault, "off")
    return f"{dips} dips for {tokens} tokens"


def last_lit(bench, since):
    """How long after `since` either light shone last, in ms."""
    tracks = bench.guest.tracks(since, bench.guest.clock())
    ends = [end for track in tracks for _, end in track.lit()]
    assert all(track.values[-1] == 0 for track in tracks), f"not dark: {tracks[0]} / {tracks[1]}"
    return max(ends, default=since) - since


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
        bench.check(track, "off")
    bench.guest.wait(lambda: not bench.pid("llm8850-supervisor"), 120, "the end")
    after = last_lit(bench, signalled)
    assert after < 1000, f"dark only {after} ms after SIGTERM"
    return f"dark {after} ms after SIGTERM, 6 s and more before the end"


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
