"""The scripts' arithmetic against Python's, over the whole of int64 and at its edges."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.redis import RedisServer

INT64_MAX = 2**63 - 1
LONGEST_EXACT = 15
_PRELUDE = files("cycles_server.lua").joinpath("lib", "amounts.lua").read_text(encoding="utf-8")
_SCRIPT = f"""#!lua
{_PRELUDE}
arithmetic(tonumber(ARGV[3]), {LONGEST_EXACT})
local a, b = number(ARGV[1]), number(ARGV[2])
return cjson.encode({{
  text(a), text(b), text(a + b), text(a - b), text(lesser(a, b)),
  a < b, a <= b, a == b, a ~= b, a > b, a >= b, a < zero,
  fits(a), fits(a + b), fits(a - b),
}})
"""

_edges = st.builds(
    lambda power, times, step: times * power + step,
    st.sampled_from((1, 10**9, 10**10, 10**15, 10**18, 2**53, 2**62)),
    st.integers(-9, 9),
    st.integers(-2, 2),
)
_everywhere = st.integers(-INT64_MAX - 1, INT64_MAX)
amounts = (_edges | _everywhere).filter(lambda value: -INT64_MAX - 1 <= value <= INT64_MAX)


def fits(value: int) -> bool:
    return -INT64_MAX - 1 <= value <= INT64_MAX


@settings(max_examples=1000, deadline=None)
@given(a=amounts, b=amounts)
def test_amounts_are_exact(store: RedisServer, a: int, b: int) -> None:
    longest = max(len(str(a)), len(str(b)))
    answer = json.loads(store.client.eval(_SCRIPT, 0, str(a), str(b), longest))
    assert answer[:5] == [str(value) for value in (a, b, a + b, a - b, min(a, b))]
    assert answer[5:12] == [a < b, a <= b, a == b, a != b, a > b, a >= b, a < 0]
    if longest > LONGEST_EXACT:
        assert answer[12:] == [fits(a), fits(a + b), fits(a - b)]


@pytest.mark.parametrize("longest", [LONGEST_EXACT, LONGEST_EXACT + 1])
@pytest.mark.parametrize("text", ["", "-", "--1", "1-2"])
def test_what_is_no_integer_is_no_amount(store: RedisServer, text: str, longest: int) -> None:
    script = f"#!lua\n{_PRELUDE}\narithmetic({longest}, {LONGEST_EXACT})\nreturn number(ARGV[1])"
    assert store.client.eval(script, 0, text) is None
