"""How a decoder makes feature maps larger: `decoders` on street scenes.

    python -m launch.sweep --experiment=decoders_camvid --workdir=runs/decoders_camvid \\
        --set data.name=folder:PATH

PATH is CamVid as a folder: train, val and test with images/ and labels/, and classes.txt.
"""

import dataclasses

from experiments import decoders

EXPERIMENT = dataclasses.replace(
    decoders.EXPERIMENT,
    name="decoders_camvid",
    question="How should a decoder make feature maps of street scenes larger?",
    notes="CamVid, stretched to 96 x 96 pixels; 40 epochs (920 steps); class weights as in the "
    "paper of SegNet. The rest as in `decoders`: no skips, boundary F1 allows one pixel.",
    base={
        **decoders.EXPERIMENT.base,
        "data.name": "folder:camvid",
        "data.image_size": 96,
        "data.augmentation.flip": 0.5,
        "loss.class_weights": "median_frequency",
        "training.epochs": 40,
        "evaluation.every_epochs": 5,
        "evaluation.batch_size": 50,
    },
    seeds=range(4),
    claims=tuple(
        claim
        for claim in decoders.EXPERIMENT.claims
        if claim.metric != "train_images_per_second"  # measured there, with nothing beside it
    ),
)
