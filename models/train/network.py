"""The refiner: a picture and two coarse mattes in, one matte out.

A U-Net over the picture at half its size (its pixels are folded, not thrown away), and two convolutions at the full size for what is
thinner than that. It says how far the mean of the coarse mattes is wrong, in log-odds, so that it begins by being right where they are.
Input [batch, 5, height, width]: red, green, blue, two mattes, 0 to 1; height and width are multiples of 32. Output [batch, 1, height, width].
"""

import torch
from torch import nn
from torch.nn import functional as F

WIDTHS = (32, 48, 64, 96, 128)
MULTIPLE = 2 ** len(WIDTHS)
# Log-odds of the coarse mattes are held between ± this much (2 % and 98 %).
FIRM = 0.02


def block(entering, leaving):
    layers = []
    for channels in (entering, leaving):
        layers += [nn.Conv2d(channels, leaving, 3, padding=1, bias=False), nn.BatchNorm2d(leaving), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Refiner(nn.Module):
    def __init__(self):
        super().__init__()
        entering, self.down = 4 * 5, nn.ModuleList()
        for width in WIDTHS:
            self.down.append(block(entering, width))
            entering = width
        self.context = nn.Sequential(
            nn.Conv2d(entering, entering, 3, padding=2, dilation=2), nn.ReLU(inplace=True),
            nn.Conv2d(entering, entering, 3, padding=4, dilation=4), nn.ReLU(inplace=True),
        )
        self.up = nn.ModuleList()
        for width in reversed(WIDTHS[:-1]):
            self.up.append(block(entering + width, width))
            entering = width
        self.unfold = nn.Conv2d(entering, 4 * 8, 1)
        self.full = nn.Sequential(nn.Conv2d(8 + 5, 16, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(16, 1, 3, padding=1))
        nn.init.zeros_(self.full[-1].weight)
        nn.init.zeros_(self.full[-1].bias)

    def forward(self, given):
        level, passed = F.pixel_unshuffle(given, 2), []
        for index, down in enumerate(self.down):
            level = down(level if index == 0 else F.max_pool2d(level, 2))
            passed.append(level)
        level = level + self.context(level)
        for up, beside in zip(self.up, reversed(passed[:-1])):
            level = up(torch.cat([F.interpolate(level, scale_factor=2.0, mode="nearest"), beside], 1))
        fine = F.pixel_shuffle(self.unfold(level), 2)
        wrong = self.full(torch.cat([fine, given], 1))
        coarse = given[:, 3:5].mean(1, keepdim=True).clamp(FIRM, 1 - FIRM)
        return torch.sigmoid(wrong.float() + torch.log(coarse / (1 - coarse)).float())
