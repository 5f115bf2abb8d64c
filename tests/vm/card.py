"""The SD card: a qcow2 overlay over the image, and what lies on it, looked at from outside."""

import pathlib
import re
import struct
import subprocess

SECTOR = 512


def run(*command, **options):
    """A tool's output; its complaint where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, **options)
    if done.returncode:
        raise AssertionError(f"{command[0]}: {(done.stderr or done.stdout).decode(errors='replace').strip()}")
    return done.stdout


class Card:
    """One card. The machine must be off while it is written to from here."""

    def __init__(self, path, base=None, size=None):
        self.path = pathlib.Path(path)
        if base:
            kind = "raw" if str(base).endswith(".img") else "qcow2"
            self.path.unlink(missing_ok=True)
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", base, self.path, *([size] if size else []))
        self.extracts = self.path.with_suffix(".parts")

    def read(self, offset, length):
        run("qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"if={self.path}", f"of={self.path}.part", "bs=512",
            f"skip={offset // SECTOR}", f"count={(offset + length) // SECTOR}")
        part = pathlib.Path(f"{self.path}.part")
        data = part.read_bytes()
        part.unlink()
        return data

    def write(self, offset, file):
        self.batch([f"write -q -s {file} {offset} {pathlib.Path(file).stat().st_size}"])

    def batch(self, commands):
        """Commands of qemu-io, in one go."""
        told = run("qemu-io", "-f", "qcow2", "-d", "unmap", self.path, input="\n".join([*commands, "flush", "quit", ""]).encode())
        wrong = [line for line in told.decode().splitlines() if "failed" in line or "error" in line.lower()]
        assert not wrong, wrong[:3]

    def partitions(self):
        """label → (offset, length), out of the GPT."""
        head = self.read(SECTOR, 33 * SECTOR)
        assert head[:8] == b"EFI PART", "no partition table"
        found = {}
        for at in range(SECTOR, len(head), 128):
            first, last, _, name = struct.unpack_from("<32xQQQ72s", head, at)
            if last:
                found[name.decode("utf-16-le").rstrip("\0")] = (first * SECTOR, (last - first + 1) * SECTOR)
        return found

    def extract(self, label):
        """The partition as a file of its own."""
        self.extracts.mkdir(exist_ok=True)
        offset, length = self.partitions()[label]
        out = self.extracts / label
        out.unlink(missing_ok=True)
        run("qemu-img", "convert", "-O", "raw", "--image-opts",
            f"driver=raw,offset={offset},size={length},file.driver=qcow2,"
            f"file.file.driver=file,file.file.filename={self.path}", out)
        return out

    def put_back(self, label):
        offset, _ = self.partitions()[label]
        self.write(offset, self.extracts / label)

    def file(self, label, name):
        """A file of a FAT partition, or nothing."""
        try:
            return run("mtype", "-i", self.extract(label), f"::{name}")
        except AssertionError:
            return None

    def put(self, label, files):
        """Files onto a FAT partition, as somebody does with the card in a laptop."""
        part = self.extract(label)
        for name, data in files.items():
            run("mcopy", "-o", "-i", part, "-", f"::{name}", input=data)
        self.put_back(label)

    def zero(self, label):
        """Nothing but zeros, in the whole partition."""
        offset, length = self.partitions()[label]
        self.batch([f"write -q -z -u {offset} {length}"])

    def checks(self):
        """What e2fsck and fsck.fat find wrong after a journal's replay: nothing, on a card that is well."""
        wrong = []
        for label in ("state", "models"):
            part = self.extract(label)
            # The kernel replays the journal; whatever is left to repair then is damage.
            subprocess.run(["e2fsck", "-p", "-E", "journal_only", part], capture_output=True)
            done = subprocess.run(["e2fsck", "-fn", part], capture_output=True, text=True)
            if done.returncode:
                wrong.append(f"{label}: {done.stdout.strip()[-300:]}")
        for label in ("setup", "boot-a", "boot-b"):
            done = subprocess.run(["fsck.vfat", "-n", self.extract(label)], capture_output=True, text=True)
            # A dirty mark alone is what a card pulled out has, and no damage.
            harmless = re.compile(r"[Dd]irty bit|clusters$|Automatically|unmounted")
            lines = [line for line in done.stdout.splitlines()[1:] if not harmless.search(line)]
            if done.returncode and lines:
                wrong.append(f"{label}: {' '.join(lines)[:300]}")
        return wrong
