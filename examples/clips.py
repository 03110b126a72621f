"""Labelled clips straight from the formula, with no file in between.

Run: python examples/clips.py
"""

import numpy as np

import vpngen

spec = vpngen.Spec.preset("vpn-256x512")
rng = np.random.default_rng(0)

indices = rng.integers(spec.n_videos(), size=32)
frames, height, width = spec.shape
windows = [
    vpngen.Window(t=(t, t + 16), y=(y, y + 112), x=(x, x + 112), flip=bool(flip))
    for t, y, x, flip in rng.integers([frames - 15, height - 111, width - 111, 2], size=(32, 4)).tolist()
]

clips = vpngen.render(spec, indices, windows)  # (32, 16, 112, 112) uint8; costs what 32 clips cost, not 32 videos
labels = spec.labels(indices)

print(f"{clips.shape} {clips.dtype}, labels {labels[:4]} ...")
print(f"the first is of category {labels[0]}: (W, H, D) = {spec.category(int(labels[0]))}")
