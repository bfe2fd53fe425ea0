"""Every CUDA source compiles for every architecture it names, within its budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cupy", reason="NVRTC is reached through CuPy: pip install 'perfmodel[gpu]'")

from perfmodel.errors import BadValue, MalformedFile
from refkernels._compile import compile_kernel, parse_resources, pick_arch
from refkernels._occupancy import arch_limits, blocks_per_sm
from refkernels._sources import all_sources, data_dir, read_spec

WRAPPERS = Path(__file__).with_name("wrappers.cu")


def case(source, arch, defines):
    words = (source.parent.name, source.stem, arch, *(f"{k}{v}" for k, v in defines))
    return pytest.param(source, arch, dict(defines), id="-".join(words))


CASES = [
    case(source, arch, defines)
    for source in (*all_sources(), WRAPPERS)
    for arch in read_spec(source).archs
    for defines in read_spec(source).variants
]


@pytest.mark.parametrize(("source", "arch", "defines"), CASES)
def test_source_keeps_its_promises(source, arch, defines):
    """It compiles, spills nothing, stays in its register budget, and its block fits."""
    spec = read_spec(source)

    compiled = compile_kernel(source, arch=arch, defines=defines)

    assert compiled.resources
    assert compiled.warnings == ()
    for kernel in compiled.resources.values():
        assert (kernel.spill_bytes, kernel.stack_bytes) == (0, 0), kernel
        assert kernel.registers <= spec.registers, kernel
        resident = blocks_per_sm(
            kernel, arch=arch, threads=spec.threads, dynamic_smem=spec.dynamic_smem
        )
        assert resident >= 1, kernel


def test_the_specific_target_is_in_the_binary():
    """``sm_90a`` code is what NVRTC emitted: the file says so, and wgmma was accepted."""
    compiled = compile_kernel(WRAPPERS, arch="sm_90a", defines={"TYPE": "bf16", "TILE_N": 8})

    assert b"sm_90a" in compiled.cubin.read_bytes()


def test_a_changed_header_means_a_new_binary(tmp_path, monkeypatch):
    """The cache key covers included headers, which CuPy's own cache ignores."""
    (tmp_path / "cuda").mkdir()
    header = tmp_path / "cuda" / "value.cuh"
    source = tmp_path / "k.cu"
    source.write_text(
        '// arch: sm_80\n#include "value.cuh"\n'
        'extern "C" __global__ void k(int* out) { *out = VALUE; }\n'
    )
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    for module in ("refkernels._sources", "refkernels._compile"):
        monkeypatch.setattr(f"{module}.data_dir", lambda name: tmp_path / name)
    binaries = []
    for value in (1, 2, 1):
        header.write_text(f"#define VALUE {value}\n")
        binaries.append(compile_kernel(source, arch="sm_80").cubin)

    assert binaries[0] == binaries[2] != binaries[1]
    assert binaries[0].read_bytes() != binaries[1].read_bytes()


def test_a_source_that_does_not_compile_says_why(tmp_path):
    """The compiler's message reaches the reader; nothing is left in the cache."""
    source = tmp_path / "broken.cu"
    source.write_text('// arch: sm_80\nextern "C" __global__ void k() { undeclared = 1; }\n')

    with pytest.raises(MalformedFile, match=r"broken\.cu does not compile(.|\n)*undeclared"):
        compile_kernel(source, arch="sm_80")


def test_a_crash_of_the_compiler_is_an_error_message(tmp_path, monkeypatch):
    """A child that dies of a signal becomes MalformedFile, not the death of this process."""
    child = tmp_path / "_nvrtc.py"
    child.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    source = tmp_path / "any.cu"
    source.write_text('// arch: sm_80\nextern "C" __global__ void never_cached() {}\n')
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("refkernels._compile.__file__", str(tmp_path / "_compile.py"))

    with pytest.raises(MalformedFile, match="crashes the compiler"):
        compile_kernel(source, arch="sm_80")


def test_spills_are_seen(tmp_path):
    """A kernel held to too few registers reports its spills (the gate above can fail)."""
    source = tmp_path / "spilling.cu"
    source.write_text(
        "// arch: sm_80\n// options: -maxrregcount=16\n"
        'extern "C" __global__ void k(float* x) {\n'
        "  float v[64];\n"
        "#pragma unroll\n"
        "  for (int i = 0; i < 64; ++i) v[i] = x[i * 32];\n"
        "  __syncthreads();\n"
        "#pragma unroll\n"
        "  for (int i = 0; i < 64; ++i) x[i * 32 + 7] = v[63 - i] * v[i];\n"
        "}\n"
    )

    assert compile_kernel(source, arch="sm_80").resources["k"].spill_bytes > 0


@pytest.mark.parametrize(
    ("archs", "capability", "expected"),
    [
        (("sm_80", "sm_90a"), "90", "sm_90a"),
        (("sm_80", "sm_90a"), "86", "sm_86"),
        (("sm_80",), "90", "sm_90"),
        (("sm_80", "sm_90"), "100", "sm_100"),
    ],
)
def test_target_of_a_device(archs, capability, expected):
    """Architecture-specific code on its own device, the plain target elsewhere."""
    assert pick_arch(archs, capability) == expected


def test_a_device_that_is_too_old_is_refused():
    """A Hopper-only kernel on an Ampere device is refused by name."""
    with pytest.raises(BadValue, match="written for sm_90a, this device is sm_80"):
        pick_arch(("sm_90a",), "80")


def test_resource_report():
    """Both forms of the assembler's report are read, per kernel."""
    log = (
        "ptxas info    : Compiling entry function 'one' for 'sm_90a'\n"
        "ptxas info    : Function properties for one\n"
        "    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
        "ptxas info    : Used 168 registers, used 1 barriers, 16 bytes stack, 1024 bytes smem\n"
        "ptxas info    : Compiling entry function 'two' for 'sm_90a'\n"
        "ptxas info    : Function properties for two\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 10 registers, used 0 barriers\n"
    )

    one, two = parse_resources(log).values()

    assert (one.name, one.registers, one.stack_bytes) == ("one", 168, 16)
    assert (one.spill_bytes, one.static_smem_bytes) == (12, 1024)
    assert (two.name, two.registers, two.spill_bytes, two.static_smem_bytes) == ("two", 10, 0, 0)


def test_occupancy_by_hand():
    """Registers, shared memory, threads and blocks each bind where the arithmetic says so."""
    log = (
        "Compiling entry function 'k' for 'sm_90'\n"
        "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nUsed 168 registers\n"
    )
    kernel = parse_resources(log)["k"]
    # 168 * 32 = 5376 = 21 * 256 registers a warp; 12 warps: 64512 of 65536, one block.
    assert blocks_per_sm(kernel, arch="sm_90a", threads=384) == 1
    # 4 warps: 21504, three blocks; 100 KiB each plus 1 KiB: two of 228 KiB.
    assert blocks_per_sm(kernel, arch="sm_90a", threads=128) == 3
    assert blocks_per_sm(kernel, arch="sm_90a", threads=128, dynamic_smem=100 * 1024) == 2
    # More than a block may have: it cannot launch.
    assert blocks_per_sm(kernel, arch="sm_90a", threads=128, dynamic_smem=232449) == 0


def test_every_named_architecture_has_limits():
    """An occupancy can be computed for each architecture that a source names."""
    for source in all_sources():
        for arch in read_spec(source).archs:
            assert arch_limits(arch).registers == 65536


def test_sources_lie_in_the_repository_or_the_wheel():
    """The locator finds the folder that holds the shared wrappers."""
    assert (data_dir("cuda") / "common" / "types.cuh").is_file()
