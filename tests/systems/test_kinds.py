"""What each kind of system does beyond training: probes, panels, outputs, recordings."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from fastgan.data import Apart, Batch, Images, Labels, Panel, Texts, Vectors, draw, load, take
from fastgan.data.panel import by_class
from fastgan.data.texts import Vocabulary
from fastgan.systems import ImagePool, Sequences, TextToImage, Translator, create
from fastgan.systems.remedies import COLLAPSE, STRONG


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return load("digits", 16, 1)


class TestGenerative:
    @pytest.fixture
    def system(self):
        return create("dcgan", resolution=16, channels=1, width=4, latent=8)

    def test_inputs(self, system):
        assert system.inputs() == {"image": Images(1, 16, 16)}
        conditional = create("acgan", resolution=32, channels=3, width=8, classes=10)
        assert conditional.inputs() == {"image": Images(3, 32, 32), "label": Labels(tuple("0123456789"))}
        conditional.told_of({"classes": [f"digit {n}" for n in range(10)]})
        assert conditional.inputs()["label"].names[3] == "digit 3"
        conditional.told_of({"classes": ["a", "b"]})  # of other data
        assert conditional.class_names == ()
        assert create("gan", resolution=1, channels=2, latent=2).inputs() == {"vector": Vectors(2)}

    @pytest.mark.parametrize(
        ("field", "given", "expected"),
        [
            (Images(1, 8, 8), {}, {"channels": 1, "resolution": 32}),
            (Images(3, 60, 200), {}, {"channels": 3, "resolution": 32}),
            (Images(3, 512, 512), {}, {"channels": 3, "resolution": 64}),
            (Images(3, 512, 512), {"resolution": 16}, {"channels": 3}),
            (Vectors(2), {}, {"channels": 2, "resolution": 1}),
        ],
        ids=str,
    )
    def test_options_that_follow_from_the_data(self, system, field, given, expected):
        name = "vector" if isinstance(field, Vectors) else "image"
        fields = {name: field, "label": Labels(("a", "b"))}
        assert type(system).options_for(fields, given) == expected  # it has no classes
        conditional = type(create("acgan", resolution=32, width=8)).options_for(fields, {"resolution": 32})
        assert conditional == {"channels": expected["channels"], "classes": 2}

    def test_show_is_a_sample_of_the_probe(self, system, digits):
        probe = system.probe(digits, 9, generator())
        (panel,) = system.show(probe)
        assert torch.equal(panel.parts["samples"], system.sample(9, latent=probe.latent))
        assert torch.equal(probe.latent, system.latent(9, generator()))
        assert draw(panel).shape[0] == 1

    def test_seen_is_what_the_discriminator_sees(self):
        system = create("dcgan", resolution=16, channels=1, width=4, latent=8, augment="cutout")
        batch = Batch(image=torch.ones(6, 1, 16, 16))
        (panel,) = system.seen(batch, 4)
        assert panel.parts["image"].shape == (4, 1, 16, 16)
        assert (panel.parts["image"] == 0).any(dim=(1, 2, 3)).all()
        assert not panel.parts["image"].requires_grad

    def test_a_column_a_class(self):
        system = create("acgan", resolution=32, channels=1, width=8, classes=3)
        (panel,) = system.show(system.probe(load("digits", 32), 8, generator()))
        assert (len(panel.parts["samples"]), panel.columns) == by_class(8, 3) == (6, 3)

    def test_outputs_are_in_parts_and_of_each_class_in_turn(self, system, digits):
        parts = list(system.outputs(digits, 10, generator(), size=4))
        assert [len(part.values) for part in parts] == [4, 4, 2]
        assert all(part.against == "image" and part.truth is None and part.labels is None for part in parts)
        drawn = generator()
        expected = [system.sample(rows, generator=drawn) for rows in (4, 4, 2)]
        assert all(torch.equal(part.values, e) for part, e in zip(parts, expected))
        conditional = create("acgan", resolution=32, channels=1, width=8, classes=3)
        labels = [part.labels.tolist() for part in conditional.outputs(digits, 7, generator(), size=4)]
        assert labels == [[0, 1, 2, 0], [1, 2, 0]]

    def test_remedies(self, system):
        first, *_ = system.remedies(COLLAPSE)
        assert first.options == {"r1": 1.0}
        system.change(**first.options)
        assert system.config.r1 == 1.0
        assert system.remedies("nothing of the kind") == []
        for remedy in system.remedies(STRONG):
            if remedy.options:
                assert set(remedy.options) <= set(system.live)
        autoencoder = create("autoencoder", resolution=16, width=4)
        assert autoencoder.remedies(STRONG) == []
        with pytest.raises(ValueError, match="system autoencoder has no option 'r1'"):
            autoencoder.change(r1=1.0)


@dataclass(frozen=True)
class PlainConfig:
    resolution: int = 8
    channels: int = 3


class Negative(Translator):
    name = "negative"
    Config = PlainConfig
    directions: ClassVar = {"a to b": ("a", "b"), "b to a": ("b", "a")}
    paired = False

    def __init__(self, config):
        super().__init__(config)
        self.generator = nn.Conv2d(3, 3, 1)
        self.pool = ImagePool(4, (3, 8, 8))

    def phases(self):
        return []

    def forward(self, images, direction=None, **inputs):
        return self.generator(images) * (1 if self.way(direction) == "a to b" else -1)


class Paired(Negative):
    name = "paired"
    directions: ClassVar = {"forward": ("source", "target")}
    paired = True

    def forward(self, images, direction=None, **inputs):
        return -images


class Masked(Paired):
    name = "masked"
    takes: ClassVar = {"mask": "1 where the picture counts"}
    multiple, least, fixed = 1, 1, None

    def __init__(self, config, **limits):
        super().__init__(config)
        for name, value in limits.items():
            setattr(self, name, value)

    def forward(self, images, direction=None, **inputs):
        return images * inputs["mask"]

    def examples(self, batch, generator, paired=None):
        (example,) = super().examples(batch, generator, paired)
        mask = torch.rand(len(example.images), 1, 8, 8, generator=generator).round()
        yield replace(example, inputs={"mask": mask}, region=mask > 0)


class TestTranslator:
    def test_inputs_and_options(self):
        assert Negative(PlainConfig()).inputs() == {"a": Images(3, 8, 8), "b": Images(3, 8, 8)}
        found = Negative.options_for({"a": Images(1, 100, 300), "b": Images(3, 256, 256)}, {})
        assert found == {"channels": 3, "resolution": 64}
        assert Negative.options_for({"text": Labels(())}, {}) == {}

    def test_translate(self):
        system = Negative(PlainConfig()).train()
        images = torch.rand(2, 3, 8, 8) * 2 - 1
        forth, back = system.translate(images), system.translate(images, "b to a")
        assert torch.equal(forth, -back)
        assert not forth.requires_grad
        assert system.training
        with pytest.raises(ValueError, match="direction must be one of a to b, b to a, not 'c'"):
            system.translate(images, "c")
        with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\).*not \(3, 8, 8\)"):
            system.translate(images[0])

    def test_show_and_outputs(self, monkeypatch):
        rows = Batch(source=torch.rand(5, 3, 8, 8), target=torch.rand(5, 3, 8, 8))
        monkeypatch.setattr("fastgan.data.take", lambda source, count: rows.map(lambda t: t[:count]))
        system = Paired(PlainConfig())
        (panel,) = system.show(system.probe("data", 3, generator()))
        assert list(panel.parts) == ["input", "output", "truth"]
        assert torch.equal(panel.parts["output"], -rows.source[:3])
        first, second = system.outputs("data", 5, generator(), size=3)
        assert torch.equal(torch.cat([first.truth, second.truth]), rows.target)
        assert torch.equal(torch.cat([first.values, second.values]), -rows.source)
        assert first.against == "target"

    def test_examples_with_more_than_a_picture(self):
        """A mask goes in beside each picture, is drawn from the generator, shown, and cut into parts with the rest."""
        rows = Batch(source=torch.rand(5, 3, 8, 8), target=torch.rand(5, 3, 8, 8))
        system = Masked(PlainConfig())
        (example,) = system.examples(rows, generator())
        assert torch.equal(example.inputs["mask"], torch.rand(5, 1, 8, 8, generator=generator()).round())
        assert torch.equal(example.region, example.inputs["mask"] > 0)
        part = example.rows(slice(1, 3))
        assert torch.equal(part.inputs["mask"], example.inputs["mask"][1:3])
        assert torch.equal(part.truth, rows.target[1:3])
        assert torch.equal(part.region, example.region[1:3])
        (panel,) = system.show(rows)
        assert list(panel.parts) == ["input", "mask", "output", "truth"]
        assert torch.equal(panel.parts["output"], rows.source * panel.parts["mask"])
        name, copied = system.baseline(example)
        assert name == "copy"
        assert torch.equal(copied, rows.source)

    def test_examples_of_rows_that_are_pairs_after_all(self):
        rows = Batch(a=torch.rand(2, 3, 8, 8), b=torch.rand(2, 3, 8, 8))
        system = Negative(PlainConfig())
        assert [example.truth for example in system.examples(rows, generator())] == [None, None]
        forth, back = system.examples(rows, generator(), paired=True)
        assert torch.equal(forth.truth, rows.b)
        assert torch.equal(back.truth, rows.a)

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({"reference": torch.rand(2, 3, 8, 8)}, "masked takes no reference: beside pictures it takes mask"),
            ({"mask": torch.rand(1, 1, 8, 8)}, r"mask must be .* a row for each of the 2 images, not \(1, 1, 8, 8\)"),
        ],
    )
    def test_inputs_that_cannot_be_used(self, inputs, message):
        with pytest.raises(ValueError, match=message):
            Masked(PlainConfig()).translate(torch.rand(2, 3, 8, 8), **inputs)
        with pytest.raises(ValueError, match="paired takes no mask: it takes pictures alone"):
            Paired(PlainConfig()).translate(torch.rand(2, 3, 8, 8), mask=torch.rand(2, 1, 8, 8))

    @pytest.mark.parametrize("size", [(8, 12), (16, 8), (4, 4)])
    def test_sizes_that_cannot_be_used(self, size):
        message = "takes pictures whose sides are multiples of 8, at least 16 pixels, not {1}x{0}".format(*size)
        with pytest.raises(ValueError, match=message):
            Masked(PlainConfig(), multiple=8, least=16).translate(torch.rand(1, 3, *size))
        with pytest.raises(ValueError, match="masked takes pictures of 8x6 pixels, not {1}x{0}".format(*size)):
            Masked(PlainConfig(), fixed=(6, 8)).translate(torch.rand(1, 3, *size))

    def test_seen_has_a_panel_a_field(self):
        batch = Batch(a=torch.rand(5, 3, 8, 8), b=torch.rand(5, 3, 8, 8), label=torch.arange(5))
        panels = Negative(PlainConfig()).seen(batch, 3)
        assert [panel.name for panel in panels] == ["a", "b"]
        assert torch.equal(panels[1].parts["b"], batch.b[:3])

    def test_rank_state_is_the_pools(self):
        system = Negative(PlainConfig())
        system.pool(torch.rand(2, 3, 8, 8))
        state = system.rank_state()
        assert sorted(state) == ["pool.filled", "pool.images"]
        assert state["pool.filled"] == 2
        assert set(state) <= set(system.state_dict())

    def test_recording(self):
        function, inputs = Negative(PlainConfig()).recording()
        assert function(**inputs).shape == (2, 3, 8, 8)


class TestDraw:
    def test_rows_of_parts_of_different_size_and_color(self):
        small, large = torch.ones(2, 1, 4, 4), -torch.ones(2, 3, 8, 8)
        picture = draw(Panel("x", {"input": small, "output": large}))
        unit = picture.shape[2] // (2 * (8 + 2) + 2)
        cells = picture[:, unit // 2 :: unit, unit // 2 :: unit]
        assert cells.shape == (3, 22, 22)
        assert (cells[:, 2:10, 2:10] == 255).all()
        assert (cells[:, 2:10, 12:20] == 0).all()
        assert (cells[:, 12:20, 2:10] == 255).all()

    def test_points(self):
        assert draw(Panel("points", {"samples": torch.rand(10, 2)}, behind=torch.rand(5, 2))).shape == (3, 400, 400)

    def test_nothing_to_see(self):
        with pytest.raises(ValueError, match="the panel 'words' has no images"):
            draw(Panel("words", texts=("a",)))


class Words(TextToImage):
    name = "words"
    Config = PlainConfig
    length = 5

    def __init__(self, config):
        super().__init__(config)
        self.generator = nn.Linear(2, 3)

    def phases(self):
        return []

    def latent(self, count, generator=None):
        return torch.randn(count, 2, generator=generator)

    def generate(self, latent, labels=None):
        """Each image shows its second token."""
        return labels[:, 1, None, None, None].expand(-1, 3, 8, 8) / 10.0


class TestTextToImage:
    @pytest.fixture
    def system(self):
        system = Words(PlainConfig())
        system.told_of({"vocabulary": list(Vocabulary.of(["a red dog", "a red cat"]))})
        return system

    def test_sample(self, system):
        assert system.inputs() == {"image": Images(3, 8, 8), "text": Texts(5)}
        images = system.sample(4, texts=["a", "red cat", "dog"])  # in turn
        tokens = [system.vocabulary.encode([word], 5)[0, 1].item() for word in ("a", "red", "dog")]
        assert (images[:, 0, 0, 0] * 10).round().tolist() == [*tokens, tokens[0]]
        with pytest.raises(ValueError, match="words draws what it is told: give texts"):
            system.sample(2)
        with pytest.raises(ValueError, match="words knows no words: they come from the data"):
            Words(PlainConfig()).sample(2, texts=["a"])

    def test_show_has_the_words(self, system, monkeypatch):
        rows = Batch(image=torch.rand(2, 3, 8, 8), text=system.encode(["a red dog", "a cat"]))
        monkeypatch.setattr("fastgan.data.take", lambda source, count: rows)
        (panel,) = system.show(system.probe("data", 2, generator()))
        assert panel.texts == ("a red dog", "a cat")
        (output,) = system.outputs("data", 2, generator())
        assert torch.equal(output.truth, rows.image)


class Counting(Sequences):
    name = "counting"
    Config = PlainConfig
    length = 4

    def __init__(self, config):
        super().__init__(config)
        self.generator = nn.Linear(1, 1)

    def phases(self):
        return []

    def generate(self, count, generator=None):
        return torch.arange(count).view(-1, 1).expand(-1, 4) % 6


def test_sequences(monkeypatch):
    system = Counting(PlainConfig())
    assert system.inputs() == {"text": Texts(4)}
    system.told_of({"vocabulary": list(Vocabulary.of(["x y"]))})
    monkeypatch.setattr("fastgan.data.take", lambda source, count: Batch(text=torch.zeros(6, 4, dtype=torch.int64)))
    (panel,) = system.show(system.probe("data", 6, generator()))
    assert panel.texts[4:] == ("x x x x", "y y y y")
    assert [len(part.values) for part in system.outputs("data", 5, generator(), size=3)] == [3, 2]
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        system.sample(0)


def test_take_as_many_of_each_group(digits):
    from fastgan.data import ImageData

    few = ImageData(digits.images[:3], name="few")
    rows = take(Apart("both", [_renamed(digits, "a"), _renamed(few, "b")]), 5)
    assert (len(rows.a), len(rows.b)) == (3, 3)
    assert len(take(digits, 5).image) == 5
    assert torch.equal(take(digits, 5).image, take(digits, 5).image)
    assert len(take([-torch.ones(1, 4, 4)] * 2, 5).image) == 2


def _renamed(source, name):
    from fastgan.data import Together

    return Together(source.name, {name: (source, "image")})
