"""One arm of tests.peers.studies as plain PyTorch, seed after seed: FILE RATE SEED [SEED ...]"""

import tempfile
import time

import torch
import torch.nn.functional as F

from tests.peers import study_data
from tests.peers.torch_peer import Lenet


def tensors(data, split):
    images = torch.from_numpy(data[f"{split}_images"]).permute(0, 3, 1, 2).float().div(255)
    return (images - images.mean()) / images.std(), torch.from_numpy(data[f"{split}_labels"]).long()


def accuracy(network, images, labels):
    network.eval()
    with torch.no_grad():
        right = sum(
            (network(images[start : start + 500]).argmax(1) == labels[start : start + 500]).sum()
            for start in range(0, len(labels), 500)
        )
    return float(right) / len(labels)


def main():
    data, rate, seeds = study_data.arguments()
    splits = {split: tensors(data, split) for split in ("train", "validation", "test")}
    images, labels = splits["train"]
    for seed in seeds:
        started = time.perf_counter()
        torch.manual_seed(seed)
        network = Lenet().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), rate, study_data.MOMENTUM)
        batches = study_data.batches(len(labels), seed)
        network.train()
        for batch, now in zip(batches, study_data.rates(rate, len(batches)), strict=True):
            optimizer.param_groups[0]["lr"] = now
            places = torch.from_numpy(batch)
            inputs = images[places].contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(inputs), labels[places])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        found = {split: accuracy(network, *splits[split]) for split in ("validation", "test")}
        with tempfile.TemporaryFile() as file:
            torch.save(network.state_dict(), file)
        study_data.say(seed, found, started)


if __name__ == "__main__":
    main()
