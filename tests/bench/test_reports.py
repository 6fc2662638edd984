"""What comes of rows: tables, charts, comparisons, and the command that writes them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastgan.bench import chart, comparison, timing
from fastgan.bench.cases import gan_loss, ops
from fastgan.cli import main

ROOT = Path(__file__).parents[2]
MACHINE = {"processor": "P", "threads": 2, "torch": "2.13", "cpu_capability": "avx2", "python": "3.11", "date": "now"}


def rows(**milliseconds: float) -> list[timing.Row]:
    times = {name: [value / 1e3] for name, value in milliseconds.items()}
    return timing.rows("case", times, {})


def pair(theirs: float, ours: float, case: str = "case") -> list[timing.Row]:
    first, second = timing.rows(case, {"eager": [theirs], "fastgan": [ours]}, {})
    return [first, dataclasses.replace(second, role="ours")]


def written(*given: timing.Row, **machine) -> dict:
    return {"machine": {**MACHINE, **machine}, "rows": [row.__dict__ for row in given]}


class TestComparison:
    def test_marks_a_ratio_that_fell(self) -> None:
        text = comparison.comparison(written(*rows(a=100, b=50, c=10)), rows(a=104, b=55, c=5), MACHINE)
        a, b, c = text.splitlines()[2:]
        assert "slower" not in a + c
        assert a.split() == ["a", "100.000", "->", "104.000", "ms"]
        assert b.split() == ["b", "2.00x", "->", "1.89x", "slower"]

    def test_a_slow_machine_is_no_slow_variant(self) -> None:
        """Everything takes twice the time, and the ratios improve."""
        text = comparison.comparison(written(*rows(a=100, b=50)), rows(a=210, b=100), MACHINE)
        assert "slower" not in text

    def test_what_spreads_is_not_marked(self) -> None:
        def noisy(factor: float) -> list[timing.Row]:
            times = {"a": [1.0] * 4, "b": [0.4 * factor, 0.5 * factor, 0.5 * factor, 0.6 * factor]}
            return timing.rows("case", times, {})

        assert "slower" not in comparison.comparison(written(*noisy(1)), noisy(1.1), MACHINE)
        assert "slower" in comparison.comparison(written(*noisy(1)), noisy(1.6), MACHINE)
        assert "slower" in comparison.comparison(written(*rows(a=1, b=0.5)), rows(a=1, b=0.55), MACHINE)

    def test_says_when_the_machines_differ(self) -> None:
        text = comparison.comparison(written(*rows(a=1), threads=8, torch="2.10"), rows(a=1), MACHINE)
        assert "not the same machine or versions: threads 8 -> 2; torch 2.10 -> 2.13" in text
        assert "not the same" not in comparison.comparison(written(*rows(a=1)), rows(a=1), MACHINE)

    def test_rows_of_one_run_only(self) -> None:
        failed = timing.failure("case", "a", "too slow", {})
        assert "failed now: case, a: too slow" in comparison.comparison(written(*rows(a=1)), [failed], MACHINE)
        assert "no row of this run" in comparison.comparison(written(failed), rows(a=1), MACHINE)
        assert "1 rows are new" in comparison.comparison(written(*rows(a=1)), rows(a=1, b=1), MACHINE)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{"case": "c"}], "machine": {}}', '{"rows": []}'])
    def test_another_file_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "rows.json").write_text(text)
        with pytest.raises(ValueError, match="holds no rows of"):
            comparison.read(tmp_path / "rows.json")

    def test_reads_the_committed_results(self) -> None:
        for name in ("ops", "step", "networks", "systems"):
            assert comparison.read(ROOT / f"benchmarks/results/{name}.json")["rows"]


class TestChart:
    def count(self, image: Image.Image, colour: str) -> int:
        rgb = tuple(bytes.fromhex(colour[1:]))
        return sum(pixel == rgb for pixel in zip(*(channel.tobytes() for channel in image.split())))

    def test_bars_are_as_long_as_the_ratios(self) -> None:
        image = chart.draw(pair(4.0, 1.0), MACHINE)
        assert self.count(image, chart.OURS) / self.count(image, chart.THEIRS) == pytest.approx(4, rel=0.02)

    def test_slower_than_the_first_is_brown(self) -> None:
        image = chart.draw(pair(1.0, 2.0), MACHINE)
        assert self.count(image, chart.OURS) == 0
        assert self.count(image, chart.SLOWER) / self.count(image, chart.THEIRS) == pytest.approx(0.5, rel=0.02)

    def test_many_cases_fit_a_screen(self) -> None:
        many = [row for number in range(150) for row in pair(1.0, 0.5, f"case {number}")]
        image = chart.draw([*many, timing.failure("last", "compile", "no compiler", {})], MACHINE)
        assert image.width <= 2000
        assert image.height <= 2500
        assert self.count(image, chart.THEIRS) == 0
        one = chart.draw(many[:2], MACHINE)
        assert self.count(image, chart.OURS) > 150 * 500
        assert self.count(one, chart.THEIRS) > 0

    def test_failures_and_nothing(self, tmp_path: Path) -> None:
        chart.write(tmp_path / "c.png", [timing.failure("case", "compile", "no compiler", {})], MACHINE)
        with Image.open(tmp_path / "c.png") as image:
            assert image.width == chart.WIDTH
        with pytest.raises(ValueError, match="no rows"):
            chart.draw([], MACHINE)


def test_table_shows_failures_and_memory() -> None:
    (row,) = timing.rows("case", {"a": [1.0]}, {"step MB": 12.3})
    text = timing.table([row, timing.failure("case", "compile", "no compiler", {})])
    assert "12 MB" in text
    assert "failed: no compiler" in text


class TestCommand:
    def test_writes_what_it_is_asked_for(self, tmp_path: Path, monkeypatch, capsys) -> None:
        monkeypatch.setattr(ops, "cases", lambda: iter([next(gan_loss.cases())]))
        file, picture = tmp_path / "r.json", tmp_path / "c.png"
        assert main(["bench", "ops", "--rounds", "1", "--json", str(file), "--chart", str(picture)]) == 0
        assert picture.stat().st_size > 1000
        assert len(json.loads(file.read_text())["rows"]) >= 2
        capsys.readouterr()
        assert main(["bench", "ops", "--rounds", "1", "--only", "gan_loss", "--against", str(file)]) == 0
        out = capsys.readouterr().out
        assert "against 20" in out
        assert " -> " in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((["networks", "--only", "resnet"]), "no network 'resnet'; there are rc-dcgan"),
            ((["ops", "--only", "norm"]), "no op 'norm'; there are norm_act, bias_act, "),
            ((["ops", "--rounds", "0"]), "--rounds must be at least 1, not 0"),
            ((["step", "--compile-limit", "0.5"]), "--compile-limit must be at least 1"),
            ((["ops", "--chart", "c.jpg"]), "--chart must be a file that ends in .png, not 'c.jpg'"),
            ((["ops", "--against", "absent.json"]), "absent.json"),
            pytest.param(
                ["step", "--device", "cuda"],
                "finds no CUDA device",
                marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
            ),
        ],
    )
    def test_mistakes_are_one_line(self, arguments: list[str], message: str, capsys) -> None:
        assert main(["bench", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
