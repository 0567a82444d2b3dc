"""Which kind of machine a result says it was made on."""

import pytest

from ensemble_heads import provenance


@pytest.mark.parametrize(
    "instructions, said",
    [
        ("sse2 avx2 avx512f avx512_bf16", " with AVX-512 and bfloat16"),
        ("sse2 avx2 avx512f", " with AVX-512"),
        ("sse2 avx2", " with AVX2"),
        ("sse2", ""),
    ],
)
def test_the_best_instructions_are_named(monkeypatch, instructions, said):
    monkeypatch.setattr(provenance, "_cpu_flags", lambda: set(instructions.split()))
    cpu, *_ = provenance.describe()["machine"].split(", ")
    assert cpu.endswith(f"-core CPU{said}")


def test_the_instructions_of_this_machine_are_read(monkeypatch):
    text = "processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    monkeypatch.setattr(provenance.Path, "read_text", lambda *_, **__: text)
    assert provenance._cpu_flags() == {"fpu", "avx2"}
    monkeypatch.setattr(provenance.Path, "read_text", lambda *_, **__: "Model: Arm\n")
    assert provenance._cpu_flags() == set()
