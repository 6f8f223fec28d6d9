"""What every test shares: where the data lie, and which wants may skip."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
WANTS = {
    "binutils",
    "browser",
    "demo",
    "gpu",
    "integrations",
    "nvcc",
    "shared",
    "simt",
    "torch-cuda",
    "valgrind",
    "weights",
}
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
REQUIRED = {want.strip() for want in os.environ.get("YOLACT_REQUIRE", "").split(",") if want.strip()}


def pytest_configure() -> None:
    """Refuse a want that no test has: it would require nothing."""
    if unknown := REQUIRED - WANTS:
        raise pytest.UsageError(
            f"YOLACT_REQUIRE names {', '.join(sorted(unknown))}; the tests want {', '.join(sorted(WANTS))}"
        )


def skip_or_fail(want: str, reason: str) -> None:
    """Skip the test for want of `want`, or fail it where YOLACT_REQUIRE names that want."""
    if want in REQUIRED:
        pytest.fail(f"YOLACT_REQUIRE names {want!r}, and {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def shared_path(relative: str) -> Path:
    """A file or folder of the shared test data: $YOLACT_SHARED, else `shared` beside the checkout."""
    base = Path(os.environ.get("YOLACT_SHARED") or ROOT.parent / "shared")
    path = base / relative
    if not path.exists():
        skip_or_fail("shared", f"the shared test data are not here ({path})")
    return path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of an operator on every backend, but those that say that they gain nothing from the others."""
    from backends import BACKENDS

    if metafunc.definition.path.parent == ROOT / "tests" / "ops":
        names = BACKENDS[:1] if metafunc.definition.get_closest_marker("cpu_only") else BACKENDS
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend under test: where the operators' kernels run while the test lasts."""
    name = getattr(request, "param", "cpu")
    if name == "cpu":
        yield name
        return
    from backends import running_on

    with running_on(name, skip_or_fail):
        yield name


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The GPU that the operators can run on, float32 being float32 on it; the test is skipped where there is none."""
    from backends import why_no_gpu

    if reason := why_no_gpu():
        skip_or_fail("gpu", reason)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # by default convolutions keep ten bits of it
    return torch.device("cuda")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of random weights for two classes, which find something everywhere."""
    import yolact
    from yolact.models.checkpoint import save_checkpoint

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "ours.pth"
    save_checkpoint(path, yolact.create("yolact_lite0", num_classes=2))
    return str(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, empty but for pictures/2.png, pictures/10.jpg and a COCO file name in it."""
    from yolact.pictures import write_picture

    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for seed, name in enumerate(("2.png", "10.jpg", "000000005001.jpg")):
        picture = np.random.default_rng(seed).integers(0, 256, (40 + seed, 60, 3), dtype=np.uint8)
        write_picture(tmp_path / "pictures" / name, picture)
    return tmp_path


_GRAPHS: dict[bytes, Any] = {}


@pytest.fixture
def traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX's exporter takes long: a network that makes the same of the same images is traced once in a session."""
    from yolact.export import onnx_file

    trace = onnx_file._network_graph

    def network_graph(network: torch.nn.Module, images: torch.Tensor, opset: int | None) -> Any:
        with torch.no_grad():
            made = b"".join(output.numpy().tobytes() for output in (images, *network(images)))
        key = hashlib.sha256(made).digest(), opset
        if key not in _GRAPHS:
            _GRAPHS[key] = trace(network, images, opset)
        return copy.deepcopy(_GRAPHS[key])

    monkeypatch.setattr(onnx_file, "_network_graph", network_graph)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser of this machine's, without a window."""
    from playwright import sync_api as playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        skip_or_fail("browser", f"there is none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path)
        yield running
        running.close()


@pytest.fixture
def open_report(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file in a tab of its own; afterwards: nothing was asked of anybody, and nothing went wrong."""
    faults: list[str] = []
    requests: list[str] = []
    opened: set[str] = set()
    contexts = []

    def open_file(path: Path, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}, **options))
        opened.add(path.as_uri())
        page = contexts[-1].new_page()
        page.set_default_timeout(5_000)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert faults == []
    assert {url for url in requests if not url.startswith("data:image/jpeg;")} == opened, "nothing else is asked for"
