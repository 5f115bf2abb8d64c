"""The checks themselves: each accepts its own pattern and no other."""

import patterns
from guest import Track

BREATH = [(v, 48) for v in [*range(0, 255, 10), *range(255, 0, -10)]]
FADE = [(v, 50) for v in [*range(0, 250, 5), *range(250, 0, -5)]]
DOUBLE = [(v, 50) for v in [*range(0, 250, 25), *range(250, 0, -25)]] * 2 + [(0, 3000)]


def flashes(count):
    return [(255, 200), (0, 200)] * (count - 1) + [(255, 200), (0, 5200 - 400 * count)]


PATTERNS = {
    "off": [(0, 1000)],
    "steady": [(255, 1000)],
    "blink 5 Hz": [(255, 100), (0, 100)],
    "blink 2 Hz": [(255, 250), (0, 250)],
    "slow blink": [(255, 1000), (0, 1000)],
    "breath": BREATH,
    "slow fade": FADE,
    "double breath": DOUBLE,
    **{f"{n} flash{'es' if n > 1 else ''}": flashes(n) for n in range(1, 8)},
}
# Of lights that only know on and off.
STEPS = {
    **PATTERNS,
    "breath": [(0, 1250), (255, 1250)],
    "slow fade": [(0, 2500), (255, 2500)],
    "double breath": [(0, 500), (255, 500), (0, 500), (255, 500), (0, 3000)],
}


def track(steps):
    """Sixteen seconds of it."""
    now, changes = 0, []
    while now < 16_000:
        for value, ms in steps:
            changes.append((now, value))
            now += ms
    return Track(changes, 1, now)


def accepts(name, seen, check=patterns.check):
    try:
        return bool(check(seen, name))
    except AssertionError:
        return False


for table, check in [(PATTERNS, patterns.check), (STEPS, patterns.check_steps)]:
    for shown, steps in table.items():
        for name in table:
            assert accepts(name, track(steps), check) == (name == shown), f"{shown!r} taken for {name!r}, or refused"
assert not accepts("breath", track([(v, 56) for v, _ in BREATH])), "too slow"
assert not accepts("breath", track(BREATH[:42])), "cut short"
assert not accepts("2 flashes", track(flashes(2) + flashes(3))), "not always two"
