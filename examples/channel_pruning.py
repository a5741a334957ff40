"""Half of the multiplications of a robust network on the digits: learn which channels, and take them out."""

import torch

import harp
from harp.data import load_data
from harp.models import build_model

torch.manual_seed(0)
data = load_data("digits")
model = build_model("vgg_small", shape=data.shape, classes=len(data.classes))
threat = harp.Threat("linf", eps=0.1)
robust_loss = harp.n_fgsm(threat)  # (model, x, y) -> loss
image = torch.rand(1, *data.shape)
EPOCHS, BATCH = 3, 64


def train(lr: float, pruner: harp.Pruner | None = None) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(EPOCHS):
        for x, y in data.train.batches(torch.randperm(len(data.train)), BATCH):
            optimizer.zero_grad()
            robust_loss(model, x, y).backward()
            optimizer.step()
            if pruner is not None:
                pruner.step()


train(lr=0.1)  # the dense network
budget = harp.channel_budget(model, image, keep=0.5)  # half of its multiply-accumulates
steps = EPOCHS * -(-len(data.train) // BATCH)
pruner = harp.Pruner(model, budget=budget, steps=steps)  # weights rest, a mask for each group of channels learns
train(lr=0.1, pruner=pruner)
pruner.freeze()  # exact budget
train(lr=0.01)  # the weights that stayed
kept = {name: f"{mask.count} of {mask.size}" for name, mask in harp.masks(model).items()}
pruner.bake()
before = harp.macs(model, image)
harp.shrink(model, image)  # a plain, smaller network
print(kept)
print(f"{harp.macs(model, image) / before:.1%} of the multiplications")
print(harp.evaluate(model, data.test, harp.PGD(threat, steps=10)))
