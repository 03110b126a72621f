"""Train with Lightning, whose checkpoints hold the place in the stream.

Run: python examples/train_lightning.py
"""

import tempfile

import lightning
import torch

import vpngen

SPEC = vpngen.perlin(categories=4, instances=32)


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Conv3d(3, 8, 5, stride=2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(),
            torch.nn.Linear(8, SPEC.n_categories),
        )  # fmt: skip
        self.videos: list[int] = []

    def training_step(self, batch: tuple[torch.Tensor, ...], step: int) -> torch.Tensor:
        clips, labels, recipe = batch
        self.videos += recipe["index"].tolist()
        return torch.nn.functional.cross_entropy(self.net(clips), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def trainer(*callbacks: lightning.Callback) -> lightning.Trainer:
    # use_distributed_sampler=False: the stream shares itself among the ranks.
    return lightning.Trainer(
        max_epochs=2, use_distributed_sampler=False, callbacks=list(callbacks), logger=False, enable_progress_bar=False,
        enable_checkpointing=bool(callbacks), enable_model_summary=False,
    )  # fmt: skip


def stream() -> torch.utils.data.DataLoader:
    return vpngen.loader(SPEC, batch_size=16, clip=(8, 56, 56), dtype="float32", parameters=True)


def main() -> None:
    whole, resumed = Classifier(), Classifier()
    with tempfile.TemporaryDirectory() as folder:
        every_11 = lightning.pytorch.callbacks.ModelCheckpoint(folder, "{step}", every_n_train_steps=11, save_top_k=-1)
        trainer(every_11).fit(whole, stream())
        trainer().fit(resumed, stream(), ckpt_path=f"{folder}/step=11.ckpt")  # 8 steps are an epoch
    assert resumed.videos == whole.videos[11 * 16 :]
    labels = SPEC.labels(resumed.videos[:4]).tolist()
    print(
        f"went on after step 11 with labels {labels} ..., the same {len(resumed.videos)} clips that came without a stop"
    )


if __name__ == "__main__":
    main()
