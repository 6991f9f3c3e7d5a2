"""The recipe as code, for each framework: what a person copies into a program."""

from __future__ import annotations

from onecycle._recipe import Recipe

# By PyTorch's name: Keras's, Optax's, arguments of PyTorch's, whether the decay is apart from the gradient.
_OPTIMIZERS = {
    "SGD": ("SGD", "sgd", ", momentum=0.9", False),
    "Adam": ("Adam", "adam", "", False),
    "AdamW": ("AdamW", "adamw", "", True),
    "RMSprop": ("RMSprop", "rmsprop", ", momentum=0.9", False),
}


def snippets(recipe: Recipe, optimizer: str = "SGD") -> dict[str, str]:
    """Code by the framework's name; its first line lists the names that it expects.

    Args:
        recipe: what to train with.
        optimizer: the class in `torch.optim` that the recipe was found with; SGD where it is another one.
    """
    if optimizer not in _OPTIMIZERS:
        optimizer = "SGD"
    of_keras, of_optax, momentum, decoupled = _OPTIMIZERS[optimizer]
    peak, settings = f"{recipe.max_lr:.6g}", _settings(recipe)
    batch = f" (batches of {recipe.batch_size})" if recipe.batch_size else ""
    steps = f"{recipe.total_steps}" if recipe.total_steps else "10 * len(loader)"
    decay = f", weight_decay={recipe.weight_decay:.6g}" if recipe.weight_decay else ""
    policy = f"policy = oc.one_cycle({', '.join([peak, f'total_steps={steps}', *settings])})"
    torch = f"torch.optim.{optimizer}(model.parameters(), lr={peak}{momentum}{decay})"
    rest = "".join(f", {setting}" for setting in settings)
    return {
        "PyTorch": f"""\
# yours: model, loss_fn, loader{batch}
import torch
import onecycle as oc
from onecycle.torch import Scheduler

{policy}
optimizer = {torch}
scheduler = Scheduler(optimizer, policy)

step = 0
while step < policy.total_steps:
    for x, y in loader:
        if step == policy.total_steps:
            break
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
        scheduler.step()
        step += 1
""",
        "Lightning": f"""\
# yours: loader{batch}, and a module whose configure_optimizers returns
# {torch.replace("model.", "self.")}
from lightning.pytorch import Trainer
from onecycle.lightning import OneCycle

trainer = Trainer(max_epochs=-1, max_steps={steps}, callbacks=[OneCycle({peak}{rest})])
trainer.fit(module, loader)
""",
        "Transformers": f"""\
# yours: model, train_dataset
import torch
from transformers import Trainer, TrainingArguments
from onecycle.transformers import one_cycle

optimizer = {torch}
arguments = TrainingArguments(
    "out",
    learning_rate={peak},
{f"    per_device_train_batch_size={recipe.batch_size}," if recipe.batch_size else "    # batch size"}
{f"    max_steps={recipe.total_steps}," if recipe.total_steps else "    num_train_epochs=10,"}
)
trainer = Trainer(model, arguments, train_dataset=train_dataset, optimizers=(optimizer, None))
one_cycle(trainer{rest}).train()
""",
        "Accelerate": f"""\
# yours: model, loss_fn, loader{batch}
import torch
from accelerate import Accelerator
import onecycle as oc
from onecycle.accelerate import Scheduler

optimizer = {torch}
{policy}
accelerator = Accelerator()
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
scheduler = accelerator.prepare(Scheduler(optimizer, policy))

step = 0
while step < policy.total_steps:
    for x, y in loader:
        if step == policy.total_steps:
            break
        optimizer.zero_grad()
        accelerator.backward(loss_fn(model(x), y))
        optimizer.step()
        scheduler.step()
        step += 1
""",
        "Keras": f"""\
# yours: model, loss, x, y; on the JAX back end give one_cycle momentum=None
{_keras_decay(recipe, decoupled)}import keras
import onecycle as oc
from onecycle.keras import PolicyCallback, Schedule

batch_size = {recipe.batch_size or 32}
{policy.replace("10 * len(loader)", "10 * len(x) // batch_size")}
optimizer = keras.optimizers.{of_keras}(Schedule(policy.lr){momentum}{decay if decoupled else ""})
model.compile(optimizer, loss)
epochs = -(-policy.total_steps // -(-len(x) // batch_size))
model.fit(x, y, batch_size=batch_size, epochs=epochs, callbacks=[PolicyCallback(policy)])
""",
        "JAX": f"""\
# yours: loss_fn(params, batch), params, batches{batch}
import jax
import optax
import onecycle as oc
from onecycle.optax import optimizer

{policy.replace("len(loader)", "len(batches)")}
tx = {_optax(of_optax, recipe, decoupled)}


@jax.jit
def train_step(params, opt_state, batch):
    loss, gradient = jax.value_and_grad(loss_fn)(params, batch)
    updates, opt_state = tx.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


opt_state = tx.init(params)
for step in range(policy.total_steps):
    params, opt_state, loss = train_step(params, opt_state, batches[step % len(batches)])
""",
    }


def _settings(recipe: Recipe) -> list[str]:
    settings = []
    if recipe.min_lr is not None:
        settings.append(f"min_lr={recipe.min_lr:.6g}")
    if recipe.momentum != (0.95, 0.85):
        settings.append(f"momentum={recipe.momentum}")
    if recipe.form != "paper":
        settings.append(f'form="{recipe.form}"')
    return settings


def _keras_decay(recipe: Recipe, decoupled: bool) -> str:
    # What Keras calls weight_decay is apart from the gradient, in every optimizer.
    if not recipe.weight_decay or decoupled:
        return ""
    regularizer = f"keras.regularizers.L2({recipe.weight_decay / 2:.6g})"
    return f"# for the weight decay, in each layer: kernel_regularizer={regularizer}\n"


def _optax(name: str, recipe: Recipe, decoupled: bool) -> str:
    if not recipe.weight_decay:
        return f"optimizer(policy, optax.{name})"
    if decoupled:
        return f"optimizer(policy, optax.{name}, weight_decay={recipe.weight_decay:.6g})"
    return (
        f"optax.chain(optax.add_decayed_weights({recipe.weight_decay:.6g}), optimizer(policy, optax.{name}))"
    )
