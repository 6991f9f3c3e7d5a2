"""What the parts of a recipe are worth, by final validation loss: `python -m benchmarks.recipe --help`."""
