"""An option names its class: what is made, and what is refused with a reason."""

import pickle

import pytest

from zoomldm.config import Option, options_of, parameters_of
from zoomldm.curriculum.base import Curriculum
from zoomldm.errors import ConfigError


class Animal:
    """The base of what these tests make."""

    def __init__(self, *, legs: int, voice: str | None = None) -> None:
        if legs < 0:
            raise ValueError(f"legs must be 0 or more, got {legs}")
        self.legs, self.voice = legs, voice


class Dog(Animal):
    def __init__(self, *, name: str = "", breed: str = "none", **more) -> None:
        super().__init__(**more)
        self.name, self.breed = name, breed


class Stone:
    pass


HERE = ("tests",)


def option(target: str = "Dog", **arguments) -> Option:
    return Option("pet", {"_target_": f"{__name__}.{target}", "name": "rex", **arguments}, HERE)


def test_an_option_is_made_from_its_arguments_and_the_facts_that_its_class_takes():
    dog = option(breed="pug").make(Animal, legs=4, weather="rain")
    assert (dog.legs, dog.breed, dog.name) == (4, "pug", "rex")


def test_a_configured_value_goes_before_a_fact_and_null_behind_it():
    assert option(legs=3).make(Animal, legs=4).legs == 3
    assert option(legs=None).make(Animal, legs=4).legs == 4
    assert option(legs=4, voice=None).make(Animal).voice is None


def test_arguments_behind_stars_are_those_of_the_base():
    assert parameters_of(Dog) == {"name": False, "breed": False, "legs": True, "voice": False}
    assert parameters_of(Stone) == {}


def test_an_argument_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"pet\.bread: Dog takes no such argument; did you mean 'breed'\?"):
        option(bread="pug").make(Animal, legs=4)


def test_what_nothing_says_is_asked_for_by_its_key():
    with pytest.raises(ConfigError, match=r"pet\.legs: Dog needs it"):
        option().make(Animal)


def test_a_value_that_the_class_refuses_is_the_users_to_mend():
    with pytest.raises(ConfigError, match="pet=rex: legs must be 0 or more, got -1"):
        option(legs=-1).make(Animal)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", "no _target_"),
        ("Dog", "no _target_"),
        (f"{__name__}.Stone", "is no Animal"),
        (f"{__name__}.Cat", "defines no class Cat"),
        (f"{__name__}.ConfigError", "defines no class ConfigError"),
        (f"{__name__}.pickle", "defines no class pickle"),
        (f"{__name__}.option", "defines no class option"),
        ("tests.no_such_module.Dog", "cannot be imported"),
        ("subprocess.Popen", r"add allow_code=\[subprocess\]"),
        ("zoomldm.config.Path", "defines no class Path"),
    ],
)
def test_what_is_not_such_a_class_is_refused(target, reason):
    with pytest.raises(ConfigError, match=reason):
        Option("pet", {"_target_": target}, HERE).target(Animal)


def test_other_packages_need_the_permission_of_the_command_line():
    with pytest.raises(ConfigError, match=r"allow_code=\[tests\]"):
        Option("pet", option().section).make(Animal, legs=4)
    assert Option("curriculum", {"_target_": "zoomldm.curriculum.base.Curriculum"}).target(Curriculum) is Curriculum


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_pets.py").write_text(f"from {__name__} import Animal\nclass Cat(Animal): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    cat = Option("pet", {"_target_": "my_pets.Cat"}, ("my_pets",))
    assert (cat.name, cat.make(Animal, legs=4).legs) == ("Cat", 4)


def test_an_option_goes_to_another_process():
    again = pickle.loads(pickle.dumps(option(breed="pug")))
    assert again == option(breed="pug")
    assert again.make(Animal, legs=4).breed == "pug"


def test_of_several_chosen_options_each_has_its_name_and_place():
    chosen = options_of("pets", {"rex": option(legs=4).section, "out": None, "tom": {"_target_": "x.Y"}}, HERE)
    assert [(name, one.group, one.name) for name, one in chosen.items()] == [
        ("rex", "pets.rex", "rex"),
        ("tom", "pets.tom", "tom"),
    ]
    assert chosen["rex"].make(Animal).legs == 4
