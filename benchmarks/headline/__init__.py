"""CIFAR-10: the article's and Smith's results reproduced, and beaten; `python -m benchmarks.headline --help`."""
