import platform
from pathlib import Path

import pytest

from anon_runtime.backends.processor import (
    CPUINFO,
    multiplies_bf16,
    multiplies_int8,
    processor_facts,
    processor_key,
    processor_name,
)

XEON = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu sse2 avx2 avx512f{}\npower management:\n\n"


@pytest.mark.parametrize(
    ("listed", "fast"),
    [
        (XEON.format(" avx512_vnni"), True),
        (XEON.format(" avx_vnni"), True),
        (XEON.format(""), False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd40\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd\nCPU part\t: 0xd08\n", False),
        ("no list", True),
    ],
)
def test_instructions_for_int8(tmp_path: Path, listed: str, fast: bool) -> None:
    (tmp_path / "cpuinfo").write_text(listed)
    assert multiplies_int8(tmp_path / "cpuinfo") == fast


@pytest.mark.parametrize(("name", "fast"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512_vnni", False)])
def test_instructions_for_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fast: bool) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    (tmp_path / "cpuinfo").write_text(XEON.format(f" {name}"))
    assert multiplies_bf16(tmp_path / "cpuinfo") == fast
    assert not multiplies_bf16(tmp_path / "missing")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert not multiplies_bf16(tmp_path / "cpuinfo")


def test_what_engines_are_compiled_for_has_a_key_of_its_own(tmp_path: Path) -> None:
    lists = [XEON.format(""), XEON.format(" avx512_vnni"), XEON.format("").replace("Intel", "AMD"), ""]
    for number, listed in enumerate(lists):
        (tmp_path / str(number)).write_text(listed)
    keys = [processor_key(tmp_path / str(number)) for number in range(len(lists))]
    assert len(set(keys)) == len(lists)
    assert processor_key(tmp_path / "missing") == keys[-1]
    assert keys == [processor_key(tmp_path / str(number)) for number in range(len(lists))]
    (tmp_path / "0").write_text(lists[0] * 2 + "cpu MHz\t\t: 2000\n")
    assert processor_key(tmp_path / "0") == keys[0], "the number of processors and their pace do not matter"


def test_generations_of_one_name_have_names_of_their_own(tmp_path: Path) -> None:
    listed = "processor\t: 0\ncpu family\t: {}\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: sse2\n"
    path = tmp_path / "cpuinfo"
    path.write_text(listed.format(25))
    assert processor_name(path) == "AMD EPYC (family 25, model 17)"
    key = processor_key(path)
    path.write_text(listed.format(26))
    assert processor_name(path) == "AMD EPYC (family 26, model 17)"
    assert processor_key(path) != key
    path.write_text(XEON)
    assert processor_name(path) == "Intel(R) Xeon(R)"
    path.write_text("processor\t: 0\nCPU part\t: 0xd40\n")
    assert processor_name(path) == "0xd40"
    assert processor_name(tmp_path / "missing")


@pytest.mark.skipif(not CPUINFO.exists(), reason="not Linux")
def test_this_machine() -> None:
    facts = processor_facts()
    if platform.machine() == "x86_64":
        assert "sse2" in facts["flags"].split()
    assert "processor" not in facts
