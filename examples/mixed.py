"""Perlin noise and fractals in one label space, as clips for training.

Run: python examples/mixed.py
"""

import vpngen


def main() -> None:
    size = {"instances": 100, "shape": (64, 240, 240), "seed": 0}
    spec = vpngen.mixed(
        vpngen.perlin(categories=4, **size),  # labels 0 to 3
        vpngen.fractal(categories=6, points_per_frame=686, **size),  # labels 4 to 9: fractals that grow to the end
        vpngen.fractal(categories=6, trail=8, draw="point", **size),  # labels 10 to 15: their last points, that dance
    )
    for label in (0, 4, 10):
        print(f"label {label} is {spec.category(label)}: number of the part, then its category there")

    stream = vpngen.loader(spec, batch_size=16, clip=(16, 112, 112))
    clips, labels = next(iter(stream))
    print(f"a batch of {tuple(clips.shape)} {clips.dtype}, labels {labels.tolist()}")

    videos = vpngen.render(spec, range(spec.n_categories))  # one of each category
    for part, first in enumerate((0, 4, 10)):
        print(f"part {part}: mean grey level {videos[first].mean():.1f}, first video {videos[first].shape}")


if __name__ == "__main__":
    main()
