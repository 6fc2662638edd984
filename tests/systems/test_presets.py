"""What a preset chooses, for which data, and what it leaves to the user."""

import dataclasses

import pytest
import torch

from fastgan.data import Batches, ImageData, Images, Labels, load
from fastgan.data.fitting import fitted
from fastgan.options import build
from fastgan.runs import Settings
from fastgan.runs.config import Config
from fastgan.systems import Generative, Preset, Translator, create, names, preset
from fastgan.systems.patches import PatchTranslator
from fastgan.systems.presets import described
from fastgan.systems.registry import find


def pictures(count=8, side=64, channels=3):
    return ImageData(torch.zeros(count, channels, side, side, dtype=torch.uint8))


@pytest.mark.parametrize("name", ["quick", "paper"])
@pytest.mark.parametrize("system", names())
def test_every_system_takes_it(system, name):
    data = load("emoji")
    options, settings = preset(system, data, name, width=4)
    made = create(system, width=4, **options)
    assert made.image_shape[0] == 3
    assert made.image_shape[1] <= (32 if name == "quick" and not issubclass(find(system), Translator) else 64)
    build(Config, {**settings, "system": system}, "a run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quick", "paper"])
@pytest.mark.parametrize("system", [system for system in names() if find(system).trains_on != "digits"])
def test_what_it_trains_on_fills_a_batch(system, name, monkeypatch, tmp_path):
    """`fastgan train NAME` and nothing else has to work."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setattr("fastgan.data.heads.ROWS", {"train": 12, "test": 2})  # of 1,000, which take minutes to draw
    try:
        data = load(find(system).trains_on)
    except ImportError as error:
        pytest.skip(str(error))
    options, settings = preset(system, data, name)
    small = {"width": 4} if system != "context-encoder" else {"width": 4, "bottleneck": 8}
    made = create(system, **{**options, **small})
    rows = build(Config, {**settings, "system": system}, "a run").batch_size
    batch = next(Batches(fitted(data, made.inputs()), rows, workers=0))
    assert set(batch) == set(made.inputs())
    assert {len(values) for values in batch.values()} == {rows}


@pytest.mark.parametrize("system", ["gan", "wgan-gp", "sngan"])
def test_points(system):
    options, settings = preset(system, "grid", "quick", steps=700)
    assert create(system, **options).image_shape == (2, 1, 1)
    assert options["latent"] == 2
    assert options["decay_steps"] == 700
    assert settings["precision"] == "float32"
    assert "steps" not in settings  # it is decided
    assert preset(system, "grid", "quick").options["decay_steps"] == preset(system, "grid").settings["steps"]


@pytest.mark.parametrize("system", names())
def test_paper_is_what_the_system_has_by_itself(system):
    data = load("digits")
    options, settings = preset(system, data, "paper")
    beside = find(system).paper(data.fields, len(data), None)
    assert settings == beside.settings
    assert options.keys() <= {"resolution", "channels", "classes"} | beside.options.keys()
    changed = dataclasses.asdict(find(system).Config(**options))
    paper = {**dataclasses.asdict(find(system).Config()), **beside.options}
    assert all(changed[key] == paper[key] for key in paper.keys() - {"resolution", "channels", "classes"})


def test_paper_of_a_system_of_latents_is_its_defaults():
    assert all(
        preset(system, "digits", "paper").settings == {} for system in names() if issubclass(find(system), Generative)
    )


@pytest.mark.parametrize("system", [name for name in names() if issubclass(find(name), PatchTranslator)])
def test_paper_of_a_system_of_patches(system):
    """One picture a step, 200 epochs, a rate that falls to 0 in the second half: Isola 2017, Zhu 2017."""
    options, settings = preset(system, pictures(400, 128), "paper")
    assert settings == {"batch_size": 1, "flip": True, "jitter": 15, "steps": 80_000}
    assert options == {
        "channels": 3, "resolution": 128, "decay": "linear", "decay_from": 40_000, "decay_steps": 40_000
    }  # fmt: skip
    options, settings = preset(system, pictures(400, 128), "paper", steps=101)
    assert "steps" not in settings
    assert (options["decay_from"], options["decay_steps"]) == (50, 51)


def test_few_pictures_are_augmented():
    assert preset("dcgan", pictures(4999)).options["augment"] == "translation,cutout"
    assert "augment" not in preset("dcgan", pictures(5000, side=32)).options
    assert "augment" not in preset("dcgan", "digits").options


def test_what_a_preset_switches_off_is_off():
    """0, false and "" are values like others."""

    class Off(find("sngan")):
        @classmethod
        def quick(cls, fields, rows, steps):
            return Preset(
                {"label_smoothing": 0.0, "r1": 0.0, "augment": "", "decay": "none"}, {"flip": False, "ema": 0}
            )

    options, settings = preset(Off, pictures(), "quick")
    assert options == {
        "channels": 3,
        "resolution": 32,
        "label_smoothing": 0.0,
        "r1": 0.0,
        "augment": "",
        "decay": "none",
    }
    assert settings == {"flip": False, "ema": 0}
    assert "label smoothing 0, " in described(Preset(options, settings))
    assert described(Preset(options, settings)).endswith("flip false, ema 0")


def test_labels_without_names_say_no_number_of_classes():
    fields = {"image": Images(3, 32, 32), "label": Labels()}
    assert "classes" not in find("acgan").options_for(fields, {})
    assert find("acgan").options_for({**fields, "label": Labels(("cat",))}, {})["classes"] == 1


def test_what_is_given_is_left_out():
    options, settings = preset("dcgan", pictures(), "quick", width=7, batch_size=3, resolution=64)
    assert not {"width", "resolution"} & options.keys()
    assert settings == {}
    assert options["upsampling"] == "resize"
    options, _ = preset("gan", "ring", "quick", decay="cosine", decay_steps=5)
    assert not [key for key in options if key.startswith("decay")]


def test_larger_pictures_are_made_small_and_small_ones_not_smaller_than_a_system_needs():
    assert preset("dcgan", pictures(side=200), "paper").options["resolution"] == 64
    assert preset("dcgan", pictures(side=200), "quick").options["resolution"] == 32
    assert preset("dcgan", pictures(side=8), "quick").options["resolution"] == 32


def test_a_stream_has_no_size():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield torch.zeros(3, 64, 64, dtype=torch.uint8)

    assert "augment" not in preset("dcgan", Stream()).options


def test_in_words():
    text = described(preset("dcgan", "digits", "quick"))
    assert text.startswith("resolution 32, width ")
    assert "batch size 32" in text
    assert "channels" not in text


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="preset must be one of quick, paper, not 'fast'"):
        preset("dcgan", "digits", "fast")
    with pytest.raises(ValueError, match="no system 'dcgam'"):
        preset("dcgam", "digits")


def test_settings_are_those_of_a_run():
    known = {field.name for field in dataclasses.fields(Settings)} | {"steps"}
    assert all(preset(system, "digits").settings.keys() <= known for system in names())
