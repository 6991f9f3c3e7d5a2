"""Handwritten digits with a loop of one's own under Accelerate, at a rate that was found."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import onecycle as oc
from onecycle.accelerate import Scheduler, find_lr

EPOCHS = 10

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
train, test = order[360:], order[:360]

accelerator = Accelerator(cpu=True)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
loss_fn = nn.CrossEntropyLoss()

steps = EPOCHS * len(loader)
found = find_lr(accelerator, model, optimizer, loss_fn, loader, total_steps=steps)
print(f"max_lr {found.max_lr:.3g}: {found.reason}")

scheduler = accelerator.prepare(Scheduler(optimizer, oc.one_cycle(found, steps)))
for _ in range(EPOCHS):
    for x, y in loader:
        optimizer.zero_grad()
        accelerator.backward(loss_fn(model(x), y))
        optimizer.step()
        scheduler.step()

with torch.no_grad():
    accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean().item()
print(f"accuracy on 360 digits that were held out: {accuracy:.1%}")
