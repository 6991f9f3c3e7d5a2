"""What the parts of a recipe are worth: `python -m benchmarks.recipe --help`."""
