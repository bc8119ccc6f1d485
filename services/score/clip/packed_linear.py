"""Linear layers whose weights lie packed for oneDNN: on CPUs the same products, faster.

torch's own float32 products call MKL, which packs the weights anew at each call and, on CPUs that
are not Intel's, keeps to AVX2. oneDNN takes weights packed once and has AVX-512 on both: 2.4 times
as fast on an AMD EPYC, ViT-H-14 (docs/figures/scorer.jsonl). Results differ in the order of
summation alone. torch.compile's frozen graphs use the same operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ROWS = 256
"""For how many rows the packing is chosen; other numbers work, as fast (within 10%)."""
TOLD = "oneDNN, packed"


class PackedLinear(nn.Module):
    """y = x W^T + b of an `nn.Linear`, float32 on the CPU, for inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.bias = linear.bias
        weight = linear.weight.detach()
        self._packed: torch.Tensor = _operators()._reorder_linear_weight(weight, ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features]."""
        return _operators()._linear_pointwise(x, self._packed, self.bias, "none", [], "")


def can_pack() -> bool:
    """Whether this torch has oneDNN and its packed products."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(_operators(), n) for n in names)


@torch.no_grad()
def pack_linears(model: nn.Module) -> bool:
    """Replace the float32 linear layers of a model on the CPU; returns whether it did."""
    if not can_pack():
        return False
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.dtype == torch.float32:
                setattr(parent, name, PackedLinear(child))
    return True


def _operators() -> Any:
    return torch.ops.mkldnn
