"""The allowed variants still fit the server: cheap checks, without starting one."""

from __future__ import annotations

import re

import pytest
from faults.allowed import Variant, load_variants
from faults.catalogue import REPOSITORY
from test_faults import places  # noqa: F401 - a fixture

VARIANTS = load_variants()
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.id)


def test_there_are_variants_of_every_area() -> None:
    assert len(VARIANTS) >= 30
    assert {variant.server.area for variant in VARIANTS} >= {
        "answers", "decisions", "leases", "reading", "requests", "access", "keys"
    }  # fmt: skip


@each_variant
def test_a_variant_is_described(variant: Variant, places: set[str]) -> None:  # noqa: F811
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", variant.id)
    assert variant.server.about.endswith(".")
    assert variant.server.breaks in places
    assert variant.level in ("MUST", "SHOULD")


@each_variant
def test_a_variant_fits_and_compiles(variant: Variant) -> None:
    for file, text in variant.server.patched().items():
        assert (REPOSITORY / file).read_text(encoding="utf-8") != text
        if file.endswith(".py"):
            compile(text, file, "exec")
