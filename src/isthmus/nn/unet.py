"""The U-Net: the topology; its modules are created by functions that are passed as arguments."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (conventional name)
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.nn.blocks import DownSampler, PartMaker, UpSampler, max_pool, transposed_conv


class UNet(nn.Module):
    """A U-Net of any depth, for images of any size.

    Each level has two 3x3 convolutions. Down-samplers connect the levels of the encoder; up-samplers
    and skip connections (concatenation) connect the levels of the decoder; the head is a 3x3 and a
    1x1 convolution. Heights and widths that cannot be halved evenly are padded by replicating the
    edge, and the logits are cropped.

    Args:
        channels_in: Channels of an image.
        num_classes: Classes of a mask.
        width: Channels of the first level, an even number; each further level doubles the channels.
        depth: Number of levels.
        down: Creates a down-sampler.
        up: Creates an up-sampler.
        make: Creates the convolution blocks with their normalisation and dropout. If None, batch norm
            and no dropout.

    Raises:
        ValueError: If ``width`` is odd, because up-samplers halve the channels.

    Source: Ronneberger, Fischer, Brox 2015 (arXiv:1505.04597), with padded convolutions, so that a
    mask has the size of its image.

    >>> network = UNet(channels_in=3, num_classes=2, width=4, depth=3)
    >>> network(torch.zeros(1, 3, 37, 50)).shape
    torch.Size([1, 2, 37, 50])
    """

    def __init__(
        self,
        *,
        channels_in: int,
        num_classes: int,
        width: int = 32,
        depth: int = 5,
        down: DownSampler = max_pool,
        up: UpSampler = transposed_conv,
        make: PartMaker | None = None,
    ) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(
                f"width {width} is odd: up-sampling halves the channels; use an even width"
            )
        make = make or PartMaker()
        widths = [width * 2**level for level in range(depth)]
        self.encoders = nn.ModuleList(
            make.double_conv(before, after)
            for before, after in zip([channels_in, *widths[:-1]], widths, strict=True)
        )
        self.downs = nn.ModuleList(down(make, channels) for channels in widths[:-1])
        self.ups = nn.ModuleList(up(make, channels) for channels in widths[:0:-1])
        self.decoders = nn.ModuleList(
            make.double_conv(channels, channels // 2) for channels in widths[:0:-1]
        )
        self.head = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.Conv2d(width, num_classes, kernel_size=1),
        )
        self.size_step_px = 2 ** (depth - 1)

    def forward(
        self, image: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch class height width"]:
        """Logits at the image's own height and width."""
        height_px, width_px = image.shape[-2:]
        x = F.pad(
            image,
            (0, -width_px % self.size_step_px, 0, -height_px % self.size_step_px),
            mode="replicate",
        )
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.encoders[-1](x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(torch.cat([skips.pop(), up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits[..., :height_px, :width_px]
