"""Train on several processes, which share every epoch.

Run: torchrun --nproc-per-node 2 examples/train_ddp.py
"""

import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import vpngen


def main() -> None:
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if gpu else "gloo")
    torch.manual_seed(0)

    # Nothing to wrap and no sampler: the stream asks torch.distributed for the rank when an epoch begins.
    spec = vpngen.perlin(categories=4, instances=32)
    train = vpngen.loader(spec, batch_size=16, clip=(8, 56, 56), dtype="float32", threads=1, parameters=True)
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    net = torch.nn.Sequential(
        torch.nn.Conv3d(3, 8, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, spec.n_categories),
    )  # fmt: skip
    net = DistributedDataParallel(net.to(device))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    mine = []
    for clips, labels, recipe in train:
        loss = torch.nn.functional.cross_entropy(net(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mine += recipe["index"].tolist()
    everyone: list[list[int]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, mine)
    if dist.get_rank() == 0:
        videos = sorted(i for rank in everyone for i in rank)
        assert videos == list(range(spec.n_videos()))
        print(
            f"{len(everyone)} ranks, {[len(rank) for rank in everyone]} videos each, none twice, labels {labels[:4].tolist()} ..."
        )
    dist.destroy_process_group()
    # DDP keeps gloo's threads, and one that is late would abort an interpreter that ends: pytorch issue 190489.
    time.sleep(0.5)


if __name__ == "__main__":
    main()
