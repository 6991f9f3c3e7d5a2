"""Recipes compared: what a budget buys, by final validation loss.

`python -m benchmarks.recipe run` trains (resumable), `… report` prints the table and draws the figure.
"""
