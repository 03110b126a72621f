"""Write a small set, then read it as any Zarr reader would.

Run: python examples/read_store.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import xarray

import vpngen

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
spec = vpngen.perlin(categories=4, instances=2, shape=(32, 240, 240))
vpngen.write(spec, folder / "small.zarr", codec="zstd")

videos = xarray.open_zarr(folder / "small.zarr", group="train")
print(videos)

second = videos.isel(sample=1)
print(f"video 1 has label {int(second.label)}, frequencies (W, H, D) {second.frequency.values.tolist()}")
print(f"mean grey level {float(second.video.mean()):.1f}")
