"""Loggers and what else tells of a run: what it leaves for whoever did not watch it, and what cannot stop it."""

import errno
import json
import logging
import os
import re
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from PIL import Image

from fastgan.data import movie
from fastgan.data.panel import Panel
from fastgan.distributed import Ranks
from fastgan.messages import log
from fastgan.runs.run import Run
from fastgan.training.callbacks import Callback, Pace, Previews, pace, previews
from fastgan.training.callbacks.base import Hooks
from fastgan.training.loggers import JSONL, Console, LogFile, Logger, Loggers, TensorBoard, WandB, console

PANEL = Panel("samples", {"samples": torch.zeros(1, 1, 8, 8)})
LOSSES = {"discriminator/loss": 1.25, "generator/loss": 0.5, "generator/real": 0.75}


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.samples.mkdir(parents=True)
    return run


class Training:
    """What the parts of a training that tell of it see of a trainer. `with` it, they are as in `fit`."""

    def __init__(self, run, step=0, steps=100, workers=(0, 0), others=()):
        self.run, self.step, self.ranks = run, step, Ranks()
        self.config = SimpleNamespace(steps=steps, batch_size=10, sample_every=0)
        self.waiting = 0.0, False
        batches = SimpleNamespace(workers=workers[0], most_workers=workers[1])
        self.feed = SimpleNamespace(batches=batches, waited=lambda: self.waiting)
        self.console, self.pace = Console(), Pace()
        own = [JSONL(), LogFile(), self.console, TensorBoard(), *others]
        self.loggers = Loggers(own)
        self.callbacks = [*(part for part in own if isinstance(part, Callback)), self.pace, Previews()]
        self.hooks = Hooks(self.callbacks)
        self.means = SimpleNamespace(read=lambda step: None)
        self.system, self.probe = SimpleNamespace(show=lambda probe: [PANEL]), None

    def aside(self):
        return nullcontext()

    @contextmanager
    def fit(self):
        error = None
        try:
            self.loggers.open(self.run, self.step)
            self.run.real.touch()
            for callback in self.callbacks:
                callback.on_start(self)
            yield self
        except BaseException as raised:
            error = raised
            raise
        finally:
            for callback in reversed(self.callbacks) if hasattr(self.pace, "_since") else ():
                callback.on_end(self, error)
            self.run.real.unlink(missing_ok=True)
            self.loggers.close()

    def __enter__(self):
        self._fit = self.fit()
        return self._fit.__enter__()

    def __exit__(self, *error):
        return self._fit.__exit__(*error)

    def due(self, every):
        return False

    def advance(self):
        self.step += 1
        for on_step in self.hooks.step:
            on_step(self)

    def values(self, step, values, waiting=0.0, once=False):
        self.step = step
        now = time.perf_counter()
        self.waiting = waiting * (now - self.pace._since[1]), once
        more = self.pace.on_log(self, values)
        self.loggers.scalars(step, {**values, **more, "data_wait": waiting} if waiting else {**values, **more})
        self.pace.on_step(self)

    def picture(self, step, image):
        self.step = step
        with patch.object(previews, "draw", lambda panel: image):
            self.callbacks[-1]._draw(self)


@pytest.fixture
def opened(run):
    def make(step=0, **options):
        return Training(run, step=step, **options)

    return make


@pytest.fixture
def terminal(monkeypatch, capsys):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True)
    monkeypatch.setenv("COLUMNS", "200")


def lines(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def text(run):
    return (run.path / "log.txt").read_text()


def image(value, channels=1, size=8):
    return torch.full((channels, size, size), value, dtype=torch.uint8)


class TestValues:
    def test_metrics(self, run, opened):
        with opened() as report:
            report.values(10, LOSSES, 0.25)
            report.values(20, LOSSES)
        first, second = lines(run)
        assert first.pop("images_per_second") > 0
        assert first == {"step": 10, **LOSSES, "data_wait": 0.25}
        assert second["data_wait"] == 0

    def test_bar(self, opened, capsys, terminal):
        with opened() as report:
            for _ in range(10):
                report.advance()
            report.values(10, LOSSES, 0.125)
        shown = capsys.readouterr().err
        assert "10/100 steps [" in shown
        assert re.search(r"[\d,]+ images/s, discriminator 1.250, generator 0.500, data wait 12.5%", shown)

    def test_plain_lines_where_there_is_no_terminal(self, opened, capsys, monkeypatch):
        now = iter(range(100, 1000))
        with opened() as report:
            monkeypatch.setattr(console.time, "perf_counter", lambda: next(now))
            for step in range(10, 60, 10):
                report.values(step, LOSSES, 0.125)
        shown = capsys.readouterr().err
        assert "\r" not in shown
        first, *others = shown.splitlines()
        assert re.fullmatch(
            r"step 10 of 100, discriminator 1.250, generator 0.500, [\d,]+ images/s, data wait 12.5%", first
        )
        assert 1 <= len(others) < 4  # a line in five seconds at most
        assert others[-1].startswith("step 50 of 100, ")  # the last one always

    def test_how_long_it_takes(self, opened, monkeypatch, caplog):
        with caplog.at_level("INFO", "fastgan"), opened() as report:
            monkeypatch.setattr(pace.time, "perf_counter", lambda: report.step * 2.0)
            for _ in range(31):
                report.advance()
        assert caplog.messages == ["70 steps are left: about 2 minutes, at 5 images/s"]

    def test_not_of_a_short_training(self, opened, caplog):
        with caplog.at_level("INFO", "fastgan"), opened() as report:
            for _ in range(31):
                report.advance()
        assert not caplog.messages

    def test_tensorboard(self, run, opened):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        with opened() as report:
            report.values(10, LOSSES, 0.25)
        events = EventAccumulator(str(run.tensorboard))
        events.Reload()
        assert set(events.Tags()["scalars"]) == {*LOSSES, "images_per_second", "data_wait"}
        assert [event.value for event in events.Scalars("data_wait")] == [0.25]

    def test_speed(self, run, opened, monkeypatch):
        with opened() as report:
            monkeypatch.setattr(pace.time, "perf_counter", lambda: 102.0)
            report.pace._since = 0, 100.0
            report.values(10, {})
            report.values(20, {})  # at the same time
        assert [line["images_per_second"] for line in lines(run)] == [50, 0]

    def test_appends_and_forgets_later_steps(self, run, opened):
        for start in 0, 10:
            with opened(start) as report:
                for step in 10, 20:
                    report.values(start + step, {})
        assert [line["step"] for line in lines(run)] == [10, 20, 30]


class TestWaitingForData:
    def test_warns_at_most_every_tenth_time(self, opened, caplog):
        with opened(workers=(1, 2)) as report:
            report.values(1, {}, 0.05)
            assert not caplog.records
            for step in range(2, 13):
                report.values(step, {}, 0.5)
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert warnings == [
            f"50 % of the time up to step {step} went into waiting for data; try --workers 2 (now 1), or smaller "
            "picture files"
            for step in (2, 12)
        ]

    def test_what_is_waited_for_once_is_no_worry(self, opened, caplog):
        with opened() as report:
            report.values(1, {}, 0.5, once=True)
        assert not caplog.messages


class TestLog:
    def test_holds_messages_and_values(self, run, opened):
        with opened() as report:
            log.info("from inside")
            log.warning("a second one")
            report.values(10, LOSSES, 0.125)
        log.warning("from outside")
        logging.getLogger("fastgan").warning("by another")
        stamps, levels, texts = zip(*((line[:23], line[24:31], line[32:]) for line in text(run).splitlines()))
        assert levels == ("INFO   ", "WARNING", "INFO   ", "WARNING")
        assert texts[:2] == ("from inside", "a second one")
        assert texts[2].startswith("step 10, discriminator 1.250, generator 0.500, ")
        assert texts[2].endswith(" images/s, data wait 12.5%")
        assert texts[3].startswith("12 % of the time")
        for stamp in stamps:
            time.strptime(stamp[:19], "%Y-%m-%d %H:%M:%S")

    def test_the_end(self, run, opened):
        def ends(error=None, steps=1):
            with opened(100 - steps) as report:
                for _ in range(steps):
                    report.advance()
                if error:
                    raise error

        ends(steps=2)
        assert re.search(r"INFO    100 steps done, the last 2 in \d seconds?, \d+ images/s$", text(run))
        for error, line in (ValueError("no"), "ERROR   ended by ValueError: no"), (KeyboardInterrupt(), "interrupted"):
            with pytest.raises(type(error)):
                ends(error)
            assert text(run).splitlines()[-1].endswith(line)

    def test_a_note_is_a_line_of_the_log(self, run, opened):
        run.note("INFO", "from before")
        with opened():
            log.info("from inside")
        run.note("WARNING", "from outside")
        assert [line[24:] for line in text(run).splitlines()] == [
            "INFO    from before", "INFO    from inside", "WARNING from outside",
        ]  # fmt: skip
        for line in text(run).splitlines():
            time.strptime(line[:19], "%Y-%m-%d %H:%M:%S")

    def test_appends(self, run, opened):
        for message in "first", "second":
            with opened():
                log.info(message)
        assert [line.split()[-1] for line in text(run).splitlines()] == ["first", "second"]

    @pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
    def test_what_is_shown_elsewhere_stays(self, run, opened, level):
        class Kept(logging.Handler):
            def emit(self, record):
                kept.append(record.getMessage())

        kept, handler, root, logger = [], Kept(), logging.getLogger(), logging.getLogger("fastgan")
        before = root.level, logger.level, logger.propagate, list(logger.handlers)
        root.addHandler(handler)
        root.setLevel(level)
        try:
            with opened() as report:
                log.info("information")
                log.warning("warning")
                report.values(10, LOSSES)
                assert (logger.level, logger.propagate, logger.handlers) == before[1:]
        finally:
            root.removeHandler(handler)
            root.setLevel(before[0])
        assert kept == (["information", "warning"] if level == logging.INFO else ["warning"])
        assert "information" in text(run)

    def test_ended_where_opening_fails(self, run, opened, monkeypatch):
        class Needed(Logger):
            needed = True

            def open(self, run, step):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), opened(others=[Needed()]):
            pass
        log.info("afterwards")
        assert text(run) == ""

    def test_of_another_thread_is_not_in_it(self, run, opened, tmp_path):
        other = Run(tmp_path / "other")
        other.samples.mkdir(parents=True)
        begun, done = threading.Event(), threading.Event()

        def work():
            with Training(other):
                begun.set()
                assert done.wait(30)
                log.info("theirs")

        thread = threading.Thread(target=work)
        with opened():
            thread.start()
            assert begun.wait(30)
            log.info("ours")
            done.set()
            thread.join()
        assert [line.split()[-1] for line in text(run).splitlines()] == ["ours"]
        assert [line.split()[-1] for line in text(other).splitlines()] == ["theirs"]

    def test_shown_above_the_bar(self, run, opened, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        handler = logging.StreamHandler(sys.stderr)
        monkeypatch.setattr(logging.getLogger("fastgan"), "handlers", [handler])
        with opened() as report:
            report.advance()
            log.warning("look")
        shown = capsys.readouterr().err
        before, after = shown.split("look\n")
        assert re.search(r"\r +\r$", before)  # the bar's line was cleared
        assert "steps" in after


class TestFilm:
    def draw(self, opened, steps, start=0, **options):
        with opened(start) as report:
            for step in steps:
                report.picture(step, image(step % 256, **options))

    def frames(self, run):
        with Image.open(run.path / "training.gif") as film:
            for index in range(film.n_frames):
                film.seek(index)
                yield film.convert("L").getpixel((0, 0)), film.info["duration"]

    def test_of_all_pictures(self, run, opened):
        self.draw(opened, [1, 2])
        self.draw(opened, [1000000], start=2)  # after step-000002 in number, though not in name
        values, durations = zip(*self.frames(run))
        assert values == (1, 2, 1000000 % 256)
        assert durations == (1000, 1000, 1500)  # few frames, each long enough to be looked at
        assert not [name for name in os.listdir(run.path) if name.startswith(".")]

    def test_at_most_sixty(self, run, opened):
        self.draw(opened, range(1, 151))
        values, durations = zip(*self.frames(run))
        assert len(values) == 60
        assert 3000 <= sum(durations) <= 8000
        assert (values[0], values[-1]) == (1, 150)
        assert {b - a for a, b in pairwise(values)} == {2, 3}

    def test_leaves_out_other_steps_and_sizes(self, run, opened):
        previews.save_png(run.samples / "step-000001.png", image(1, size=9))
        previews.save_png(run.samples / "step-000009.png", image(9))
        previews.save_png(run.samples / "step-best.png", image(9))
        self.draw(opened, [2, 4])
        assert [value for value, _ in self.frames(run)] == [2, 4]

    def test_large_pictures_are_reduced(self, run, opened, monkeypatch):
        monkeypatch.setattr(movie, "SIDE", 10)
        self.draw(opened, [1, 2], size=21, channels=3)
        assert Image.open(run.path / "training.gif").size == (7, 7)

    def test_not_of_one_picture(self, run, opened):
        self.draw(opened, [1])
        assert not (run.path / "training.gif").exists()

    def test_not_where_asked_to_end_at_once(self, run, opened):
        def stopped():
            with opened() as report:
                report.picture(1, image(1))
                report.picture(2, image(2))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stopped()
        assert not (run.path / "training.gif").exists()

    def test_failing_is_a_warning(self, run, opened, caplog):
        (run.samples / "step-000001.png").write_bytes(b"not a picture")
        (run.path / "training.gif").write_bytes(b"the one before")
        self.draw(opened, [2, 3])
        assert "training.gif was not written: cannot identify image file" in caplog.text
        assert "training.gif was not written" in text(run)
        assert (run.path / "training.gif").read_bytes() == b"the one before"


class TestClock:
    @pytest.mark.parametrize("jump", [-10 * 365 * 86400, 10 * 365 * 86400, -1])
    def test_jumps(self, run, opened, monkeypatch, capsys, terminal, jump):
        clock, offset = time.time, 0.0

        def time_of_day():
            return clock() + offset

        monkeypatch.setattr(time, "time", time_of_day)
        monkeypatch.setattr("tqdm.std.time", time_of_day)
        monkeypatch.setattr(console, "REDRAWN", 0)
        with opened() as report:
            report.advance()
            offset = jump
            report.advance()
            report.values(10, LOSSES)
            report.picture(10, image(1))
            report.advance()
        shown = capsys.readouterr().err
        assert "11/100 steps [00:00<" in shown
        assert "discriminator 1.250" in shown
        assert lines(run)[0]["images_per_second"] > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's thread
class TestCannotWrite:
    def test_metrics(self, run, opened, monkeypatch):
        with opened() as report:
            run.metrics.mkdir()
            with pytest.raises(OSError, match=r"could not write it.*Is a directory.*metrics\.jsonl") as caught:
                report.values(1, {})
        assert caught.value.errno == errno.EISDIR

    def test_pictures(self, run, opened, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(previews, "save_png", full)
        with (
            opened() as report,
            pytest.raises(OSError, match=r"No space left on device\); the last checkpoint stays.*step-000003\.png"),
        ):
            report.picture(3, image(1))

    def test_directory_that_is_gone(self, run, opened):
        def gone():
            with opened() as report:
                os.rename(run.path, run.path.with_name("elsewhere"))
                log.info("a message stops nothing")
                report.values(1, {})

        with pytest.raises(FileNotFoundError, match=r"could not write it .*metrics\.jsonl"):
            gone()

    def test_log(self, run, opened, monkeypatch):
        """As on a full disk, where opening succeeds and writing does not. The message itself stops nothing."""
        (run.path / "log.txt").symlink_to("/dev/full")

        def logged():
            with opened() as report:
                log.info("lost")
                report.values(1, {})
                raise AssertionError("reached")

        with pytest.raises(OSError, match=r"No space left on device.*log\.txt"):
            logged()
        with pytest.raises(OSError, match=r"No space left on device.*log\.txt"), opened():
            log.info("lost")

    def test_log_that_cannot_be_opened(self, run, opened):
        (run.path / "log.txt").mkdir()
        with pytest.raises(OSError, match=r"Is a directory.*log\.txt"), opened():
            pass

    def test_a_log_moved_away_is_begun_again(self, run, opened):
        with opened():
            log.info("before")
            os.replace(run.path / "log.txt", run.path / "log.1.txt")
            log.info("after")
        assert "after" in text(run)
        assert "before" not in text(run)

    def test_tensorboard_cannot_start(self, run, opened, caplog):
        run.tensorboard.write_text("a file")
        with opened() as report:
            report.values(1, {"loss": 1.0})
            report.picture(1, image(1))
        assert caplog.text.count("TensorBoard failed and is left out from here on") == 1
        assert len(lines(run)) == 1

    def test_tensorboard_fails_later(self, run, opened, caplog):
        with opened() as report:
            os.rename(run.tensorboard, run.path / "elsewhere")  # at once, unlike a deletion beside its thread
            for step in range(1, 100):
                report.values(step, {"loss": 1.0})
            report.picture(1, image(1))
        assert caplog.text.count("TensorBoard failed and is left out from here on") == 1
        assert len(lines(run)) == 99

    def test_without_tensorboard(self, run, opened, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with opened() as report:
            report.values(1, {"loss": 1.0})
            report.picture(1, image(1))
        assert "pip install tensorboard" in text(run)
        assert not run.tensorboard.exists()

    def test_a_terminal_that_goes_away(self, run, opened, monkeypatch):
        class Gone:
            encoding = "utf-8"
            gone = False

            def isatty(self):
                return True

            def fileno(self):
                raise OSError

            def write(self, text):
                if self.gone:
                    raise BrokenPipeError(errno.EPIPE, "Broken pipe")

            def flush(self):
                self.write("")

        monkeypatch.setattr(sys, "stderr", Gone())
        monkeypatch.setattr(console, "REDRAWN", 0)
        with opened() as report:
            sys.stderr.gone = True
            report.advance()
            report.values(1, {})
            report.advance()
        assert len(lines(run)) == 1

    def test_without_stderr(self, run, opened, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        with opened() as report:
            report.advance()
            report.values(1, {})
        assert len(lines(run)) == 1


class Failing(Logger):
    """Fails at one of its calls, and counts them."""

    def __init__(self, at):
        self.at, self.calls = at, []

    def call(self, name):
        self.calls.append(name)
        if name == self.at:
            raise RuntimeError("gone")

    def open(self, run, step):
        self.call("open")

    def scalars(self, step, values):
        self.call("scalars")

    def image(self, step, name, image):
        self.call("image")

    def close(self):
        self.call("close")


class TestOfTheUser:
    @pytest.mark.parametrize("at", ["open", "scalars", "image", "close"])
    def test_one_that_fails_is_left_out(self, run, opened, caplog, at):
        logger, other = Failing(at), Failing("")
        with opened(others=[logger, other]) as training:
            for step in 1, 2:
                training.values(step, LOSSES)
            training.picture(2, image(1))
            training.picture(3, image(1))
        assert caplog.text.count("Failing failed and is left out from here on (RuntimeError: gone)") == 1
        assert "left out" in text(run)
        assert logger.calls.count(at) == 1
        assert logger.calls[-1] == "close"  # it may free what it has
        assert other.calls == ["open", "scalars", "scalars", "image", "image", "close"]
        assert len(lines(run)) == 2

    def test_one_that_is_needed_ends_the_run(self, run, opened):
        logger = Failing("scalars")
        logger.needed = True
        with pytest.raises(RuntimeError, match="gone"), opened(others=[logger]) as training:
            training.values(1, LOSSES)
        assert logger.calls[-1] == "close"
        assert "ended by RuntimeError: gone" in text(run)

    def test_says_what_is_wrong(self):
        with pytest.raises(TypeError, match=r"loggers must be fastgan\.training\.Logger objects, not 'wandb'"):
            Loggers(["wandb"])


class FakeRun:
    """Of wandb."""

    def __init__(self, **settings):
        self.settings = settings
        self.id = settings["id"] or "made"
        self.logged, self.metrics, self.finished = [], [], 0
        self.config = SimpleNamespace(update=lambda values, allow_val_change: self.settings.update(config=values))

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished += 1


class TestWandB:
    @pytest.fixture
    def runs(self, monkeypatch):
        runs = []

        def init(**settings):
            runs.append(FakeRun(**settings))
            return runs[-1]

        fake = SimpleNamespace(init=init, Image=lambda array: ("image", array.shape), Html=lambda text: ("html", text))
        monkeypatch.setitem(sys.modules, "wandb", fake)
        return runs

    def test_gets_everything(self, run, opened, runs):
        training = opened(others=[WandB(project="digits")])
        training.config.plain = lambda: {"batch_size": 10}
        with training:
            training.values(10, LOSSES)
            training.picture(10, image(1, channels=3))
            training.loggers.text(10, "captions", "a <b>")
        (made,) = runs
        assert made.settings == {
            "project": "digits", "name": "run", "resume": "allow", "id": None, "config": {"batch_size": 10},
        }  # fmt: skip
        assert made.metrics == [("*", "step")]
        values, picture, words = made.logged
        assert values.items() >= {"step": 10, **LOSSES}.items()
        assert picture == {"samples": ("image", (8, 8, 3)), "step": 10}
        assert words == {"captions": ("html", "<pre>a &lt;b&gt;</pre>"), "step": 10}
        assert made.finished == 1

    def test_goes_on_as_the_same_run(self, run, runs):
        first = WandB()
        first.open(run, 0)
        first.open(run, 0)  # where a run goes back
        again = WandB()
        again.load_state_dict(first.state_dict())
        again.open(run, 5)
        assert [made.settings["id"] for made in runs] == [None, "made"]

    def test_is_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "wandb", None)
        with pytest.raises(ImportError, match=r"the package wandb, which is missing .*: pip install wandb"):
            WandB()
