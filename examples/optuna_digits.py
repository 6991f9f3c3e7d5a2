"""Handwritten digits: Optuna searches around a recipe, and tries the recipe itself first."""

import optuna

import onecycle as oc
from onecycle.optuna import enqueue, suggest_recipe
from onecycle.tasks import resolve

STEPS = 110

digits = resolve("digits")
found = oc.range_test(digits.trial(seed=0)).suggest()
recipe = oc.Recipe(
    found.max_lr, interval=(found.low, found.high), weight_decay=5e-4, batch_size=64, total_steps=STEPS
)


def objective(trial: optuna.Trial) -> float:
    """Validation loss after a 1cycle run with what Optuna suggests."""
    tried = suggest_recipe(trial, recipe)
    task = digits.trial(seed=0, batch_size=tried.batch_size, weight_decay=tried.weight_decay)
    history = oc.train(task, tried.policy(STEPS))
    trial.set_user_attr("accuracy", history.last("accuracy"))
    loss = history.last("val_loss")
    assert loss is not None
    return loss


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
enqueue(study, recipe)
study.optimize(objective, n_trials=5)
print(f"the recipe: loss {study.trials[0].value:.4f}; the best of five: {study.best_value:.4f}")
print(f"accuracy on 360 digits that were held out: {study.best_trial.user_attrs['accuracy']:.1%}")
