import logging

import pytest

from anon_runtime.console import logging_to_stderr

log = logging.getLogger("anon_runtime.test")


def test_messages_show_settings_as_options_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(quiet=False, flags={"min_face": "--min-face"}):
        log.warning("allow smaller faces with `min_face`")
    assert capsys.readouterr().err == "anon-run: allow smaller faces with --min-face\n"


def test_logging_is_as_it_was_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever calls the command from Python keeps the messages of this package."""
    logger = logging.getLogger("anon_runtime")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with logging_to_stderr(quiet=True, flags={}):
        log.warning("not for this handler")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    log.warning("for the caller")
    assert caplog.messages == ["for the caller"]
