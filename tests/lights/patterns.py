"""Whether what a light did is the pattern of that name in docs/lights.md.

Each check raises an AssertionError that shows the track, or returns a word on what was measured.
"""

import pathlib
import re
import statistics

# Kernels before 6.10 have coarse timers only, and breathe unevenly: see docs/lights.md.
precise = True

TABLE = pathlib.Path(__file__).resolve().parents[2] / "docs/lights.md"


def expected(state):
    """What the documentation's table promises for a state: the two patterns' names."""
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0] == state:
            return cells[1:]
    raise AssertionError(f"{TABLE}: no row {state!r}")


def check(track, name):
    return judged(track, name, measure)


def check_steps(track, name):
    """The same for a light that only knows on and off: what glides, jumps."""
    return judged(track, name, measure_steps)


def judged(track, name, by):
    try:
        return by(track, name)
    except (AssertionError, statistics.StatisticsError) as e:
        raise AssertionError(f"this is not {name!r}: {e}; the light: {track}") from None


def measure_steps(track, name):
    if name == "breath":
        return blink(track, 2500)
    if name == "slow fade":
        return blink(track, 5000)
    if name == "double breath":
        return flashes(track, 2, 500)
    return measure(track, name)


def measure(track, name):
    if name == "off":
        assert set(track.values) == {0}, "it shone"
        return "dark"
    if name == "steady":
        assert set(track.values) == {255}, "it was not steady"
        return "steady"
    if found := re.fullmatch(r"blink (\d+) Hz", name):
        return blink(track, 1000 / int(found[1]))
    if name == "slow blink":
        return blink(track, 2000)
    if found := re.fullmatch(r"(\d) flash(es)?", name):
        return flashes(track, int(found[1]))
    if name == "breath":
        return glide(track, [2500])
    if name == "slow fade":
        return glide(track, [5000])
    if name == "double breath":
        return glide(track, [1000, 4000])
    raise AssertionError("no such pattern is known here")


def near(value, wanted, part=0.15):
    return abs(value - wanted) <= wanted * part


def gaps(times):
    return [after - before for before, after in zip(times, times[1:])]


def blink(track, period):
    """Half of the time fully on, half of it off."""
    assert set(track.values) == {0, 255}, "it should only be on and off"
    # The first may have begun before, the last may go on.
    lit = [end - start for start, end in track.lit()[1:-1]]
    rises = [start for start, _ in track.lit()[1:]]
    found = statistics.mean(gaps(rises))
    assert near(found, period), f"a period of {found:.0f} ms"
    assert near(statistics.mean(lit), period / 2, 0.25), f"lit for {statistics.mean(lit):.0f} ms"
    return f"{1000 / found:.2f} Hz"


def flashes(track, count, width=200):
    """Groups of so many flashes, every five seconds, apart by pauses."""
    assert set(track.values) == {0, 255}, "it should only be on and off"
    pauses = [(start, end) for start, end in track.lit(dark=True) if end - start > 1500]
    groups = []
    for (_, start), (end, _) in zip(pauses, pauses[1:]):
        groups.append([(a, b) for a, b in track.lit() if start <= a < end])
    counts = [len(group) for group in groups]
    assert counts and set(counts) == {count}, f"groups of {counts}"
    widths = [b - a for group in groups for a, b in group]
    # A busy host stretches and shortens single ones.
    assert near(statistics.median(widths), width, 0.25), f"flashes of {widths} ms"
    for apart in gaps([group[0][0] for group in groups]):
        assert near(apart, 5000, 0.08), f"repeated after {apart} ms"
    return f"{count} × {statistics.median(widths):.0f} ms, {len(groups)} times"


def glide(track, between):
    """Swells and fades; its peaks are `between` apart, in turns."""
    assert len(set(track.values)) > 8, "it does not glide"
    assert min(track.values) <= 8 and max(track.values) >= 240, "it does not swell from dark to bright"
    lengths = [end - start for start, end, _ in track.stretches[1:-1]]
    # Where the machine itself stood still, the light lags behind until its pattern is renewed. Longer
    # darkness is the pattern's.
    stills = [end - start for start, end, value in track.stretches if value or end - start < 2000]
    lost = sum(max(0, still - 75) for still in stills)
    if precise:
        step = statistics.median(lengths)
        assert 45 <= step <= 54, f"a step takes {step} ms instead of 50"
        jump = max(abs(b - a) for a, b in zip(track.values, track.values[1:]))
        assert jump <= 60 + lost * 255 / (min(between) / 2), f"it jumps by {jump}"
    peaks = []
    for start, end in hills(track):
        inside = [s for s in track.stretches if start <= s[0] < end]
        top = max(inside, key=lambda s: s[2])
        peaks.append((top[0] + top[1]) / 2)
    found = gaps(peaks)
    assert len(found) >= len(between), f"only {len(peaks)} peaks"
    first = min(range(len(between)), key=lambda i: abs(between[i] - found[0]))
    for i, gap in enumerate(found):
        wanted = between[(first + i) % len(between)]
        assert abs(gap - wanted) <= 0.2 * wanted + lost, f"peaks {found} ms apart"
    return f"{len(peaks)} swells, {statistics.mean(found) / 1000:.2f} s apart, {len(set(track.values))} levels"


def hills(track):
    """Stretches brighter than a quarter, seen from their beginning to their end."""
    found, start, low = [], None, False
    for begin, _, value in track.stretches:
        if value <= 64:
            if start is not None:
                found.append((start, begin))
            start, low = None, True
        elif start is None and low:
            start = begin
    return found


def dips(track):
    """How often a light that shines went out for a moment."""
    assert set(track.values) == {0, 255}, f"it should only be on and off: {track}"
    dark = [(start, end) for start, end in track.lit(dark=True)]
    assert all(end - start < 400 for start, end in dark), f"a dip should be short: {track}"
    return len(dark)
