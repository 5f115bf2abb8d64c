"""Cases: updates to the other slot, good and bad."""

import time


def version(machine):
    return machine.say(". /etc/os-release; echo $IMAGE_VERSION")


def slot_b(bench):
    """a good update: tried once, judged good, and only then what the firmware starts"""
    with bench.running("slot_b") as machine:
        began = time.monotonic()
        machine.update("good")
        machine.restarted(300)
        assert (machine.partition, machine.tryboot) == (3, True), "the update was not tried"
        machine.ready()
        machine.hello()
        slots = machine.judged()
        assert slots["running"] == "b" and version(machine) == "0.2.0", slots
        machine.answers_right()
        assert not machine.failed(), machine.failed()
        took = time.monotonic() - began
        machine.say("systemctl --no-block reboot")
        machine.restarted()
        assert (machine.partition, machine.tryboot) == (3, False), "the trial was not committed"
        machine.ready()
        machine.answers_right()
    return f"committed {took:.0f} s after the order; started by itself from then on"


def refused(bench):
    """updates with a foreign signature, and half of one: refused, and nothing changed"""
    with bench.running("refused") as machine:
        told = {}
        for name in ("foreign", "short"):
            machine.update(name)

            def failed(name=name):
                update = machine.told("slots").get("update") or {}
                return update if update.get("failed") and update.get("bundle") == f"{name}.raucb" else None

            told[name] = machine.wait(failed, 300, "a refusal")["what"]
        assert machine.told("slots")["running"] == "a"
        machine.answers_right()
        machine.cut()
        assert b"boot_partition=2" in machine.card.file("setup", "autoboot.txt")[:60]
    return "; ".join(f"{name}: {why[:110]}" for name, why in told.items())


def left(name):
    def case(bench):
        with bench.running(name) as machine:
            began = time.monotonic()
            machine.update(name)
            # While the trial waits for its verdict nobody asks it anything: time may be left out.
            machine.idle = False
            machine.restarted(300)
            assert (machine.partition, machine.tryboot) == (3, True), "the update was not tried"
            machine.idle = True
            machine.restarted(900)
            assert machine.partition == 2, "it was tried again"
            machine.ready()
            machine.hello()
            slots = machine.told("slots")
            assert slots["running"] == "a" and slots["b"]["state"] == "bad", slots
            assert version(machine) == "0.1.0"
            machine.answers_right()
        return f"back after {time.monotonic() - began:.0f} s; told: {slots['b']['why'][:150]}"

    case.__name__ = name
    case.__doc__ = {
        "silent": "an update whose service does not answer: left for the old one",
        "mute": "an update whose model cannot compute: left for the old one",
    }[name]
    return case


CASES = [slot_b, *map(left, ("silent", "mute")), refused]
