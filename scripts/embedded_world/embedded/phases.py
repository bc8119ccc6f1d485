"""Tell an AutoencoderTiny decoder where inside its latent cell a pixel lies.

One latent cell stands for 8x8 pixels, and convolutions over repeated pixels cannot tell the left
half of a cell from the right: four equal cells would decode to one flat colour. A decoder can
work its position out from the zero padding at the borders, but learns that very slowly. Here it
is written into the initial weights, which stay ordinary and trainable: ramps that grow from each
border in the first blocks, and after each doubling masks of even columns and rows.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from embedded_world.embedded.latents import GRID

ONE, MASK_X, MASK_Y = 0, 1, 2
RAMPS = (3, 4, 5, 6)
"""Channels that grow from the left, right, top and bottom border."""
COPIES = (7, 8, 9, 10)
_BEFORE = ((1, 0), (1, 2), (0, 1), (2, 1))
"""The kernel tap (row, column) that looks towards each ramp's border."""
_CENTRE = (1, 1)


def _tap(weight: Tensor, out: int, source: int, tap: tuple[int, int], value: float) -> None:
    weight[out, source, tap[0], tap[1]] += value


def _clear(conv: nn.Conv2d, channels: tuple[int, ...]) -> None:
    for channel in channels:
        conv.weight[channel] = 0
        if conv.bias is not None:
            conv.bias[channel] = 0


def _grow(convs: list[nn.Conv2d], step: float) -> None:
    """Make the ramps three cells longer; the last conv yields the difference (a skip adds it)."""
    for number, conv in enumerate(convs):
        _clear(conv, (ONE, *RAMPS, *COPIES))
        last = number == len(convs) - 1
        if not last:
            _tap(conv.weight, ONE, ONE, _CENTRE, 1)
        for ramp, copy, tap in zip(RAMPS, COPIES, _BEFORE, strict=True):
            _tap(conv.weight, ramp, ramp, tap, 1)
            _tap(conv.weight, ramp, ONE, _CENTRE, step)
            if last:
                _tap(conv.weight, ramp, copy, _CENTRE, -1)
            else:
                _tap(conv.weight, copy, ramp if number == 0 else copy, _CENTRE, 1)


def _double(conv: nn.Conv2d, step: float, top: float) -> None:
    """After a doubling: masks of even columns and rows, and the ramps in steps half as high.

    Beyond the border the padding is 0, which is right for the ramp that grows from there; the
    opposite ramp would be `top + step` there, so that much is added at the border.
    """
    _clear(conv, (ONE, MASK_X, MASK_Y, *RAMPS))
    weight = conv.weight
    _tap(weight, ONE, ONE, _CENTRE, 1)
    for mask, low, high, tap in ((MASK_X, 0, 1, _BEFORE[0]), (MASK_Y, 2, 3, _BEFORE[2])):
        for ramp, sign in ((RAMPS[low], 1), (RAMPS[high], -1)):
            _tap(weight, mask, ramp, _CENTRE, sign / (2 * step))
            _tap(weight, mask, ramp, tap, -sign / (2 * step))
            _tap(weight, ramp, ramp, _CENTRE, 0.5)
            _tap(weight, ramp, ramp, tap, 0.5)
        _tap(weight, RAMPS[high], ONE, _CENTRE, (top + step) / 2)
        _tap(weight, RAMPS[high], ONE, tap, -(top + step) / 2)
        _tap(weight, mask, ONE, _CENTRE, (top + step) / (2 * step))
        _tap(weight, mask, ONE, tap, -(top + step) / (2 * step))


@torch.no_grad()
def write_phases(vae: AutoencoderTiny) -> None:
    """Set the initial weights of `vae`'s decoder; needs three blocks before the first doubling."""
    layers = list(vae.decoder.layers)
    _clear(layers[0], (ONE, MASK_X, MASK_Y, *RAMPS, *COPIES))
    step, top = 1 / GRID, 1.0
    layers[0].bias[ONE] = 1
    layers[0].bias[list(RAMPS)] = step
    grown = 0
    for before, layer in zip(layers, layers[1:], strict=False):
        if isinstance(before, nn.Upsample):
            _double(layer, step, top)
            step, top = step / 2, top + step / 2
        elif hasattr(layer, "conv"):
            convs = [c for c in layer.conv if isinstance(c, nn.Conv2d)]
            if grown < GRID - 1 and step == 1 / GRID:
                _grow(convs, step)
                grown += len(convs)
            else:
                _clear(convs[-1], (ONE, MASK_X, MASK_Y, *RAMPS))
