"""The appliance in the machine, as the cases use it."""

import contextlib
import json
import pathlib

import native
import openai
from card import Card
from firmware import Start
from machine import Machine

PROMPT = [{"role": "user", "content": "What is the capital of France?"}]
UNIT = "llm8850.service"
TOLD = "/run/llm8850-appliance"
SIZE = "4G"
# Asked for by machines that were given it; the others take any.
KEY = "only-the-tests-know-this-0123456789"


def client(base):
    return openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, timeout=600, max_retries=0)


def ask(base):
    """The question by the official client: the answer's text."""
    request = {"model": "any", "messages": PROMPT, "temperature": 0, "max_tokens": 12}
    return client(base).chat.completions.create(**request).choices[0].message.content


class Appliance(Machine):
    # What it has to answer.
    right = None

    def ask(self):
        return ask(self.base)

    def answers_right(self):
        told = self.ask()
        assert told == self.right, f"it answered {told!r}, not {self.right!r}"

    def show(self, name, unit=UNIT):
        return self.say(f"systemctl show --value --property {name} {unit}")

    def supervisor(self):
        return int(self.show("MainPID"))

    def worker(self):
        return int(self.say("pgrep -x llm8850-worker || echo 0").split()[0])

    def failed(self):
        """Units that failed."""
        return self.say("systemctl list-units --failed --plain --no-legend | cut -d' ' -f1").split()

    def told(self, name):
        """What programs of the image tell others, as `slots` and `problems`."""
        return json.loads(self.say(f"cat {TOLD}/{name}.json 2> /dev/null || echo '{{}}'"))

    def judged(self, limit=180):
        """Waits until this start was judged good; what is known of the slots."""
        def good():
            told = self.told("slots")
            return told if told and told[told["running"]]["state"] == "good" and not told["on_trial"] else None
        return self.wait(good, limit, "a good verdict", every=1)

    def whole(self, name):
        """That model is what it was made from. The manifest is written anew when it is taken in."""
        each = f"for f in /models/{name}/*; do case $f in */manifest.json) ;; *) busybox cmp $f /models/default/${{f##*/}} || exit 1; esac; done"
        self.say(f"test -e /models/{name}/config.json && ({each})", limit=600)

    def journal(self, *options):
        return self.say(f"journalctl --no-pager -q {' '.join(options)}", limit=120)

    def order(self, name, text=""):
        """As the service does: the whole file at once."""
        at = "/var/lib/llm8850/orders"
        script = f"echo '{text}' > {at}/.{name}; mv {at}/.{name} {at}/{name}"
        self.say(f'setpriv --reuid=llm8850 --regid=llm8850 --clear-groups sh -c "{script}"')

    def update(self, name):
        """Gives it the update of that name, from the stick."""
        to = "/var/lib/llm8850/updates"
        self.say("mkdir -p /run/stick; mountpoint -q /run/stick || mount -o ro /dev/disk/by-label/STICK /run/stick")
        self.say(f"install -d -o llm8850 -g llm8850 {to}; cp /run/stick/{name}.raucb {to}/; chown llm8850: {to}/*", limit=300)
        self.say("umount /run/stick")
        self.order("install-bundle", f"{to}/{name}.raucb")


class Debian(Appliance):
    """A Debian with nothing of the image's: one disk, one system."""

    def choose(self, tryboot):
        kernel = self.card.path.parents[2] / "kernel"
        cmdline = "console=ttyAMA0 systemd.show_status=no root=/dev/vda"
        return Start(1, (kernel / "vmlinuz").read_bytes(), (kernel / "initrd.gz").read_bytes(), cmdline)


class Bench:
    """Where cases get their machines from."""

    def __init__(self, stock, model, work):
        self.stock, self.work = pathlib.Path(stock), pathlib.Path(work)
        self.model, self.kept = pathlib.Path(model), None
        with native.service(model) as base:
            self.right = ask(base)
        assert self.right, "this machine's own service answers nothing"

    @contextlib.contextmanager
    def machine(self, name, base=None, resume=None, log=None, kind=Appliance, **options):
        """A machine with a card of its own: as new, as `base` was, or going on from where one was kept."""
        directory = self.work / name
        directory.mkdir(parents=True, exist_ok=True)
        base = resume.card.path if resume else base or self.stock / "image/llm8850.img"
        card = Card(directory / "card.qcow2", base, SIZE)
        machine = kind(directory, card, self.stock / "stick.img", log=log, **options)
        machine.right = self.right
        try:
            yield machine
        except BaseException:
            print(f"== {name}: the console's end\n{machine.tail()}", flush=True)
            with contextlib.suppress(Exception):
                told = machine.say("systemctl --failed --no-legend; journalctl -b --no-pager -o short-monotonic | tail -n 60")
                print(f"== {name}: the journal's end\n{told}", flush=True)
            raise
        finally:
            machine.cut()

    @contextlib.contextmanager
    def running(self, name):
        """A machine that serves already."""
        with self.machine(name, resume=self.kept) as machine:
            machine.power_on(resume=self.kept)
            yield machine
