"""What the Raspberry Pi's firmware does between power and kernel, as far as it chooses: played here, outside the machine.

After https://www.raspberrypi.com/documentation/computers/config_txt.html (autoboot.txt, conditional filters) and
raspberry-pi.html#PARTITION_WALK. What is not played: the EEPROM, its own fallbacks, and what it does to hardware.
"""

import dataclasses
import re

from card import run

FILTER = re.compile(r"\[([a-z_]+)(?:=(\d+))?\]$")


@dataclasses.dataclass
class Start:
    """What was chosen."""

    partition: int
    kernel: bytes
    initrd: bytes
    cmdline: str


def settings(text, tryboot, partition=None):
    """The `key=value` lines that hold."""
    holds, found = True, {}
    for line in text.decode(errors="replace").splitlines():
        line = line.strip()
        if kind := FILTER.match(line):
            name, number = kind.groups()
            holds = name == "all" or name == "tryboot" and tryboot or name == "boot_partition" and number == str(partition)
        elif holds and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            if key.startswith("initramfs "):
                key, value = "initramfs", key.split()[1]
            found[key] = value
    return found


def choose(card, tryboot):
    """Reads the card as the firmware would. Nothing where nothing would start."""
    autoboot = (card.file("setup", "autoboot.txt") or b"")[:512]
    first = int(settings(autoboot, tryboot).get("boot_partition", 1))
    # PARTITION_WALK, which is on since the EEPROM of 2025-08-13: the others in their order where that one does not start.
    walk = [first, *range(first + 1, 9), *range(1, first)]
    return next((start for partition in walk if (start := look(card, partition, tryboot))), None)


def look(card, partition, tryboot):
    """What this partition would start, if it would."""
    label = {2: "boot-a", 3: "boot-b"}.get(partition)
    config = label and card.file(label, "config.txt")
    if not config:
        return None
    chosen = settings(config, tryboot, partition)
    names = chosen.get("kernel", "kernel8.img"), chosen.get("initramfs", ""), chosen.get("cmdline", "cmdline.txt")
    part = card.extracts / label
    kernel, initrd, cmdline = (run("mtype", "-i", part, f"::{name}") if name else b"" for name in names)
    return Start(partition, kernel, initrd, cmdline.decode().strip())
