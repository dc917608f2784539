"""Patterns of transposed convolutions whose kernels overlap unevenly.

python -m launch.sweep --experiment=checkerboard --workdir=runs/checkerboard
"""

from cnnjax.ablation.claims import better, equivalent
from cnnjax.ablation.experiment import Experiment


def transposed(kernel: int) -> dict[str, object]:
    """Upsampling by a transposed convolution alone."""
    return {
        "model.decoder": "transposed",
        "model.transposed_kernel": kernel,
        "model.decoder_convolutions": 0,
    }


EXPERIMENT = Experiment(
    name="checkerboard",
    question="Do uneven overlaps of a transposed convolution leave a checkerboard?",
    lecture="Deconvolution and overlap; stride: 2.",
    published="Odena et al. 2016: kernels that are no multiple of the stride make checkerboards, "
    "which training rarely removes; resizing and then convolving does not make them.",
    expected="A larger pattern with kernel 3 than with 4 or after resizing; little difference in "
    "mIoU.",
    notes="Checkerboard amplitude: of what alternates from pixel to pixel in the predicted "
    "probabilities at the same rows and columns of all images, in standard deviations of the "
    "probabilities. No skips, and no convolution after a transposed one. "
    "Batch norm and 2,000 steps: after 500 without it all but `resize` had hardly learned.",
    base={
        "task": "segmentation",
        "data.name": "digit_masks",
        "model.name": "vgg_small",
        "model.width": 0.25,
        "model.norm.kind": "batch",
        "model.skips": "none",
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.003,
        "training.batch_size": 16,
        "training.epochs": 16,
    },
    arms={
        "kernel3": transposed(3),
        "kernel2": transposed(2),
        "kernel4": transposed(4),
        "resize": {"model.decoder": "nearest", "model.decoder_convolutions": 1},
    },
    seeds=range(5),
    claims=(
        better("kernel4", "kernel3", metric="checkerboard", source="Odena et al. 2016: overlap"),
        better("resize", "kernel3", metric="checkerboard", source="Odena et al. 2016: resize"),
        better("kernel4", "kernel2", metric="checkerboard", source="kernel 2 does not overlap"),
        equivalent(
            "kernel4",
            "kernel3",
            within=3,
            reason="about what one seed differs from another",
            metric="miou",
            source="a pattern of single pixels changes few of them",
        ),
    ),
)
