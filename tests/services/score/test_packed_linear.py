"""Packed products are torch's own, up to the order of summation."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bigpe.services.score.clip.packed_linear import PackedLinear, pack_linears

widths = st.integers(1, 96)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    before=widths, after=widths, bias=st.booleans(), turned=st.booleans(),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_products_are_those_of_the_layer(
    rows: list[int], before: int, after: int, bias: bool, turned: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    plain = nn.Linear(before, after, bias=bias)
    # A transposed view, as attention makes them, is no contiguous input.
    x = torch.randn(before, *rows).movedim(0, -1) if turned else torch.randn(*rows, before)
    model = nn.Sequential(plain)
    with torch.inference_mode():
        expected = plain(x)
        assert pack_linears(model)
        found = model(x)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6 * before**0.5)


def test_what_is_not_float32_or_linear_stays() -> None:
    model = nn.ModuleDict(
        {"small": nn.Linear(4, 4, dtype=torch.float16), "norm": nn.LayerNorm(4),
         "deep": nn.Sequential(nn.Linear(4, 2))}
    )  # fmt: skip
    pack_linears(model)
    assert type(model["small"]) is nn.Linear
    deep = model["deep"]
    assert isinstance(deep, nn.Sequential)
    assert type(deep[0]) is PackedLinear
    assert (deep[0].in_features, deep[0].out_features) == (4, 2)
