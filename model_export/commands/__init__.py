"""The commands of `python -m model_export`, a module each: `add_arguments(parser)` and `run(options)`."""
