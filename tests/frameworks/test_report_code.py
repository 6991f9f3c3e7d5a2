"""The code that the report offers for each framework, run as it stands on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onecycle import Recipe
from onecycle.report._use import snippets

RECIPES = {
    "whole": (Recipe(0.05, momentum=(0.9, 0.8), weight_decay=1e-3, batch_size=16, total_steps=30), "SGD"),
    "plain": (Recipe(0.01, total_steps=30), "AdamW"),
}
pytestmark = pytest.mark.parametrize("name", RECIPES)


def run(framework: str, name: str, **names: Any) -> dict[str, Any]:
    code = snippets(*RECIPES[name])[framework]
    exec(compile(code, f"<report: {framework}>", "exec"), names)
    return names


def torch_names(batch: int) -> dict[str, Any]:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.manual_seed(0)
    inputs = torch.randn(160, 4)
    data = torch.utils.data.TensorDataset(inputs, inputs[:, :2].argmax(dim=1))
    return {
        "model": torch.nn.Linear(4, 2),
        "loss_fn": torch.nn.CrossEntropyLoss(),
        "loader": torch.utils.data.DataLoader(data, batch),
    }


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
@pytest.mark.filterwarnings("ignore:.*`tensorboardX` has been removed")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_lightning(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    given = torch_names(16)
    seen = []

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = given["model"]

        def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
            seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            x, y = batch
            return given["loss_fn"](self.layer(x), y)

        def configure_optimizers(self) -> Any:
            (line,) = [
                line for line in snippets(*RECIPES[name])["Lightning"].splitlines() if "torch.optim" in line
            ]
            return eval(line.removeprefix("# "), {"torch": torch, "self": self})

    run("Lightning", name, module=Module(), loader=given["loader"])
    rates = RECIPES[name][0].policy(30).lr(np.arange(30))
    np.testing.assert_allclose(seen, rates)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_transformers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    size = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_positions": 8, "vocab_size": 16}
    config = transformers.GPT2Config(**size, bos_token_id=0, eos_token_id=0, loss_type="ForCausalLM")
    rows = torch.randint(0, 16, (64, 8))
    names = run(
        "Transformers",
        name,
        model=transformers.GPT2LMHeadModel(config),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
    )
    trainer, recipe = names["trainer"], RECIPES[name][0]
    assert trainer.state.global_step == 30
    assert type(trainer.optimizer.optimizer).__name__ == RECIPES[name][1]
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(recipe.policy(30).lr(29))


def test_accelerate(name: str) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    names = run("Accelerate", name, **torch_names(16))
    assert names["step"] == 30
    final = RECIPES[name][0].policy(30).lr(29)
    assert names["optimizer"].param_groups[0]["lr"] == pytest.approx(final)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_keras(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras", reason="keras is not installed")
    if keras.backend.backend() != "torch":
        pytest.skip("keras runs on another back end")
    x = np.random.default_rng(0).normal(size=(160, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    names = run("Keras", name, model=model, loss=loss, x=x, y=x[:, :2].argmax(axis=1))
    assert int(names["optimizer"].iterations.value) >= 30
    assert type(names["optimizer"]).__name__ == RECIPES[name][1]


def test_jax(name: str) -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    optax = pytest.importorskip("optax", reason="optax is not installed")
    x = np.random.default_rng(0).normal(size=(160, 4)).astype("float32")
    y = x[:, :2].argmax(axis=1)

    def loss_fn(params: Any, batch: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(batch[0] @ params, batch[1]).mean()

    params = jax.numpy.zeros((4, 2))
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 160, 16)]
    names = run("JAX", name, loss_fn=loss_fn, params=params, batches=batches)
    assert names["step"] == 29
    assert loss_fn(names["params"], (x, y)) < loss_fn(params, (x, y))
