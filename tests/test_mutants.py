"""The tool that breaks the CUDA kernels breaks what it should, and the list it left meets the aims."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT
from mutants import __main__ as tool
from mutants.candidates import candidates_of

KERNEL = """
constexpr int kThreads = 128 + 1;
static_assert(kThreads > 1, "a > b");
#if defined(__CUDA_ARCH__)
__device__ int unseen(int a) { return a + 1; }
#else
template <int kLanes = 1 < 2>
__global__ void __launch_bounds__(kThreads) kernel(const int* in, int n, Shared<int> sums) {
  static_assert(kLanes < 3, "");
  constexpr int kHalf = kThreads / 2;  // a + b
  /* a < b */ const char* text = "a < b";
  if (n < kHalf && in[0] == -1) sums[n * 2 + 1] = __ballot_sync(kAll, n & 31);
  __syncthreads();
  for (int i = 0; i < n; ++i) atomicAdd(&sums[0], in[i << 2]);
}
#endif
void launcher(int n) { LAUNCH(kernel<1>, dim3(n, 1), kThreads, 0, nullptr, n); }
"""


def changes(source, path):
    path.write_text(source)
    return [(one.function, one.kind, source[one.begin : one.end], one.new) for one in candidates_of(path, path.parent)]


def test_candidates(tmp_path):
    found = changes(KERNEL, tmp_path / "kernel.cu")
    assert sorted(found) == sorted(
        [
            *(("kernel", "bound", "<", new) for new in ("<=", "< -1 +") * 2),
            *(
                ("kernel", "comparison", old, new)
                for old, new in (("<", ">="), ("&&", "||"), ("==", "!="), ("<", ">="))
            ),
            ("kernel", "operator", "+", "-"),
            ("kernel", "term", "+ 1", ""),
            ("kernel", "term", "n * 2 +", ""),
            ("kernel", "term", "* 2", ""),
            ("kernel", "term", "n *", ""),
            ("kernel", "mask", "kAll", "(kAll >> 1)"),
            ("kernel", "mask", "31", "(31 >> 1)"),
            ("kernel", "barrier", "__syncthreads()", "(void)0"),
            ("kernel", "bound", "=", "= 1 +"),
            ("kernel", "atomic", "atomicAdd", "torn_atomicAdd"),
            ("kernel", "shift", "<<", ">>"),
            ("kernel", "shift", "<<", "<< 1 +"),
            ("launcher", "launch", "n", "(n) - 1"),
            ("launcher", "launch", "kThreads", "(kThreads) - 1"),
        ]
    )


def test_candidates_do_not_depend_on_other_functions(tmp_path):
    path = tmp_path / "kernel.cu"
    path.write_text(KERNEL)
    before = {one.key for one in candidates_of(path, tmp_path)}
    path.write_text("// moved down\n\nint other(int a) { return a < 1 ? a - 1 : a; }\n" + KERNEL)
    after = {one.key for one in candidates_of(path, tmp_path)}
    assert before < after
    assert {key[1] for key in after - before} == {"other"}


def test_every_kernel_is_broken():
    listed = {(row["file"], row["function"]) for row in tool.read(tool.RESULTS).values() if row["verdict"] != "invalid"}
    kernel = re.compile(r"__global__ void\s+(?:__launch_bounds__\((?:[^()]|\([^()]*\))*\)\s+)?(\w+)\(")
    for path in tool.cuda_files():
        for name in kernel.findall(path.read_text()):
            assert (path.relative_to(ROOT).as_posix(), name) in listed, "run `make mutants`"


def test_list_meets_the_aims():
    rows = list(tool.read(tool.RESULTS).values())
    assert tool.failings(rows) == []
    proofs = tool.read(tool.EQUIVALENT)
    assert {tool.key_of(row) for row in rows if row["verdict"] == "equivalent"} == proofs.keys()
    assert all(len(row["proof"]) > 20 for row in proofs.values())


@pytest.mark.parametrize(("caught", "survived", "equivalent"), [(149, 0, 0), (179, 21, 0), (190, 0, 11)])
def test_failings_are_told(caught, survived, equivalent):
    verdicts = ["caught"] * caught + ["survived"] * survived + ["equivalent"] * equivalent
    assert len(tool.failings([{"verdict": verdict} for verdict in verdicts])) == 1


def test_a_file_that_is_no_kernels_is_told(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tests.mutants", "--check", "csrc/cuda/detect.cu", "detcet.cu"])
    with pytest.raises(SystemExit):
        tool.main()
    assert "not in csrc/cuda: detcet.cu" in capsys.readouterr().err
