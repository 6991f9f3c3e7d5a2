"""What this library costs, in time and memory: `python -m benchmarks.speed --help`.

Each number is a ratio of two things that were done in turn, in one process, again and again: ours and an
installed peer's, or ours and the bare loop. A peer that is not installed has no row.
"""

import os

os.environ["TQDM_DISABLE"] = "1"  # bars, which others draw with it; it reads this when torch imports it
