"""Initialize a 3-D CNN with Video Perlin Noise, and take the weights elsewhere.

Run: python examples/initialize.py
"""

import tempfile
from pathlib import Path

import torch

import vpngen
from vpngen.models import read_weights, replace_head
from vpngen.train import Recipe, fit


def main() -> None:
    torch.manual_seed(0)
    spec = vpngen.perlin(categories=4, instances=32, val_instances=8)
    clip = (8, 48, 48)
    train = vpngen.loader(spec, batch_size=16, clip=clip, drop_last=True)
    val = vpngen.loader(spec, batch_size=16, clip=clip, split="val", augment="none", shuffle=False)

    net = vpngen.create_model("r3d10", num_classes=spec.n_categories, width=0.25)
    with tempfile.TemporaryDirectory() as folder:
        rows = fit(net, train, val, Recipe(lr=0.02, batch_size=16, epochs=2, clip=clip), out=folder)
        for row in rows:
            print(f"epoch {row['epoch']}: loss {row['train_loss']:.2f}, val top-1 {row['val_top1']:.0%}")
        weights, about = read_weights(Path(folder) / "weights.safetensors")

    replace_head(net, num_classes=101)  # and on to real videos
    print(f"{len(weights)} tensors, named as in 3D-ResNets-PyTorch; the new head: {tuple(net.fc.weight.shape)}")
    print(f"labels [0 ... {spec.n_categories - 1}] were: {[spec.category(i) for i in range(spec.n_categories)]}")
    print(f"val loss in the metadata: {about['metrics']['val_loss']:.2f}")


if __name__ == "__main__":
    main()
