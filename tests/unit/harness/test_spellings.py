"""A value is found in whatever form it stands."""

from __future__ import annotations

import os
from base64 import b64encode, urlsafe_b64encode

import pytest

from tests.harness.spellings import is_in


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("length", range(8, 34))
def test_value_is_found_wherever_and_however_it_was_written(before: int, length: int) -> None:
    """And another one is not."""
    value, other = os.urandom(length), os.urandom(length)
    text = os.urandom(before) + value + os.urandom(before)
    for written in (text, text.hex().encode(), b64encode(text), urlsafe_b64encode(text)):
        assert is_in(value, written)
        assert not is_in(other, written)
