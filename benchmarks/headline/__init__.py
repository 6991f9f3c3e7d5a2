"""CIFAR-10: the article's and Smith's results reproduced: `python -m benchmarks.headline --help`."""
