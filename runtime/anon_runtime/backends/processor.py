"""The processor of this machine: what compiled engines depend on, and which numbers it multiplies fast."""

import hashlib
import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# The name of a processor, its generation and its instructions, as Linux lists them on x86 and on ARM.
FACTS = ("model name", "cpu family", "model", "flags", "CPU part", "Features")
INT8_INSTRUCTIONS = {"avx512_vnni", "avx_vnni", "asimddp"}
BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}
# Values of ONEDNN_MAX_CPU_ISA, with which OpenVINO fails to load an engine in bf16.
WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}


def processor_facts(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """Return name, generation and instructions of the last processor; empty where Linux does not list them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return {}
    listed = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {name: listed[name] for name in FACTS if name in listed}


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """Return the name of the processor; a virtual machine's is often that of all its generations, hence the family."""
    facts = processor_facts(cpuinfo)
    name = facts.get("model name") or facts.get("CPU part") or platform.processor() or "unknown"
    if "cpu family" in facts and "model" in facts:
        return f"{name} (family {facts['cpu family']}, model {facts['model']})"
    return name


def processor_key(cpuinfo: Path = CPUINFO) -> str:
    """Return 16 digits, which differ between processors of another name or with other instructions."""
    facts = [platform.machine(), platform.processor(), *processor_facts(cpuinfo).values()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def multiplies_int8(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the processor has instructions for products of int8; true where this is not known."""
    facts = processor_facts(cpuinfo)
    instructions = {*facts.get("flags", "").split(), *facts.get("Features", "").split()}
    return not instructions or bool(instructions & INT8_INSTRUCTIONS)


def multiplies_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the processor has instructions for products of bf16 that OpenVINO uses and the user allows."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16:
        return False
    return bool(set(processor_facts(cpuinfo).get("flags", "").split()) & BF16_INSTRUCTIONS)
