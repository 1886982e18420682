"""The real download code against a hub on this machine; each in a process, as the library reads its settings once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anon_export.models import hub
from anon_runtime.errors import AnonError
from tests.export.models.fake_hub import COMMIT, FakeHub


@pytest.fixture
def fake(demo_model: Path) -> Iterator[FakeHub]:
    with FakeHub(demo_model).serve() as served:
        yield served


def export(fake: FakeHub, home: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """`anon-export` with its cache below ``home``: exit code, output, errors."""
    settings = {"HF_ENDPOINT": fake.address, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **environment}
    code = "import sys; from anon_export.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


DRY_RUN = ("build", "owner/model", "--faces", "none", "--dry-run", "--json")


def test_a_model_is_downloaded_once_and_found_offline(fake: FakeHub, tmp_path: Path) -> None:
    code, output, errors = export(fake, tmp_path, *DRY_RUN)
    assert code == 0, errors
    source = json.loads(output)["source"]
    assert source["model"] == "owner/model"
    assert source["revision"] == COMMIT
    assert set(source["files"]) == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    }
    fake.requests.clear()
    code, again, errors = export(fake, tmp_path, *DRY_RUN, HF_HUB_OFFLINE="1")
    assert code == 0, errors
    assert json.loads(again)["source"] == source
    assert fake.requests == []
    code, _, errors = export(fake, tmp_path, *DRY_RUN, "--revision", "v9", HF_HUB_OFFLINE="1")
    assert code == 1
    assert "HF_HUB_OFFLINE is set" in errors
    assert "v9" in errors
    assert "Traceback" not in errors


def test_what_the_hub_refuses_is_named(fake: FakeHub, tmp_path: Path) -> None:
    code, _, errors = export(fake, tmp_path, *DRY_RUN, "--revision", "v9")
    assert code == 1
    assert "there is no such revision" in errors
    assert "Traceback" not in errors
    fake.token = "hf_secret"
    code, _, errors = export(fake, tmp_path, *DRY_RUN)
    assert code == 1
    assert "private" in errors
    assert "HF_TOKEN" in errors
    code, _, errors = export(fake, tmp_path, *DRY_RUN, HF_TOKEN="hf_secret")
    assert code == 0, errors


def test_a_damaged_download_is_noticed(fake: FakeHub, tmp_path: Path) -> None:
    fake.damaged = {"unet/diffusion_pytorch_model.safetensors"}
    code, _, errors = export(fake, tmp_path, *DRY_RUN)
    assert code == 1
    assert "the download is damaged" in errors
    assert "Traceback" not in errors


def test_the_cache_s_file_names_are_digests(tmp_path: Path) -> None:
    digest = "ab" * 32
    blob = tmp_path / "blobs" / digest
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    (tmp_path / "model.safetensors").symlink_to(blob)
    hub.check_digest(tmp_path / "model.safetensors", digest)
    with pytest.raises(AnonError, match="damaged"):
        hub.check_digest(tmp_path / "model.safetensors", "cd" * 32)


def test_a_disk_that_is_too_small_is_noticed_before_the_download(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi, constants

    from anon_export import disk

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(disk, "free_space", lambda _: 1000)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint=fake.address))
    with pytest.raises(AnonError, match=r"downloading owner/model needs .* and 0.0 MB are free"):
        hub.fetch("owner/model", None, lambda names: list(names))
    assert not any("resolve" in path for path in fake.requests)
