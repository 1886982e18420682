from pathlib import Path

import pytest

from anon_runtime import Anonymizer
from anon_runtime.errors import BundleError, UsageError
from anon_runtime.folder import Job, plan_outputs, run_batch


def test_names_of_results(tmp_path: Path) -> None:
    photos = [Path("x/a.jpg"), Path("y/b.tar.png")]
    assert [j.output for j in plan_outputs(photos, tmp_path)] == [tmp_path / "a.png", tmp_path / "b.tar.png"]
    assert plan_outputs([Path("a.jpg")], tmp_path / "new.PNG")[0].output == tmp_path / "new.PNG"
    (tmp_path / "folder.png").mkdir()
    assert plan_outputs([Path("a.jpg")], tmp_path / "folder.png")[0].output == tmp_path / "folder.png" / "a.png"


def test_a_result_never_lands_on_a_photo_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo = tmp_path / "photos" / "a.png"
    photo.write_bytes(b"original")
    (tmp_path / "out").symlink_to(tmp_path / "photos")
    for out in (tmp_path / "photos", tmp_path / "out", photo):
        with pytest.raises(UsageError, match="overwrite"):
            plan_outputs([photo], out)


def test_a_surprise_in_one_photo_is_recorded(
    anonymizer: Anonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object, **__: object) -> None:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(anonymizer, "describe_all", surprise)
    monkeypatch.setattr(anonymizer, "describe", surprise)
    (record,) = run_batch(anonymizer, [Job(Path("a.jpg"), tmp_path / "a.png")])
    assert record.status == "error" and "RuntimeError: disk on fire" in str(record.reason)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_bundle_ends_the_run(anonymizer: Anonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BundleError("x", "y", "z")

    monkeypatch.setattr(anonymizer, "describe_all", broken)
    with pytest.raises(BundleError):
        run_batch(anonymizer, [Job(Path("a.jpg"), tmp_path / "a.png")])
