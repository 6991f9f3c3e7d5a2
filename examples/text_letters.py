"""Text: a recurrent net learns to continue Python's own manual, a letter at a time, with AdamW.

    $ pip install 'onecycle[torch]'
    $ python text_letters.py

It takes some ten seconds on a laptop's processor. The text comes with Python.
"""

from __future__ import annotations

import math
import pydoc_data.topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import onecycle as oc
from onecycle.torch import Scheduler, find_lr

LENGTH, BATCH, STEPS = 48, 32, 300

torch.manual_seed(0)
text = "".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))[:150_000]
letters = sorted(set(text))
codes = torch.tensor([letters.index(letter) for letter in text])
rows = codes[: len(codes) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
split = len(rows) * 9 // 10
train_loader: DataLoader[Tensor] = DataLoader(rows[:split], BATCH, shuffle=True, drop_last=True)  # type: ignore[arg-type]
val_loader: DataLoader[Tensor] = DataLoader(rows[split:], 256)  # type: ignore[arg-type]


class Letters(nn.Module):
    """Log-odds of each next letter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(letters), 48)
        self.gru = nn.GRU(48, size, batch_first=True)
        self.out = nn.Linear(size, len(letters))

    def forward(self, rows: Tensor) -> Tensor:
        hidden, _ = self.gru(self.embed(rows[:, :-1]))
        odds: Tensor = self.out(hidden)
        return odds


def loss_fn(outputs: Tensor, rows: Tensor) -> Any:
    """Mean cross-entropy of the letters that come next."""
    return nn.functional.cross_entropy(outputs.flatten(0, 1), rows[:, 1:].flatten())


def bits() -> float:
    """Bits that a letter of the part that was held out takes."""
    with torch.no_grad():
        losses = [(float(loss_fn(model(batch), batch)), len(batch)) for batch in val_loader]
    return sum(loss * n for loss, n in losses) / sum(n for _, n in losses) / math.log(2)


model = Letters(96)
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
found = find_lr(model, optimizer, loss_fn, train_loader, total_steps=STEPS, budget=0.3)
print(found)

print(f"before: {bits():.2f} bits a letter")
scheduler = Scheduler(optimizer, oc.one_cycle(found, STEPS))
step = 0
while step < STEPS:
    for batch in train_loader:
        if step == STEPS:
            break
        optimizer.zero_grad()
        loss_fn(model(batch), batch).backward()
        optimizer.step()
        scheduler.step()
        step += 1
share = codes.bincount() / len(codes)
print(f"letters by their frequency alone: {-(share * share.log2()).nansum():.2f} bits a letter")
print(f"after {STEPS} updates: {bits():.2f} bits a letter")
