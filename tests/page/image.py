"""What the image's own programs tell: the real ones, on a made-up `/`."""

import os
import pathlib
import socket
import struct
import subprocess
import threading

import rig

BUNDLE = "new.raucb"
# RAUC as it behaves towards its caller: half done, it waits to be told how it ends.
RAUC = """#!/bin/sh
root=$(dirname "$0")/../..
[ "$1" = info ] && { echo '{"version": "0.3.0"}'; exit 0; }
echo " 40% Copying image to rootfs.1"
read -r end < "$root/end"
[ "$end" = whole ] || { echo "LastError: $end" >&2; exit 1; }
"""


class Image:
    def __init__(self, directory):
        self.root = directory
        self.told = directory / "run/llm8850-appliance"
        for below in ("setup", "var/lib", "usr/bin", "usr/lib/llm8850", "proc/sys/kernel"):
            (directory / below).mkdir(parents=True)
        (directory / "usr/lib/llm8850/config.toml").write_text("")
        self.told.mkdir(parents=True)
        for name, script in (("systemctl", "#!/bin/sh\n"), ("rauc", RAUC)):
            program = directory / "usr/bin" / name
            program.write_text(script)
            program.chmod(0o755)
        os.mkfifo(directory / "end")
        self.starts("a", "0.2.0")

    def starts(self, slot, version, tryboot=False):
        """The firmware starts `slot`, in which there is `version`."""
        (self.root / "usr/lib/os-release").write_text(f"IMAGE_VERSION={version}\n")
        chosen = self.root / "proc/device-tree/chosen/bootloader"
        chosen.mkdir(parents=True, exist_ok=True)
        numbers = {"partition": 2 + "ab".index(slot), "tryboot": tryboot, "build-timestamp": 1_800_000_000}
        for name, number in numbers.items():
            (chosen / name).write_bytes(struct.pack(">I", number))
        self.boot_slot("start")

    def command(self, program, *arguments):
        places = ("--system-root", self.root, "--setup-dir", self.root / "setup")
        return [rig.OUT / program, *places, *arguments]

    def boot_slot(self, *arguments):
        subprocess.run(self.command("llm8850-boot-slot", *arguments), check=True, timeout=120)

    def takes(self, settings):
        """At its start it finds these in appliance.toml."""
        (self.root / "setup/appliance.toml").write_text(settings)
        subprocess.run(self.command("llm8850-provision", "settings"), check=True, timeout=120)

    def judged(self, config):
        """By asking the service with this configuration."""
        self.boot_slot("judge", "--within", "0", "--config", config)

    def takes_in(self):
        """What is asked of root about models is answered, each connection for itself."""
        self.socket = self.root / "models.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen()

        def answer():
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                with connection:
                    subprocess.Popen(self.command("llm8850-provision", "take-in"), stdin=connection)

        threading.Thread(target=answer, daemon=True).start()

    def installs(self):
        """Begins an update that ends as `ends` says."""
        return subprocess.Popen(self.command("llm8850-boot-slot", "install", pathlib.Path("/x") / BUNDLE))

    def ends(self, how):
        (self.root / "end").write_text(f"{how}\n")
