"""Handwritten digits with Ignite, at a rate that was found."""

import torch
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import onecycle as oc
from onecycle.ignite import Trial, attach

EPOCHS = 10

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
train, test = order[360:], order[:360]
train_loader = DataLoader(TensorDataset(images[train], labels[train]), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(images[test], labels[test]), batch_size=360)

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())

steps = EPOCHS * len(train_loader)
found = oc.find_lr(Trial(trainer, model, optimizer, train_loader), total_steps=steps)
print(f"max_lr {found.max_lr:.3g}: {found.reason}")

attach(trainer, optimizer, oc.one_cycle(found, steps))
trainer.run(train_loader, max_epochs=EPOCHS)

evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
accuracy = evaluator.run(test_loader).metrics["accuracy"]
print(f"accuracy on 360 digits that were held out: {accuracy:.1%}")
