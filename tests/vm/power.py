"""Cases: the power is cut while the appliance idles, answers, takes in a model, takes an update.

A card is looked at after every cut. Every one is started in `powercut.py`; here the last of each kind.
"""

import random
import time

from card import Card
from cuts import Record

CUTS = 7


def idle(machine):
    """Nothing is asked of it; it keeps its journal and its records."""
    until = float(machine.say("cut -d' ' -f1 /proc/uptime")) + 95
    machine.wait(lambda: float(machine.say("cut -d' ' -f1 /proc/uptime")) > until, 240, "95 seconds")


def inference(machine):
    machine.answers_right()
    machine.say("kill $(pgrep -x llm8850-worker)")
    machine.ready()
    machine.answers_right()


def model(machine):
    machine.say("mkdir -p /run/packages/models/other && mount --bind /models/default /run/packages/models/other"
                " && llm8850-provision --stick-dir /run/packages stick none"
                " && grep -q '\"installed\"' /run/llm8850-appliance/models.json", limit=1200)


def update(machine):
    machine.update("good")
    why, asked = machine.ended(600)
    assert "guest-reset" in why and "tryboot" in asked, (why, asked)


ACTIVITIES = {"idle": idle, "inference": inference, "model": model, "update": update}


def recorded(bench, name, activity):
    """What the machine writes meanwhile."""
    log = bench.work / f"{name}.log"
    with bench.machine(name, resume=bench.kept, log=log) as machine:
        machine.power_on(resume=bench.kept)
        activity(machine)
        # An activity that writes next to nothing is recorded for longer.
        machine.wait(lambda: len(Record(log).entries) > 10, 240, "more than 10 writes", every=2)
    return Record(log)


def cut(bench, record, name, chance):
    """A card as one cut leaves it: the card, and what is to be said of it."""
    moment = chance.randint(1, len(record.entries))
    kept, lost = record.survivors(chance, moment)
    directory = bench.work / name
    directory.mkdir(parents=True, exist_ok=True)
    card = Card(directory / "cut.qcow2", bench.kept.card.path)
    record.onto(card, kept, directory / "scratch")
    wrong = card.checks()
    autoboot = card.file("setup", "autoboot.txt")
    if not autoboot or len(autoboot) != 512 or not autoboot.startswith(b"[all]\ntryboot_a_b=1\nboot_partition=2\n"):
        wrong.append(f"autoboot.txt is {autoboot!r:.80}")
    assert not wrong, f"cut at write {moment} of {len(record.entries)}, {lost} lost: {wrong}"
    return card, f"at write {moment} of {len(record.entries)}, {lost} lost"


def started(bench, card, name):
    """Starts what a cut left, through whatever trial there is, until it answers: how long that took."""
    with bench.machine(name, base=card.path) as machine:
        began = time.monotonic()
        machine.power_on()
        machine.ready_at_last()
        machine.answers_right()
        took = time.monotonic() - began
        machine.hello()
        assert not machine.failed(), machine.failed()
        assert machine.say("findmnt -no FSTYPE /var; findmnt -no FSTYPE /models").split() == ["ext4", "ext4"]
        problems = [line for found in machine.told("problems").values() for line in found]
        assert not problems, problems
        assert machine.say("cat /var/log/marker") == "kept", "what was safe before the cut is gone"
        # One that was being taken in is there whole, or not at all.
        if machine.say("test -e /models/other && echo there || true"):
            machine.whole("other")
    return took


def case(name):
    def run(bench):
        record = recorded(bench, f"cut_{name}", ACTIVITIES[name])
        chance = random.Random(f"{name}")
        said = []
        for number in range(CUTS):
            card, told = cut(bench, record, f"cut_{name}", chance)
            said.append(told)
        took = started(bench, card, f"cut_{name}_on")
        return f"{CUTS} cuts ({'; '.join(said)}): file systems clean; the last one started: answers after {took:.0f} s"

    run.__name__ = f"cut_{name}"
    run.__doc__ = f"power cuts: {name}"
    return run


CASES = [case(name) for name in ACTIVITIES]
