"""Train on clips rendered on the fly, and go on after a stop.

Run: python examples/train.py
"""

import torch

import vpngen


def main() -> None:
    torch.manual_seed(0)
    spec = vpngen.perlin(categories=4, instances=64, val_instances=4)
    clip = (8, 56, 56)
    train = vpngen.loader(spec, batch_size=32, clip=clip, dtype="float32", std=0.2)
    val = vpngen.loader(
        spec, batch_size=16, clip=clip, dtype="float32", std=0.2, split="val", augment="none", shuffle=False
    )

    device = train.dataset.device
    net = torch.nn.Sequential(
        torch.nn.Conv3d(3, 16, (3, 5, 5), stride=(1, 2, 2)), torch.nn.BatchNorm3d(16), torch.nn.ReLU(),
        torch.nn.Conv3d(16, 32, 3, stride=2), torch.nn.BatchNorm3d(32), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(32, spec.n_categories),
    ).to(device)  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    checkpoint = {}
    for epoch in range(2):
        for step, (clips, labels) in enumerate(train):
            loss = torch.nn.functional.cross_entropy(net(clips), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (epoch, step) == (1, 4):  # any batch of any epoch: plain values, good for torch.save or JSON
                checkpoint = train.state_dict()
        print(f"epoch {epoch}: loss {loss.item():.2f}, the last batch has labels {labels[:8].tolist()} ...")

    net.eval()
    with torch.no_grad():
        right = sum((net(clips).argmax(1) == labels).sum().item() for clips, labels in val)
    print(f"val: {right} of {spec.n_videos('val')} videos named rightly")

    again = vpngen.loader(spec, batch_size=32, clip=clip, dtype="float32", std=0.2)
    again.load_state_dict(checkpoint)
    print(f"a run stopped after batch 5 of epoch 1 has {len(list(again))} batches of it left")


if __name__ == "__main__":
    main()
