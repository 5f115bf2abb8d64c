"""What is broken, and how. Each kind injects itself and, where only a person would mend it, is healed."""

import random
import signal


def rule(act, call="axclrtEngineExecuteAsync", nth=(20, 600)):
    """A fault in some call from `nth` on: before, at or after an answer's first token."""
    return lambda a: a.rule({"call": call, "nth": random.randint(*nth), "act": act})


def at_load(act, call, nth=1):
    """A fault that only meets a starting worker: the present one is ended."""

    def inject(a):
        a.rule({"call": call, "nth": nth, "act": act})
        a.signal_worker(signal.SIGKILL)

    return inject


def machine(restart=False, **kind):
    """A breakage of card, driver or host; with `restart` it meets the next worker."""

    def inject(a):
        if restart:
            a.signal_worker(signal.SIGSTOP)
        a.breaks(**kind)
        if restart:
            a.signal_worker(signal.SIGKILL)

    return inject


def signals(number):
    return lambda a: a.signal_worker(number)


def model_file(change):
    """Damages a model file under a restarting worker."""

    def inject(a):
        path = sorted(a.model.glob("*_l1_*.axmodel"))[0]
        a.undamaged = (path, path.read_bytes())
        change(path, a.undamaged[1])
        a.signal_worker(signal.SIGKILL)

    return inject


def mend_model(a):
    path, whole = a.undamaged
    waiting = path.with_suffix(".new")
    waiting.write_bytes(whole)
    waiting.rename(path)


def flip(path, whole):
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0x10]) + whole[middle + 1 :])


def heal(a):
    a.heal()


def two(first, second):
    """Two breakages at once."""

    def inject(a):
        first(a)
        second(a)

    return inject


class Kind:
    """One kind of fault.

    quiet: the worker copes by itself (R0), there is no incident.
    lasts: seconds after which `mend` is called, for what only a person or time mends.
    """

    def __init__(self, name, inject, mend=None, lasts=0.0, quiet=False, host=False, heat=False):
        self.name, self.inject, self.mend, self.lasts = name, inject, mend, lasts
        self.quiet, self.host, self.heat = quiet, host, heat


def heat(a):
    a.breaks(kind="heat", **{"from": 60000, "to": 90000, "over_ms": 200})


KINDS = [
    # The worker's process.
    Kind("worker killed", signals(signal.SIGKILL)),
    Kind("worker stopped (silent)", signals(signal.SIGSTOP)),
    Kind("worker told to end", signals(signal.SIGTERM)),
    Kind("exit in a call", rule({"exit": 3})),
    Kind("crash in a call", rule({"signal": 4})),
    Kind("abort in a call", rule({"signal": 6})),
    Kind("exit while loading", at_load({"exit": 9}, "axclrtEngineLoadFromFile", nth=5)),
    # Calls that do not return.
    Kind("hang in execute", rule({"hang": True})),
    Kind("hang in synchronize", rule({"hang": True}, call="axclrtSynchronizeStream", nth=(2, 30))),
    Kind("hang in copy", rule({"hang": True}, call="axclrtMemcpy*", nth=(2, 60))),
    Kind("hang that ignores SIGTERM", rule({"hang_hard": True})),
    Kind("hang while loading", at_load({"hang": True}, "axclrtEngineLoadFromFile", nth=5)),
    Kind("hang selecting the card", at_load({"hang": True}, "axclrtSetDevice")),
    # Calls that fail.
    Kind("execute fails", rule({"fail": "0x8030070c"})),
    Kind("channel offline", rule({"fail": "0x8030040c"}, call="axclrt*", nth=(20, 1000))),
    Kind("engine refused", at_load({"fail": "0x80300709"}, "axclrtEngineLoadFromFile", nth=3)),
    Kind("card memory refused", at_load({"fail": "0x8030050c"}, "axclrtMalloc", nth=2)),
    Kind("no driver at start", at_load({"fail": "0x8030010b"}, "axclInit")),
    Kind("empty card list", at_load({"fail": "0x80300181"}, "axclInit")),
    # Results.
    Kind("NaN logits", rule({"nan": True}), quiet=True),
    # Card, driver, bus: the emulated machine.
    Kind("heartbeat dead, calls fail", machine(kind="dead", heals_at="R2")),
    Kind("heartbeat dead, calls hang", machine(kind="dead", calls="hang", heals_at="R2")),
    Kind("heartbeat dead, needs modules", machine(kind="dead", heals_at="R3")),
    Kind("heartbeat dead, needs slot", machine(kind="dead", heals_at="R4")),
    Kind("card stuck", machine(kind="stuck", heals_at="R2")),
    Kind("ports exhausted", machine(kind="ports", restart=True, heals_at="R2")),
    Kind("link lost", machine(kind="link_lost", heals_at="R4")),
    Kind("link slower", machine(kind="link_drop", speed="2.5 GT/s PCIe", heals_at="R4")),
    Kind("card absent, appears", machine(kind="absent", appears_ms=1500)),
    Kind("memory not returned", machine(kind="memory", restart=True, mib=6900, now=True, heals_at="R2")),
    Kind("wrong results, test prompt", machine(kind="wrong", restart=True, heals_at="R2")),
    Kind(
        "firmware not acknowledged",
        two(
            machine(kind="firmware_fails", at="chunk", times=1, heals_at="R5"),
            machine(kind="dead", heals_at="R3"),
        ),
    ),
    Kind(
        "card's restart fails",
        two(machine(kind="reboot", fails=1, heals_at="R5"), machine(kind="dead", heals_at="R2")),
    ),
    Kind(
        "firmware handshake times out",
        two(
            machine(kind="firmware_fails", at="handshake", times=1, heals_at="R5"),
            machine(kind="dead", heals_at="R3"),
        ),
    ),
    Kind(
        "module in use",
        two(machine(kind="rmmod_in_use", times=2, heals_at="R5"), machine(kind="dead", heals_at="R3")),
    ),
    Kind("overheated", heat, mend=heal, lasts=1.0, heat=True),
    # What needs a person, or the host.
    Kind("model file flipped", model_file(flip), mend=mend_model, lasts=1.5),
    Kind("model file cut short", model_file(lambda p, w: p.write_bytes(w[: len(w) // 3])), mend=mend_model, lasts=1.5),
    Kind("versions differ", machine(kind="versions", restart=True, firmware="V3.6.5"), mend=heal, lasts=1.5),
    Kind(
        "firmware missing",
        two(machine(kind="firmware_missing"), machine(kind="dead", heals_at="R3")),
        mend=heal,
        lasts=3.0,
    ),
    Kind("needs the host's restart", machine(kind="dead", heals_at="R5"), host=True),
    Kind(
        "modprobe never ends",
        two(machine(kind="modprobe_hangs", heals_at="R5"), machine(kind="dead", heals_at="R3")),
        host=True,
    ),
]
