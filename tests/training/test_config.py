"""A run's configuration: one dataclass, YAML, and what a run may change when it goes on."""

import dataclasses

import pytest

from fastgan.options import options
from fastgan.runs import Config, Settings, config


def asked(**values):
    return config.make({"system": "dcgan", "options": {"width": 8, "betas": (0.5, 0.9)}, **values}, "the test")


class TestYAML:
    def test_back_and_forth(self, tmp_path):
        path = tmp_path / "config.yaml"
        before = asked(data="Bilder/für uns", flip=True, ema=0, workers=None, steps=7)
        config.write(path, before)
        assert config.make(config.read(path), "file").plain() == before.plain()
        assert f"fastgan train --config {path}" in path.read_text()
        assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]

    def test_holds_every_option(self):
        assert asked().plain().keys() == {field.name for field in dataclasses.fields(Config)}
        assert asked().settings.keys() == {field.name for field in dataclasses.fields(Settings)}

    @pytest.mark.parametrize("text", ["2e-4", "2E-4", "+2.e-4", ".0002", "0.0002"])
    def test_numbers(self, tmp_path, text):
        (tmp_path / "c.yaml").write_text(f"options:\n  learning_rate: {text}\n")
        assert config.read(tmp_path / "c.yaml")["options"]["learning_rate"] == 2e-4

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            ("batchsize: 3", ValueError, r"has no option 'batchsize' \(did you mean batch_size\?\)"),
            ("steps: 3\nsteps: 4", ValueError, "steps is there twice"),
            ("options:\n  width: 3\n  width: 4", ValueError, "width is there twice"),
            ("steps: many", TypeError, "steps must be a whole number, not 'many'"),
            ("options: 3", TypeError, "options must be a mapping of names to values, not 3"),
            ("data: 2024-01-01", TypeError, "data must be text"),
            ("steps: -1", ValueError, "steps must be at least 1, not -1"),
            ("steps: [", ValueError, "c.yaml is not YAML: while parsing"),
            ("? [a]\n: 3", ValueError, "not YAML"),
            ("- steps", ValueError, "must hold `option: value` lines"),
            ("", ValueError, "must hold `option: value` lines"),
            ("!!python/object/apply:os.system ['true']", ValueError, "not YAML"),
            ("\0", ValueError, "not YAML"),
        ],
    )
    def test_says_what_is_wrong(self, tmp_path, text, error, message):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(error, match=message):
            config.read(tmp_path / "c.yaml")

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no configuration at"):
            config.read(tmp_path / "c.yaml")
        with pytest.raises(ValueError, match="is not a YAML file"):
            config.read(tmp_path)
        (tmp_path / "c.yaml").write_bytes(b"steps: \xff")
        with pytest.raises(ValueError, match="is not a YAML file"):
            config.read(tmp_path / "c.yaml")


class TestChanges:
    def test_none(self):
        assert config.changes(asked(), asked(options={"betas": [0.5, 0.9], "width": 8})) == {}

    def test_allowed(self):
        found = config.changes(asked(), asked(log_every=3, batch_size=8, steps=9))
        assert found == {
            "log_every": "log_every: 20 -> 3",
            "batch_size": "batch_size: 64 -> 8",
            "steps": "steps: 2000 -> 9",
        }

    def test_refused_ones_are_all_named(self):
        after = asked(seed=1, options={"width": 16, "slope": 0.1}, log_every=3, samples=9)
        with pytest.raises(ValueError, match="cannot go on with") as caught:
            config.changes(asked(), after)
        text = str(caught.value)
        for change in (
            "options.width: 8 -> 16",
            "options.slope: None -> 0.1",
            "seed: 0 -> 1",
            "samples: None -> 9",
        ):
            assert change in text
        assert "log_every:" not in text
        assert "betas:" not in text
        assert "What may change is workers, graph" in text

    def test_what_may_not_change(self):
        assert {each.name for each in options(Config) if each.on_resume == "never"} == {
            "system", "options", "seed", "samples", "metric", "init_from",
        }  # fmt: skip

    def test_options_of_former_versions_are_no_change(self):
        before = config.make({"system": "wgan", "options": {"label_noise": 0.0, "betas": [0.5, 0.999]}}, "old")
        assert config.changes(config.complete(before), config.complete(config.make({"system": "wgan"}, "new"))) == {}
        used = config.make({"system": "wgan", "options": {"label_noise": 0.1}}, "old")
        with pytest.raises(ValueError, match="system wgan has no option 'label_noise': a critic has no targets"):
            config.complete(used)
