"""Where FastGAN's messages go, and that no setting of logging is changed for them."""

from __future__ import annotations

import logging
import threading

import pytest

from fastgan.cli import main
from fastgan.messages import heard_by, log


def test_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastgan"):
        log.info("%d steps", 3)
    assert caplog.messages == ["3 steps"]
    assert caplog.records[0].name == "fastgan"
    assert caplog.records[0].funcName == "test_to_the_logger"


def test_as_its_level_says(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    with caplog.at_level(logging.WARNING, "fastgan"), heard_by(lambda record: heard.append(record.getMessage())):
        log.info("information")
        log.warning("%s", "100 %")
    assert caplog.messages == ["100 %"]
    assert heard == ["information", "100 %"]  # a run keeps both
    log.warning("afterwards")
    assert len(heard) == 2


def test_a_listener_hears_its_own_thread() -> None:
    heard: list[str] = []
    with heard_by(lambda record: heard.append(record.getMessage())):
        thread = threading.Thread(target=lambda: log.warning("theirs"))
        thread.start()
        thread.join()
        log.warning("ours")
    assert heard == ["ours"]


def test_shown_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any handler, logging itself writes warnings to stderr."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    heard: list[str] = []
    with heard_by(lambda record: heard.append(record.getMessage()), shows=True):
        log.warning("one")
    assert heard == ["one"]
    assert capsys.readouterr().err == ""


def test_where_an_application_has_set_up_logging_it_shows_them(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    with heard_by(lambda record: heard.append(record.getMessage()), shows=True):
        log.warning("one")
    assert not heard
    assert caplog.messages == ["one"]


def test_the_command_leaves_the_root_logger_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else lines of other libraries appear, at INFO."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    loggers = logging.getLogger(), logging.getLogger("fastgan")
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    assert main(["systems"]) == 0
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] == before
