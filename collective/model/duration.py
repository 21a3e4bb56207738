"""Read a length of time such as 90s, 30m or 1h30m.

It imports nothing but the errors, since the command line reads it at every start, and it sets
no limits: whoever asks for a duration knows which ones make sense.

Invariants:
  * What is returned is finite and not negative.
  * A number without a unit is refused, never guessed.
"""

from __future__ import annotations

from collective.errors import InputError

DURATION_FORM = "a duration like 90s, 30m, 1h or 2d"

_UNITS = "dhms"
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_MOST_DIGITS = 9


def parse_duration(text: str) -> float:
    """Return a duration in seconds.

    Args:
        text: whole numbers, each with the unit d, h, m or s, the larger unit first.

    Raises:
        InputError: the text is empty, a unit is missing, unknown, repeated or out of order, or a
            number has more than 9 digits.
    """
    total, digits, units_left = 0, "", _UNITS
    for char in text:
        if char.isascii() and char.isdigit():
            digits += char
            continue
        if not 0 < len(digits) <= _MOST_DIGITS or char not in units_left:
            raise _not_a_duration(text)
        total += int(digits) * _SECONDS[char]
        digits, units_left = "", units_left[units_left.index(char) + 1 :]
    if digits or not text:
        raise _not_a_duration(text)
    return float(total)


def _not_a_duration(text: str) -> InputError:
    hint = f"write {text}s for seconds" if text.isascii() and text.isdigit() else None
    if len(text) > _MOST_DIGITS:
        hint = None
    return InputError(f"expected {DURATION_FORM}, found {text[:80]!r}", hint)
