"""Snowflakes: X's post ids, 64-bit numbers whose upper bits are the time of creation.

Layout (X's announcement of November 2010): 41 bits of milliseconds since `EPOCH_MS`, then 22 bits for
the machine and its sequence. Posts older than the scheme carried plain ascending numbers.
"""

EPOCH_MS = 1_288_834_974_657
SEQUENCE_BITS = 22
MAX_ID = 2**63 - 1

# The first post's time and roughly the last plain number: old posts get ids between the two.
FIRST_POST_MS = 1_142_974_214_000
LAST_PLAIN_ID = 29_700_000_000


def from_time(at_ms: int, sequence: int = 0) -> int:
    """The id of a post made at `at_ms` (milliseconds since 1970); a greater sequence gives a greater id."""
    if at_ms >= EPOCH_MS:
        return (at_ms - EPOCH_MS) << SEQUENCE_BITS | sequence % (1 << SEQUENCE_BITS)
    age = (at_ms - FIRST_POST_MS) / (EPOCH_MS - FIRST_POST_MS)
    return max(1, int(age * LAST_PLAIN_ID)) + sequence


def time_ms(snowflake: int) -> int:
    """When the id was made, in milliseconds since 1970."""
    return (snowflake >> SEQUENCE_BITS) + EPOCH_MS


def following(last: int, at_ms: int) -> int:
    """An id for a post made at `at_ms` that is greater than `last`, even where the clock went back."""
    return max(from_time(at_ms), last + 1)
