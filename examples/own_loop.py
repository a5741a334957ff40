"""Robust training, pruning and finetuning in your own loop, around any nn.Module. The README shows this file."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import harp
from harp.data import load_data

torch.manual_seed(0)
digits = load_data("digits")
loader = DataLoader(TensorDataset(digits.train.images, digits.train.labels), batch_size=128, shuffle=True)
model = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
)
threat = harp.Threat("linf", eps=0.1)  # for images in [0, 1]
robust_loss = harp.pgd_at(harp.PGD(threat, steps=3))  # (model, x, y) -> loss


def train(epochs, optimizer, pruner=None):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            robust_loss(model, x, y).backward()
            optimizer.step()
            if pruner is not None:
                pruner.step()  # moves the keep fractions along a schedule that ends at the budget


train(6, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

pruner = harp.Pruner(model, keep=0.05, steps=6 * len(loader))  # weights stay fixed; scores and keep fractions learn
train(6, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), pruner)

pruner.freeze()  # exactly round(0.05 * N) weights stay, and learn again
train(6, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))

pruner.bake()  # the plain network again, 95 % zeros
print(harp.summary(model, next(iter(loader))[0]))
print(harp.evaluate(model, digits.test), harp.evaluate(model, digits.test, harp.PGD(threat, steps=20)), sep="\n")
