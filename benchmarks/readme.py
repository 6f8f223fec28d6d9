"""Writes the tables of the README and of docs from the newest files of results: `python -m benchmarks.readme`

So no figure there is typed by hand; tests hold them against those files.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.gpu_report import best_of, is_ours
from yolact.bench.models import Published, told

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
OURS = ("yolact, to dictionaries", "yolact, row-major", "yolact.mask", "yolact")  # the first that a job has
CPU_PEERS = (  # the columns: a heading, and the contender of that column
    ("eager torch", ("torch eager, then pycocotools", "torch eager, as the original", "torch eager")),
    ("pycocotools", ("pycocotools, asfortranarray", "pycocotools")),
    ("hotcoco", ("hotcoco, column-major", "hotcoco")),
    ("floor", ("a read of the logits", "a write of the masks", "a read of the masks")),
)
WHOLE_PEERS = ("eager torch", "torch.compile", "ONNX Runtime")
NO_GPU = "No GPU has run the operators yet: there are no figures of one."


def newest(kind: str) -> dict[str, Any] | None:
    """The latest results of that kind, `kernels` on a CPU or `gpu`; the names of the files begin with the date."""
    files = sorted((ROOT / "benchmarks" / "results").glob(f"*-{kind}.json"))
    return json.loads(files[-1].read_text()) if files else None


def section(cpu: dict[str, Any], gpu: dict[str, Any] | None) -> str:
    """The tables, or a plain word that no GPU has been measured."""
    whole = newest("end-to-end")
    tables = [gpu_table(gpu) if gpu else NO_GPU, end_to_end_table(whole) if whole else "", cpu_table(cpu)]
    deformable = newest("deform-conv2d")
    tables.append(deform_conv2d_table(deformable) if deformable else "")
    return "\n\n".join(table for table in [*tables, training_table()] if table)


def end_to_end_table(results: dict[str, Any]) -> str:
    """From picture files to COCO results, a line a network and batch."""
    machine, scenes = results["machine"], results["scenes"]
    names = [name for name in WHOLE_PEERS if any(row["contender"] == name for s in scenes for row in s["rows"])]
    by_case: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for scene in scenes:
        by_case.setdefault((scene["config"], scene["weights"], scene["batch"]), []).append(scene)
    threads = " / ".join(str(count) for count in sorted({scene["threads"] for scene in scenes}))
    lines = [
        f"From picture files to COCO results in JSON, everything counted, on {machine['date'][:10]} on "
        f"{machine['cores']} cores of {machine['cpu']}, {versions_of(machine)}: {results['picture']}. Medians of "
        "alternating runs in one process, results compared first; a peer's column tells how many times as long it "
        "takes. *Eager torch* is the original's formulation with pycocotools, the others replace its network. All of "
        "them keep freed memory, as [a program of its own](docs/speed.md) does. Two "
        f"figures are of {threads} threads, one is of the most. Where no weights are named they are random, made to "
        "find as many instances as trained ones do. [Where the time goes](docs/latency.png), "
        "[how it grows](docs/growth.png).",
        "",
        f"| CPU, file to results | instances | ms a picture | pictures/s | {' | '.join(names)} |",
        f"|---|---|---|---|{'---|' * len(names)}",
    ]
    for (config, weights, batch), several in by_case.items():
        several = sorted(several, key=lambda scene: scene["threads"])
        ours = [scene["rows"][0] for scene in several]
        each = [row["milliseconds"]["median"] / batch for row in ours]
        cells = []
        for name in names:
            rows = [{row["contender"]: row for row in scene["rows"]}.get(name) for scene in several]
            ratios = [
                _short(row["milliseconds"]["median"] / mine["milliseconds"]["median"]) + "×" if row else "–"
                for row, mine in zip(rows, ours, strict=True)
            ]
            cells.append(" / ".join(ratios))
        told = [
            f"{config}{'' if weights == 'random' else f' ({weights})'}, batch {batch}",
            _short(ours[0]["instances"]),
            " / ".join(map(_short, each)),
            " / ".join(_short(1e3 / taken) for taken in each),
        ]
        lines.append(f"| {' | '.join([*told, *cells])} |")
    return "\n".join(lines)


def deform_conv2d_table(results: dict[str, Any]) -> str:
    """The deformable convolution, a line a shape, batch and way; the fewest threads and the most."""
    runs: dict[tuple[Any, ...], dict[int, dict[str, float]]] = {}
    for row in results["rows"]:
        key = (row["scene"], row["channels"], row["size"], row["stride"], row["batch"], row["way"])
        runs.setdefault(key, {}).setdefault(row["threads"], {})[row["contender"]] = row["milliseconds"]["median"]
    names = [name for name in next(iter(next(iter(runs.values())).values())) if name != "yolact"]
    lines = [
        f"`deform_conv2d` at the shapes of YOLACT++ at 550 pixels, {results['machine']['date'][:10]}, "
        f"{versions_of(results['machine'])}, alternating, results and gradients compared first: a column tells how "
        "many times as long the peer takes; a plain convolution samples nowhere but on the grid.",
        "",
        f"| deformable convolution, CPU | ms | {' | '.join(names)} |",
        "|---|---" + "|---" * len(names) + "|",
    ]
    for (scene, channels, size, stride, batch, way), by_threads in runs.items():
        found = [by_threads[threads] for threads in sorted(by_threads)]
        what = f"{scene}: {channels} × {size} × {size}, stride {stride}, batch {batch}, {way}"
        ratios = (" / ".join(f"{_short(each[name] / each['yolact'])}×" for each in found) for name in names)
        lines.append(f"| {what} | {' / '.join(_short(each['yolact']) for each in found)} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def training_table() -> str:
    """What training costs on a CPU, a line a scene."""
    kinds = {"mask-loss": "mask loss alone", "training-losses": "all losses", "training-step": "whole step"}
    found = {kind: results for kind in kinds if (results := newest(kind))}
    dates = sorted({results["machine"]["date"][:10] for results in found.values()})
    lines = [
        f"Training on the same machine, one thread, {' and '.join(dates)}: forward and backward, alternating, losses "
        "and gradients compared first; memory is the peak beyond weights and inputs.",
        "",
        "| training, CPU | ms | MB | peers: time, memory |",
        "|---|---|---|---|",
    ]
    for kind, results in found.items():
        lines += training_lines(kinds[kind], results)
    return "\n".join(lines)


def training_lines(kind: str, results: dict[str, Any]) -> list[str]:
    """A line a scene: ours, and its peers' time and memory beside ours."""
    scenes: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        scenes.setdefault(row["scene"], []).append(row)
    options, lines = results["options"], []
    for scene, (ours, *others) in scenes.items():
        what = f"{kind}, batch {options['batch']}, "
        what += options.get("config", f"100 positives a picture, {scene}")
        mine, memory = ours["milliseconds"]["median"], ours["peak_bytes"]
        peers = "; ".join(
            f"{row['contender']} {_short(row['milliseconds']['median'] / mine)}×, {_short(row['peak_bytes'] / memory)}×"
            for row in others
        )
        lines.append(f"| {what} | {_short(mine)} | {_short(memory / 1e6)} | {peers} |")
    return lines


def versions_of(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"Python {machine['python']}, {packages}"


def gpu_table(results: dict[str, Any]) -> str:
    """What the GPU is, and a line a job: ours as a graph and call by call, and its peers' times beside ours."""
    gpu = results["gpu"]
    lines = [
        f"Measured on {results['machine']['date'][:10]} on an {gpu['name']}, driver {gpu['driver']}, CUDA "
        f"{gpu['cuda']}, {versions_of(results['machine'])}: medians of alternating runs by CUDA events over rotating "
        "inputs, results compared first. *Graph* is a call's share of a CUDA graph that holds one call on each input; "
        "*share* is what the bytes that a call must read and write make of the bandwidth of a copy on the same GPU, "
        f"{gpu['copy_bytes_per_second'] / 1e12:.2f} TB/s. A peer's ratio is its time, as a graph where one can hold "
        "it, to ours.",
        "",
        "| GPU | graph, µs | call, µs | share | peers |",
        "|---|---|---|---|---|",
    ]
    jobs: dict[str, list[dict[str, Any]]] = {}
    for row in results["milliseconds"]:
        jobs.setdefault(row["job"], []).append(row)
    for job, (ours, *others) in jobs.items():
        graph, eager = (_short(ours[kind]["median"] * 1e3) if ours[kind] else "" for kind in ("graph", "eager"))
        share = f"{ours['share_of_copy']:.0%}" if ours["share_of_copy"] else ""
        mine, peers = best_of(ours), []
        for row in others:
            if mine and not is_ours(row):
                taken = best_of(row)
                peers.append(f"{row['contender']} {_short(taken / mine)}×" if taken else f"{row['contender']} failed")
        lines.append(f"| {job} | {graph} | {eager} | {share} | {'; '.join(peers)} |")
    whole, training = gpu_end_to_end(results), gpu_training(results)
    return "\n".join([*lines, *whole, *training, *host_times(results), *aims(results), *failures(results)])


def gpu_end_to_end(results: dict[str, Any]) -> list[str]:
    """From pictures in the GPU's memory to run lengths on the host, a line a scene."""
    scenes: dict[str, list[dict[str, Any]]] = {}
    for row in results.get("end_to_end", {}).get("rows", []):
        scenes.setdefault(row["scene"], []).append(row)
    if not scenes:
        return []
    lines = [
        "",
        "| GPU, picture in its memory to RLE on the host | pictures/s | postprocessing | peers |",
        "|---|---|---|---|",
    ]
    for scene, rows in scenes.items():
        ours = [row for row in rows if is_ours(row)]
        mine = {_precision(row): row["milliseconds"]["median"] for row in ours}
        speeds = ", ".join(
            f"{row['contender']} {_short(1e3 * row['batch'] / row['milliseconds']['median'])}" for row in ours
        )
        shares = ", ".join(f"{_postprocessing(row):.0%}" for row in ours)
        peers = "; ".join(
            f"{row['contender']} {_short(row['milliseconds']['median'] / mine[_precision(row)])}×"
            for row in rows
            if not is_ours(row)
        )
        lines.append(f"| {scene} | {speeds} | {shares} | {peers} |")
    return lines


def gpu_training(results: dict[str, Any]) -> list[str]:
    """What training costs there, a line a scene."""
    lines = []
    if "mask_loss" in results:
        lines += training_lines("mask loss alone", results["mask_loss"])
    if "training" in results:
        for scene, kind in (("losses", "all losses"), ("step", "whole step")):
            rows = [row for row in results["training"]["rows"] if row["scene"] == scene]
            precision = results["training"]["options"]["precision"]
            lines += training_lines(f"{kind}, {precision}", results["training"] | {"rows": rows})
    return ["", "| training, GPU | ms | MB | peers: time, memory |", "|---|---|---|---|", *lines] if lines else []


def aims(results: dict[str, Any]) -> list[str]:
    """Which aims were met, in a sentence."""
    rows = results["aims"]
    missed = [f"{row['aim']} ({row['job']})" for row in rows if row["met"] is False]
    unmeasured = [row["aim"] for row in rows if row["met"] is None]
    text = f"Of {len(rows)} aims {sum(row['met'] is True for row in rows)} are met"
    text += f"; missed: {', '.join(missed)}" if missed else ""
    return ["", text + (f"; not measured: {', '.join(unmeasured)}" if unmeasured else "") + "."]


def _precision(row: dict[str, Any]) -> str:
    """What a contender computes in: peers are compared with ours in the same."""
    return str(row["contender"].rpartition(", ")[2])


def _postprocessing(row: dict[str, Any]) -> float:
    """What comes after the network makes of the steps, each of them waited for."""
    return (row["stages"]["detect"] + row["stages"]["masks to RLE"]) / sum(row["stages"].values())


def host_times(results: dict[str, Any]) -> list[str]:
    """What a call costs the host, in a sentence."""
    times = results.get("host_milliseconds")
    if not times:
        return []
    each = ", ".join(f"{name} {_short(timing['median'] * 1e3)}" for name, timing in times.items())
    return ["", f"A call on the smallest of inputs takes this many µs of the host: {each}."]


def failures(results: dict[str, Any]) -> list[str]:
    """What went wrong on the GPU, in a sentence: a test, a sanitizer, a job."""
    failed = [name for name, part in results["parts"].items() if not part["ok"]]
    failed += [failure["job"] for failure in results["failed"]]
    return ["", f"Failed there: {', '.join(failed)}."] if failed else []


def cpu_table(results: dict[str, Any]) -> str:
    """What it was measured on, and a line a job."""
    machine = results["machine"]
    lines = [
        f"Measured on {machine['date'][:10]} on {machine['cores']} cores of {machine['cpu']}, "
        f"{versions_of(machine)}: medians of alternating runs, results compared first. A column tells how "
        "many times as long the peer takes, with one thread / with two; *eager torch* is the original's formulation, "
        "with pycocotools after it where strings come out; *floor* is a plain read of the input or write "
        "of the output.",
        "",
        f"| CPU, batch of one unless told | ms, 1 / 2 threads | {' | '.join(heading for heading, _ in CPU_PEERS)} |",
        f"|---|---|{'---|' * len(CPU_PEERS)}",
    ]
    jobs: dict[str, dict[int, dict[str, float]]] = {}
    for row in results["milliseconds"]:
        jobs.setdefault(row["job"], {}).setdefault(row["threads"], {})[row["contender"]] = row["median"]
    for job, by_threads in jobs.items():
        if job.startswith("mask."):  # yolact.mask's functions one by one: in the file of results
            continue
        ours = next(name for name in OURS if name in by_threads[1])
        times = " / ".join(_short(taken[ours]) for taken in by_threads.values())
        cells = []
        for _, names in CPU_PEERS:
            peer = next((name for name in names if name in by_threads[1]), None)
            ratios = [taken[peer] / taken[ours] for taken in by_threads.values()] if peer else []
            cells.append(" / ".join(f"{_short(ratio)}×" for ratio in ratios))
        lines.append(f"| {job} | {times} | {' | '.join(cells)} |")
    return "\n".join([*lines, *host_times(results)])


def stability_table(results: dict[str, Any]) -> str:
    """How steady masks are, for docs/video.md: a line a scene, level of noise and threshold."""
    machine, options = results["machine"], results["options"]
    levels = "; ".join(
        f"*{level}* σ {noise['sigma']:g} of 255, brightness ± {noise['flicker']:.1%}, JPEG {noise['jpeg_quality']}"
        for level, noise in options["levels"].items()
    )
    lines = [
        f"{options['weights']}, float32, on {machine['date'][:10]}, torch {machine['versions']['torch']}; seed "
        f"{options['seed']}, {options['frames']} frames of each photo; noise: {levels}.",
        "",
        "| scene | noise | scores above | frames | found | found again | masks: mean, 5 % | boxes: mean, 5 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        scene = [row["scene"], row["noise"] or "", f"{row['score_threshold']:g}"]
        counts = [str(row["frames"]), str(row["detections"]), f"{row['matched']} of {row['sought']}"]
        ious = [f"{row[f'{of}_mean']:.3f}, {row[f'{of}_p5']:.3f}" if row["matched"] else "–" for of in ("mask", "box")]
        lines.append(f"| {' | '.join([*scene, *counts, *ious])} |")
    return "\n".join(lines)


def models_table(results: dict[str, Any]) -> str:
    """Every configuration, for docs/models.md: a line each; times where they were measured."""
    machine, models, threads = results["machine"], results["models"], results["threads"]
    text = "Operations are multiplications with an addition, of a picture; *published* are COCO's mask AP by the "
    text += "weights' authors, and the original's pictures a second on a Titan Xp."
    kinds = [kind for kind in ("cpu", "gpu") if any(row[kind] for row in models)]
    if kinds:
        text += (
            f" Times are of the network alone, a picture at a time, random weights, on {machine['date'][:10]}: float32 "
            f"with {threads} thread{'s' * (threads != 1)} of {machine['cpu']}, {versions_of(machine)}"
        )
        text += f"; float16 on {results['gpu']}." if "gpu" in kinds else "."
    headings = ["configuration", "backbone", "input", "parameters, M", "operations, G"]
    headings += [f"{kind.upper()}, ms" for kind in kinds]
    lines = [text, "", f"| {' | '.join([*headings, 'published'])} |", "|---|" + "---|" * len(headings)]
    for row in models:
        cells = [f"`{row['config']}`", row["backbone"], str(row["size"])]
        cells += [f"{row['parameters'] / 1e6:.1f}", f"{row['multiply_adds'] / 1e9:.1f}"]
        cells += [_short(row[kind]["median"]) if row[kind] else "" for kind in kinds]
        cells.append(told(Published(**row["published"])) if row["published"] else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def insert(readme: str, text: str) -> str:
    """The README with `text` between its two marks."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", readme, flags=re.DOTALL)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    cpu = newest("kernels")
    assert cpu is not None, "benchmarks/results holds no results of a CPU"
    readme = ROOT / "README.md"
    readme.write_text(insert(readme.read_text(), section(cpu, newest("gpu"))))
    if steady := newest("stability"):
        page = ROOT / "docs" / "video.md"
        page.write_text(insert(page.read_text(), stability_table(steady)))
    if models := newest("models"):
        page = ROOT / "docs" / "models.md"
        page.write_text(insert(page.read_text(), models_table(models)))


if __name__ == "__main__":
    main()
