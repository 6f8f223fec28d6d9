"""The C++ programs of examples/, compiled and run: what they print is what Python finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

import yolact
from yolact import ops
from yolact.cli import main
from yolact.cli._options import BUNDLED_MODEL
from yolact.ops._library import LIBRARY

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler's
CMAKE = (sys.executable, "-m", "cmake")


def build(source: str, folder: Path, **defines: object) -> Path:
    """Configure and build an example without optimisation, which is quicker; return the folder of its program."""
    defines |= {"CMAKE_BUILD_TYPE": "Debug", "CMAKE_CXX_FLAGS_DEBUG": "-O0"}
    given = [f"-D{name}={value}" for name, value in defines.items()]
    run(*CMAKE, "-S", ROOT / "examples" / source, "-B", folder, *given)
    run(*CMAKE, "--build", folder, "--parallel", "2")
    return folder


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def made_up(count: int, seed: int) -> torch.Tensor:
    """The numbers of examples/cpp/main.cpp."""
    mixed = (np.arange(count, dtype=np.uint32) + np.uint32(7919 * seed)) * np.uint32(2654435761)
    return torch.from_numpy((mixed >> 16).astype(np.float32) / 32768 - 1)


def instances_of_the_cpp_example() -> list[tuple[int, float, list[float], str]]:
    cells, classes, channels, map_height, map_width = 6, 3, 4, 24, 32
    height, width = 120, 160
    centre = (torch.arange(cells) + 0.5) / cells
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    priors = torch.stack([x, y, torch.full_like(x, 0.375), torch.full_like(x, 0.375)], -1).view(-1, 4)
    count = len(priors)
    v, u = torch.meshgrid(torch.arange(map_height) / map_height, torch.arange(map_width) / map_width, indexing="ij")
    ((boxes, labels, scores, rles),) = ops.postprocess(
        made_up(count * 4, 1).view(1, count, 4),
        made_up(count * (1 + classes), 2).view(1, count, 1 + classes) * 4,
        made_up(count * channels, 3).view(1, count, channels),
        priors,
        torch.stack([u * 4 - 2, v * 4 - 2, u * v * 8, (u - v) * 4], -1)[None],
        [(height, width)],
        score_threshold=0.5,
        second_threshold=True,
        max_detections=20,
    )
    counts = [rle["counts"] for rle in rles]
    return list(zip(labels.tolist(), scores.tolist(), boxes.tolist(), counts, strict=True))


def test_kernels_serve_a_cpp_program(tmp_path: Path) -> None:
    from_source = build("cpp", tmp_path / "source", FROM_SOURCE="ON", YOLACT_INSTALL="ON")
    told = run(from_source / "instances")
    expected = instances_of_the_cpp_example()
    assert len(expected) == 20
    lines = [line.split() for line in told.splitlines()]
    assert [int(label) for label, *_ in lines] == [label for label, *_ in expected]
    assert [counts for *_, counts in lines] == [counts for *_, counts in expected]
    for (_, score, *box, _), (_, expected_score, expected_box, _) in zip(lines, expected, strict=True):
        assert float(score) == pytest.approx(expected_score, abs=1e-6)
        inside = np.clip([float(edge) for edge in box], 0, [160, 120, 160, 120])  # the program leaves them as they are
        np.testing.assert_allclose(inside, expected_box, atol=1e-3)

    prefix = tmp_path / "installed"
    run(*CMAKE, "--install", from_source / "yolact", "--prefix", prefix)
    installed = build("cpp", tmp_path / "package", CMAKE_PREFIX_PATH=prefix)
    assert run(installed / "instances") == told


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AOTInductor package of the bundled model; compiled without optimisation, which is quicker."""
    import torch._inductor.config as inductor

    path = tmp_path_factory.mktemp("package") / "cat.pt2"
    with inductor.patch({"aot_inductor.compile_wrapper_opt_level": "O0"}):
        assert main(["export", str(path), "--format", "package", "--score-threshold", "0.15"]) == 0
    return path


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:  # [2, H, W, 3]
    """Two in which the bundled model finds cats."""
    cat = pytest.importorskip("skimage.data").chelsea()
    return np.stack([cat, cat[:, ::-1]])


def test_package_runs_in_python(package: Path, pictures: np.ndarray) -> None:
    found = torch._inductor.aoti_load_package(str(package))(torch.from_numpy(pictures))
    assert list(found) == ["boxes", "label", "score", "count", "run_lengths", "length", "needed"]
    expected = yolact.load(BUNDLED_MODEL).predict(list(pictures), precision="fp32", score_threshold=0.15)
    assert found["count"].tolist() == [len(instances) for instances in expected]
    for b, instances in enumerate(expected):
        np.testing.assert_allclose(found["score"][b, : len(instances)], instances.scores, atol=1e-4)


def test_package_runs_in_a_cpp_program(package: Path, pictures: np.ndarray, tmp_path: Path) -> None:
    files = []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.ppm")
        head = f"P6\n{picture.shape[1]} {picture.shape[0]}\n255\n"
        files[-1].write_bytes(head.encode() + np.ascontiguousarray(picture).tobytes())
    program = build("aoti", tmp_path / "build", CMAKE_PREFIX_PATH=torch.utils.cmake_prefix_path) / "segment"
    told = [line.split() for line in run(program, LIBRARY, package, *files).splitlines()]

    found = torch._inductor.aoti_load_package(str(package))(torch.from_numpy(pictures))
    rows = [(b, d) for b, count in enumerate(found["count"].tolist()) for d in range(count)]
    assert len(rows) >= 2
    assert [int(number) for number, *_ in told] == [b for b, _ in rows]
    for (_, label, score, *box, counts), (b, d) in zip(told, rows, strict=True):
        row = b * found["label"].shape[1] + d
        assert int(label) == found["label"][b, d]
        assert float(score) == pytest.approx(float(found["score"][b, d]), abs=1e-4)
        np.testing.assert_allclose([float(edge) for edge in box], found["boxes"][b, d], atol=0.01)
        assert counts.encode() == bytes(found["run_lengths"][row, : int(found["length"][row])].tolist())

    broken = tmp_path / "broken.ppm"
    broken.write_bytes(files[0].read_bytes()[:-1])
    for wrong, fault in ((tmp_path / "none.ppm", "no binary PPM"), (broken, "ends before its last pixel")):
        done = subprocess.run([program, LIBRARY, package, wrong], capture_output=True, text=True)
        assert done.returncode == 1
        assert fault in done.stderr
