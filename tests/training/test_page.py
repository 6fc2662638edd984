"""The page of a run."""

import json
import math
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from fastgan.data import save_png
from fastgan.runs.config import HOLD
from fastgan.runs.curves import HEIGHT, WIDTH, chart, ticks
from fastgan.runs.page import _curves, _reading, page
from fastgan.training import Trainer


@pytest.fixture
def finished(tmp_path, tiny, pictures):
    settings = {"batch_size": 8, "log_every": 1, "sample_every": 2, "evaluate_every": 2, "samples": 4}
    Trainer(tiny(), pictures, out=tmp_path / "a run", device="cpu", **settings).fit(steps=4)
    return tmp_path / "a run"


def contrast(*colors):
    """Of two colors, as #rgb or #rrggbb without the #, by WCAG 2.2."""
    luminances = []
    for color in colors:
        digits = color if len(color) == 6 else "".join(digit * 2 for digit in color)
        channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminances.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


class Page(HTMLParser):
    """Whether all tags are closed, and what there is."""

    VOID = ("meta", "img", "line", "circle")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


class TestPage:
    def test_has_everything(self, finished):
        (finished / "evaluation.json").write_text(
            '{"metrics": {"frechet": 12.5, "kernel": null}, "protocol": {"real": 7}}'
        )
        with open(finished / "log.txt", "a") as log:
            log.write("2026-01-01 00:00:00,000 WARNING <b>the samples</b> of step 3 are far\n")
        text = page(finished)
        read = Page(text)
        for title in "Curves", "Samples", "Quality", "Events", "Settings", "Versions":
            assert f"<h2>{title}</h2>" in text
        assert read.tags.count("img") == 3  # real.png, too
        assert read.tags.count("svg") >= 4
        for words in (
            "dcgan on noise, 4 of 4 steps",
            "12.5",
            "<b>the samples</b> of step 3",
            "batch_size: 8",
            "best: step",
        ):
            assert words in read.text.replace("best checkpoint", "best"), words
        assert "<b>" not in text

    def test_facts(self, finished):
        text = Page(page(finished)).text
        assert "50 images in the data" in text
        assert re.search(r"cpu, 1 thread, \w+; \d.\d thousand weights: generator \d.\d, discriminator \d.\d", text)
        assert re.search(r"[\d,]+ images/s, \d+ seconds? of training", text)
        assert "the data, as the discriminator sees them" in text

    def test_reading(self, finished):
        assert "health: too early to tell (D(x) 0." in page(finished)
        logged = {"discriminator/real": [(step, 0.5) for step in range(40)]}
        watch = {"looks": 40, "since": {"the losses oscillate": [7, HOLD - 1]}}
        assert _reading({"watch": watch}, logged) == "healthy: D(x) 0.50"
        assert _reading({"watch": watch}, {}) == "healthy"
        watch["since"]["the losses oscillate"] = [7, HOLD]
        assert _reading({"watch": watch}, logged) == "not healthy: the losses oscillate since step 7 (D(x) 0.50)"
        assert _reading({"watch": None}, logged) == ""

    def test_shares_and_gradients_have_axes_of_their_own(self):
        steps = [(1.0, 0.25), (2.0, 0.5)]
        text = _curves(
            {
                "discriminator/loss": steps,
                "discriminator/real": steps,
                "discriminator/fake_right": steps,
                "discriminator/gradient": [(1.0, 80.0), (2.0, 90.0)],
                "generator/gradient": [(1.0, 8.0), (2.0, 9.0)],
            },
            None,
        )
        figures = {
            re.search("<figcaption>(.*?)</figcaption>", figure)[1]: re.findall(r"</i>(.*?) [\d.]+</span>", figure)
            for figure in text.split("<figure>")[1:]
        }
        assert figures == {
            "loss": ["discriminator"],
            "discriminator: real and generated": ["D(x)", "fake right"],
            "norm of the gradient": ["discriminator", "generator"],
        }
        shares = next(figure for figure in text.split("<figure>") if "real and generated" in figure)
        assert re.search(r'text-anchor="end">0</text>.*text-anchor="end">1</text>', shares)  # not 0.25 to 0.5
        # A critic has no shares.
        assert "real and generated" not in _curves({"discriminator/real": [(1.0, -3.0), (2.0, 2.0)]}, None)

    def test_no_wider_than_a_phone(self, finished):
        assert not re.search(r"minmax\(\d+px", page(finished))  # but min(420px, 100%)

    def test_needs_nothing_else(self, finished):
        text = page(finished)
        read = Page(text)
        for name, value in read.attributes:
            assert name not in ("href", "srcset"), value
            assert name != "src" or value.startswith("data:image/png;base64,")
        assert "<script" not in text
        assert "url(" not in text
        assert "@import" not in text
        assert "default-src 'none'" in text

    def test_dark_and_light(self, finished):
        """Every color that is used is there in both, and stands out from the background as WCAG 2.2 asks."""
        style = re.search("<style>(.*?)</style>", page(finished), re.DOTALL)[1]
        light, dark = (
            dict(re.findall(r"--(\w+): #(\w+)", theme))
            for theme in re.search(
                r":root {(.*?)}\s*@media \(prefers-color-scheme: dark\) { :root {(.*?)}", style, re.S
            ).groups()
        )
        assert light != dark
        for theme in (light, dark):
            assert set(re.findall(r"var\(--(\w+)\)", style)) == theme.keys()
            for name in theme.keys() - {"back", "line"}:
                least = 3 if re.fullmatch(r"c\d", name) else 4.5  # lines; text
                assert contrast(theme[name], theme["back"]) >= least, name

    def test_no_more_pictures_than_one_looks_at(self, finished):
        for step in range(100):
            save_png(finished / "samples" / f"step-{step:06d}.png", torch.zeros(1, 2, 2, dtype=torch.uint8))
        (finished / "samples" / "step-000099.png").write_bytes(b"no picture")
        Image.new("RGB", (2000, 1000)).save(finished / "samples" / "step-000000.png")
        text = page(finished)
        steps = [int(step) for step in re.findall(r"<figcaption>step (\d+)<", text)]
        assert len(steps) == 7
        assert (steps[0], steps == sorted(steps)) == (0, True)
        assert len(text) < 100_000

    @pytest.mark.parametrize("missing", ["metrics.jsonl", "log.txt", "samples", "checkpoint.pt", "tensorboard"])
    def test_of_what_there_is(self, finished, missing):
        path = finished / missing
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.write_bytes(b'\xff\x00 {"step": ')
        Page(page(finished))

    def test_says_what_is_wrong(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no run"):
            page(tmp_path)

    def test_a_damaged_evaluation(self, finished):
        (finished / "evaluation.json").write_text("{")
        assert "evaluation.json cannot be read" in page(finished)

    def test_translations_are_beside_what_costs_nothing(self, finished):
        example = {"baseline": "copy", "metrics": {"l1": 0.125, "psnr": None}, "of_baseline": {"l1": 0.25, "psnr": 9.0}}
        found = {"examples": {"forward": example}, "protocol": {"rows": 4}}
        (finished / "evaluation.json").write_text(json.dumps(found))
        text = page(finished)
        assert "<tr><td>forward</td><td>result</td><td>copy</td>" in text
        assert "<tr><td>l1</td><td>0.125</td><td>0.25</td>" in text
        assert "<tr><td>psnr</td><td></td><td>9</td>" in text

    def test_samples_of_several_directions(self, finished):
        shutil.copy(finished / "samples/step-000004.png", finished / "samples/step-000004-b-to-a.png")
        figures = re.findall(r"<figcaption>(step [^<]*)<", page(finished))
        assert figures[-2:] == ["step 4", "step 4, b to a"]


class TestChart:
    def test_lines_lie_inside(self):
        text = chart("a & b", {"up": [(0, -5.0), (10, 7.3)], "down": [(0, 3.0), (5, math.nan), (10, -2.0)]}, best=5)
        assert "a &amp; b" in text
        lines = re.findall(r'points="([^"]*)"', text)
        assert len(lines) == 2
        up, down = ([tuple(map(float, point.split(","))) for point in line.split()] for line in lines)
        assert (len(up), len(down)) == (2, 2)
        assert up[0][0] < up[1][0]
        assert up[0][1] > up[1][1]  # y points down
        assert down[0][1] < down[1][1]
        for x, y in up + down:
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
        assert 'class="best"' in text
        assert "up 7.3" in text

    def test_nothing_to_draw(self):
        assert chart("empty", {"a": [], "b": [(1, math.inf)]}) == ""

    def test_one_value_and_a_constant(self):
        assert "<circle" in chart("one", {"a": [(1, 2.0)]})
        assert "nan" not in chart("constant", {"a": [(1, 2.0), (2, 2.0)]})

    def test_many_values_are_averaged(self):
        text = chart("many", {"a": [(step, step % 2) for step in range(100_000)]})
        assert len(text) < 10_000
        (points,) = re.findall(r'points="([^"]*)"', text)
        assert len(points.split()) <= 240

    @pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12.4), (0.001, 0.0012), (0, 123456), (-1e-9, 1e-9)])
    def test_ticks(self, low, high):
        found = ticks(low, high, 5)
        assert 3 <= len(found) <= 8
        assert found[0] <= low + 1e-9 * (high - low)
        assert found[-1] >= high - 1e-9 * (high - low)
        step = found[1] - found[0]
        assert any(math.isclose(step / 10 ** math.floor(math.log10(step * 1.0001)), f, rel_tol=1e-6) for f in (1, 2, 5))


def test_json_of_a_run_is_what_the_page_reads(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert any("sliced_wasserstein" in line for line in lines)
    assert "sliced wasserstein" in page(finished)
