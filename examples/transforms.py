"""Transforms of your own, or of torchvision, on clips. They are grey: here they get a colour.

Clips are (N, C, T, H, W), as 3D networks take them. Transforms of torchvision take (..., C, H, W), so the axes C and T change places.

Run: python examples/transforms.py
"""

from collections.abc import Callable

import torch

import vpngen

try:
    from torchvision.transforms import v2
except ImportError:  # vpngen does not need it
    v2 = None

SIZE = 112


def plain(video: torch.Tensor) -> torch.Tensor:
    """What `augment` does, without torchvision: uint8 (T, C, H, W) to float32, with one draw for all frames of a video."""
    height, width = video.shape[-2:]
    y, x = (int(torch.randint(n - SIZE + 1, ())) for n in (height, width))
    video = video[..., y : y + SIZE, x : x + SIZE]
    if torch.rand(()) < 0.5:
        video = video.flip(-1)
    brightness = 0.6 + 0.8 * torch.rand((), device=video.device)
    return ((video / 255 * brightness).clamp(0, 1) - 0.5) / 0.5


def augment() -> Callable[[torch.Tensor], torch.Tensor]:
    if v2 is None:
        return plain
    return v2.Compose([
        v2.RandomCrop(SIZE),  # or RandomResizedCrop
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=0.4),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.5] * 3),
    ])  # fmt: skip


def main() -> None:
    torch.manual_seed(0)
    spec = vpngen.perlin(categories=4, instances=4)
    transform = augment()
    for clips, labels in vpngen.loader(spec, batch_size=8, clip=(16, 128, 128), augment="random"):
        # The channels are one grey, seen three times: clips.clone() before anything that writes into them.
        assert clips.dtype == torch.uint8 and (clips[:, 0] == clips[:, 2]).all()
        videos = clips.transpose(1, 2)  # (N, T, C, H, W)
        videos = torch.stack([transform(video) for video in videos])  # each its own draw, all its frames the same
        tint = 0.5 + 0.5 * torch.rand(len(videos), 1, 3, 1, 1, device=videos.device)
        clips = (videos * tint).transpose(1, 2).contiguous()  # (N, C, T, H, W), and in colour
        print(
            f"{tuple(clips.shape)} {clips.dtype} from {clips.min():.2f} to {clips.max():.2f}, labels {labels.tolist()}"
        )


if __name__ == "__main__":
    main()
