"""docs/finetuning.md says what the code does."""

import argparse
import re
from dataclasses import fields
from pathlib import Path

from model_export.commands import finetune
from model_export.training.recipes import PAPER, SCRATCH, Recipe

PAGE = (Path(__file__).parent.parent.parent.parent / "docs" / "finetuning.md").read_text()
_NO_FLAG = {"name", "warmup_share", "least_steps", "average_decay"}  # a recipe's own limits


def flags() -> set[str]:
    parser = argparse.ArgumentParser()
    finetune.add_arguments(parser)
    return {option for action in parser._actions for option in action.option_strings}


def test_every_figure_of_a_recipe_is_a_flag_and_documented() -> None:
    figures = {field.name for field in fields(Recipe)} - _NO_FLAG
    wanted = {"--no-flip" if name == "flip" else f"--{name.replace('_', '-')}" for name in figures}
    assert wanted <= flags()
    told = re.search(r"\*\*Every figure is a flag\*\*(.*?)\n\n", PAGE, re.DOTALL)
    assert told
    assert wanted <= set(re.findall(r"--[a-z-]+", told[1]))


def test_every_documented_flag_is_there() -> None:
    known = flags() | {"--resize"}  # evaluate's
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) - {"--name"} <= known  # export's


def test_the_table_of_recipes() -> None:
    rows = {row.split("|")[1].strip(): row.split("|")[2:4] for row in PAGE.splitlines() if row.startswith("| ")}
    for column, recipe in enumerate((PAPER, SCRATCH)):
        assert rows["batch"][column].strip() == str(recipe.batch)
        assert rows["learning rate"][column].startswith(f" {recipe.learning_rate}, {recipe.schedule}")
        assert rows["warm-up (linear, from 0)"][column].strip() == f"{recipe.warmup_steps:,} steps"
