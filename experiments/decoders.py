"""How a decoder makes feature maps larger.

    python -m launch.sweep --experiment=decoders --workdir=runs/decoders

On street scenes: `decoders_camvid`.
"""

from cnnjax.ablation.claims import better
from cnnjax.ablation.experiment import Experiment

EXPERIMENT = Experiment(
    name="decoders",
    question="How should a decoder make feature maps larger?",
    lecture="Nearest neighbor unpooling: pixelated and not crisp! Max unpooling: remember which "
    "element was max during pooling. Previous approaches are not data-driven! Naive approach: we "
    "go deep but don't add pooling, too expensive.",
    published="Badrinarayanan et al. 2017, table 1, CamVid: mIoU 43.3 bilinear without "
    "convolutions, 47.7 indices, 44.1 learned, 50.1 learned with the encoder's maps added.",
    expected="Indices and learned upsampling ahead of nearest by a little at the boundaries; the "
    "naive network close to them at several times the multiply-adds.",
    notes="Scenes of digits among pieces of others. Boundary F1 allows one pixel. No skips: what "
    "is compared is what the decoder makes of the coarsest map alone. Batch norm and 2,000 "
    "steps: in a trial of 750 max unpooling had hardly learned.",
    base={
        "task": "segmentation",
        "data.name": "digit_masks",
        "model.name": "vgg_small",
        "model.width": 0.25,
        "model.norm.kind": "batch",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 16,
        "training.epochs": 16,
    },
    arms={
        **{
            kind: {"model.decoder": kind, "model.decoder_convolutions": 1, "model.skips": "none"}
            for kind in ("nearest", "bilinear", "max_unpool", "transposed")
        },
        "naive": {"model.name": "naive_segmentation"},
    },
    seeds=range(5),
    claims=(
        better(
            "max_unpool",
            "nearest",
            by=1,
            metric="boundary_f1",
            source="the lecture: nearest is pixelated and not crisp, remember the maximum",
        ),
        better(
            "transposed",
            "nearest",
            by=1,
            metric="boundary_f1",
            source="the lecture: the others are not data-driven",
        ),
        better(
            "max_unpool",
            "bilinear",
            metric="miou",
            source="Badrinarayanan et al. 2017, table 1",
            published="+4.4 (47.7, 43.3; bilinear without convolutions)",
        ),
        better(
            "max_unpool",
            "transposed",
            metric="miou",
            source="Badrinarayanan et al. 2017, table 1",
            published="+3.6 (47.7, 44.1)",
        ),
        better("nearest", "naive", metric="multiply_adds", source="the lecture: too expensive"),
        better(
            "nearest",
            "naive",
            metric="train_images_per_second",
            source="the lecture: too expensive",
        ),
    ),
)
