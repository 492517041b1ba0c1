"""UNet in PyTorch, written from its description (src/models/unet.ts has the same), to compare ours with.

Names of fields are those of our state dict. The bilinear form enlarges first and convolves after, as its description
says; ours does it the other way round, which is cheaper, and must give the same numbers.
"""
import torch
import torch.nn.functional as F
from torch import nn


def double_conv(c_in, c_out):
    layers = []
    for c in (c_in, c_out):
        layers += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
    return nn.Sequential(*layers)


class Up(nn.Module):
    def __init__(self, c_in, c_out, upsampling):
        super().__init__()
        self.bilinear = upsampling == "bilinear"
        self.enlarge = nn.Conv2d(c_in, c_out, 1) if self.bilinear else nn.ConvTranspose2d(c_in, c_out, 2, stride=2)
        self.conv = double_conv(2 * c_out, c_out)

    def forward(self, x, skip):
        if self.bilinear:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv(torch.cat([skip, self.enlarge(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, num_classes, width, depth, upsampling, in_channels=3):
        super().__init__()
        c = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip([in_channels] + c, c))
        self.up = nn.ModuleList(Up(b, a, upsampling) for a, b in zip(c, c[1:]))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image):
        h, w = image.shape[-2:]
        stride = 2 ** len(self.up)
        x = F.pad(image, (0, -w % stride, 0, -h % stride))
        skips = []
        for conv in self.down[:-1]:
            x = conv(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, skip in reversed(list(zip(self.up, skips))):
            x = up(x, skip)
        return self.head(x)[:, :, :h, :w]
