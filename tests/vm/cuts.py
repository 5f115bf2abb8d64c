"""Power cuts. QEMU's blklogwrites records what the machine writes to its card, and when it has it flushed. A cut is a moment in
that record: everything up to the last flush before it is on the card; of what came after, each write is there, or is not, or
(the last one) is there in part. That is what a card with a volatile cache may do, which killing QEMU alone would not show.

The log's format: https://docs.kernel.org/admin-guide/device-mapper/log-writes.html
"""

import pathlib
import struct

SECTOR = 512
FLUSH, FUA, DISCARD = 1, 2, 4


class Record:
    """What was written, in order: (flags, first sector, sectors, where in the log)."""

    def __init__(self, log):
        self.log = pathlib.Path(log)
        self.entries = []
        with self.log.open("rb") as file:
            magic, _, count, size = struct.unpack("<QQQI", file.read(28))
            assert magic == 0x6A736677736872 and size == SECTOR, "no log of writes"
            at = SECTOR
            for _ in range(count):
                file.seek(at)
                sector, sectors, flags, _ = struct.unpack("<QQQQ", file.read(32))
                at += SECTOR
                self.entries.append((flags, sector, sectors, at))
                if not flags & DISCARD:
                    at += sectors * SECTOR

    def survivors(self, chance, moment):
        """Indices of the writes that are on the card after a cut at `moment`, and how many were lost; the last may be torn."""
        safe = max((i for i in range(moment) if self.entries[i][0] & FLUSH), default=-1)
        kept, lost = [], 0
        for i in range(moment):
            flags, _, sectors, _ = self.entries[i]
            if not sectors:
                continue
            if i < safe or flags & FUA or chance.random() < 0.5:
                kept.append((i, sectors))
            else:
                lost += 1
        if kept and kept[-1][0] > safe and not self.entries[kept[-1][0]][0] & (FUA | DISCARD):
            kept[-1] = (kept[-1][0], chance.randint(0, kept[-1][1]))
        return kept, lost

    def onto(self, card, kept, scratch):
        """Writes what survived onto the card, which is as it was when the record began."""
        where = {}
        for i, sectors in kept:
            flags, first, _, at = self.entries[i]
            for n in range(sectors):
                where[first + n] = None if flags & DISCARD else at + n * SECTOR
        commands, scratch = [], pathlib.Path(scratch)
        scratch.mkdir(exist_ok=True)
        with self.log.open("rb") as log:
            for number, run in enumerate(runs(where)):
                if run[0][1] is None:
                    commands.append(f"write -q -z {run[0][0] * SECTOR} {len(run) * SECTOR}")
                    continue
                data = bytearray()
                for _, at in run:
                    log.seek(at)
                    data += log.read(SECTOR)
                file = scratch / str(number)
                file.write_bytes(data)
                commands.append(f"write -q -s {file} {run[0][0] * SECTOR} {len(data)}")
        card.batch(commands)
        for file in scratch.iterdir():
            file.unlink()


def runs(where):
    """Neighbouring sectors of one kind, together; at most 8 MiB."""
    run = []
    for sector in sorted(where):
        at = where[sector]
        if run and (sector != run[-1][0] + 1 or (at is None) != (run[-1][1] is None) or len(run) >= 16384):
            yield run
            run = []
        run.append((sector, at))
    if run:
        yield run
