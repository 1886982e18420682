import pytest

from anon_export.console import Progress


def test_bars_of_components(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress(quiet=False) as progress:
        for state in ("exporting", "converting"):
            progress.report("unet", state)
        progress.report("vae_decoder", "unchanged")
    shown = capsys.readouterr().err
    assert "unet" in shown
    assert "converting" in shown
    assert "vae_decoder" in shown
    assert progress.states["vae_decoder"] == "unchanged"
    assert isinstance(progress.states["unet"], float)
