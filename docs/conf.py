"""Settings of the documentation: `sphinx-build -W -b html docs docs/_build`."""

import onecycle

project = "onecycle"
author = "The onecycle developers"
release = onecycle.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings mark code with single backquotes

html_theme = "furo"
html_title = f"onecycle {release}"
html_copy_source = False

autodoc_mock_imports = [  # none is needed to build these pages
    "accelerate",
    "ignite",
    "jax",
    "keras",
    "lightning",
    "optax",
    "optuna",
    "skorch",
    "transformers",
]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
myst_heading_anchors = 3
