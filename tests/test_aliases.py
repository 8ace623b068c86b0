"""Earlier names still work on every surface, and each stands for a current name."""

import warnings

import pytest

import featviz
from featviz import aliases, cli
from featviz.recipes import metadata, presets
from featviz.recipes.table import RECIPES


@pytest.mark.parametrize(("earlier", "current"), aliases.PUBLIC.items())
def test_an_earlier_public_name_is_the_current_one_without_a_warning(earlier, current):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(featviz, earlier) is getattr(featviz, current)
    assert current in featviz.__all__
    assert earlier not in featviz.__all__


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'featviz' has no attribute 'Clasify'"):
        featviz.Clasify  # noqa: B018


@pytest.mark.parametrize(("earlier", "current"), aliases.ATTRIBUTES.items())
def test_an_earlier_attribute_of_recipes_is_the_current_one_on_the_class_and_on_instances(earlier, current):
    recipe = featviz.DeepDream(steps=3, octaves_above=1)
    assert getattr(featviz.DeepDream, earlier) == getattr(featviz.DeepDream, current)
    assert getattr(recipe, earlier) == getattr(recipe, current)
    assert [*recipe.extras, recipe.changed, recipe.needed("image")] == ["guide", "mask", {"steps": 3, "octaves_above": 1}, 1024]


@pytest.mark.parametrize(("earlier", "current"), aliases.RECIPES.items())
def test_an_earlier_recipe_name_is_read_from_files_and_links(earlier, current):
    kind = RECIPES[current]
    fields = {"size": 128}
    for restored in (
        metadata.from_json({"recipe": earlier, "fields": fields}, RECIPES),
        metadata.follow({"recipe": earlier, "size": "128"}, RECIPES),
    ):
        assert restored == metadata.Restored(kind(**fields))
    assert metadata.as_json(restored.recipe)["recipe"] == current
    assert metadata.link(restored.recipe) == f"?recipe={current}&size=128"


@pytest.mark.parametrize(("earlier", "current"), aliases.RECIPES.items())
def test_an_earlier_recipe_name_is_a_command(earlier, current):
    kind = RECIPES[current]
    arguments = vars(cli.parser().parse_args([earlier.replace("_", "-"), *kind.images, "--size", "128"]))
    assert arguments["command_function"].args == (kind,)
    assert cli.recipe_from_arguments(kind, arguments) == kind(size=128)


def test_the_earlier_option_sets_the_preset_and_is_not_in_the_help(capsys):
    preset = next(preset for preset in presets.read_presets() if preset.name == "eyes")
    arguments = vars(cli.parser().parse_args(["deepdream", "image.png", "out.png", "--look", "eyes"]))
    assert cli.recipe_from_arguments(RECIPES["deepdream"], arguments) == preset.recipe
    with pytest.raises(SystemExit, match="0"):
        cli.main(["deepdream", "--help"])
    assert "--look" not in capsys.readouterr().out
    assert aliases.OPTIONS == {"look": "preset"}
