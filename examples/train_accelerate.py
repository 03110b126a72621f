"""Train with Hugging Face Accelerate on several processes, or on one.

Run: torchrun --nproc-per-node 2 examples/train_accelerate.py
"""

import accelerate
import torch

import vpngen


def main() -> None:
    accelerator = accelerate.Accelerator(cpu=not torch.cuda.is_available())
    spec = vpngen.perlin(categories=4, instances=32)
    net = torch.nn.Sequential(
        torch.nn.Conv3d(3, 8, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, spec.n_categories),
    )  # fmt: skip
    # `prepare` gives the loader back as it is: it shares itself among the processes and yields on the right device already.
    train = vpngen.loader(spec, batch_size=16, clip=(8, 56, 56), dtype="float32", threads=1)
    net, optimizer, train = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), train)
    for epoch in range(2):
        for clips, labels in train:
            loss = torch.nn.functional.cross_entropy(net(clips), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        accelerator.print(
            f"epoch {epoch}: {len(train)} batches for each of {accelerator.num_processes}, labels {labels[:4].tolist()} ..."
        )


if __name__ == "__main__":
    main()
