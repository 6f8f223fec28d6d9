"""`yolact eval`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yolact.cli import _options as options
from yolact.errors import UserError

if TYPE_CHECKING:
    from yolact.evaluation import Scores
    from yolact.evaluation.truth import GroundTruth, Record


@click.command("eval")
@click.option("--annotations", type=Path, required=True, metavar="FILE", help="The truth, in COCO's format.")
@click.option("--results", type=Path, metavar="FILE", help="Score this COCO results list, or a model:")
@click.option("--weights", metavar="W", help="A file of weights or the name of a bundled model.")
@click.option("--images", type=Path, metavar="DIR", help="The folder of the annotated pictures.")
@options.config
@options.device
@options.number("--batch-size", 1, "Pictures that go through the network together.")
@options.number("--workers", 2, "Threads that read pictures.")
@click.option("--json", "results_file", type=Path, metavar="FILE", help="Write the detections as a COCO list.")
@click.option("--resume", is_flag=True, help="Go on with a run that was broken off before it wrote --json.")
@click.option(
    "--evaluator",
    default="pycocotools",
    show_default=True,
    metavar="NAME",
    help="pycocotools, or one that gives the same numbers sooner: faster-coco-eval or hotcoco.",
)
@click.option(
    "--classes", multiple=True, metavar="NAME", help="Score this class alone, by name or id; may be repeated."
)
@click.option("--class-agnostic", is_flag=True, help="Take all objects and detections for ones of a single class.")
@click.option("--per-class", is_flag=True, help="A table of all classes, too.")
@click.option("--plots", type=Path, metavar="DIR", help="Draw precision over recall, and a confusion matrix.")
def evaluate(
    annotations: Path,
    results: Path | None,
    weights: str | None,
    images: Path | None,
    config: str | None,
    device: str,
    batch_size: int,
    workers: int,
    results_file: Path | None,
    resume: bool,
    evaluator: str,
    classes: tuple[str, ...],
    class_agnostic: bool,
    per_class: bool,
    plots: Path | None,
) -> None:
    """Count average precision as COCO does.

    Scores a file of results, or what a model detects on a folder of pictures. Started by torchrun, processes share the
    pictures. A run that writes --json and is broken off goes on with --resume, with however many processes.
    """
    from yolact.evaluation.coco import load_evaluator, score
    from yolact.evaluation.plots import draw, require_matplotlib
    from yolact.evaluation.truth import read_results, read_truth
    from yolact.pictures import make_folder

    if (results is None) == (weights is None) or (weights is None) != (images is None):
        raise UserError("eval takes either --results, or --weights and --images")
    if results is not None and results_file is not None:
        raise UserError("--json goes with --weights; the results of --results are in a file already")
    if resume and results_file is None:
        raise UserError("--resume goes with --json, beside which a run that was broken off has left its parts")
    if results_file is not None:
        options.refuse_to_replace(annotations, results_file)
    load_evaluator(evaluator)  # whatever can fail is told before the work
    truth = read_truth(annotations)
    truth = truth.class_agnostic() if class_agnostic else truth
    scored = truth.only(classes)
    if plots is not None:
        require_matplotlib()
        make_folder(plots)
    found: list[Record] | None
    if results is not None:
        found = read_results(results, truth)
    else:
        assert weights is not None
        assert images is not None
        found = _detect(weights, images, truth, config, device, results_file, batch_size, workers, resume)
    if found is None:  # the main process goes on
        return
    scores = score(scored, found, evaluator)
    click.echo(scores_table(scores))
    if per_class:
        click.echo(f"\n{class_table(scores)}")
    if plots is not None:
        click.echo("\n" + "\n".join(map(str, draw(scored, found, scores, plots))))


def _detect(
    weights: str,
    images: Path,
    truth: GroundTruth,
    config: str | None,
    device: str,
    results_file: Path | None,
    batch_size: int,
    workers: int,
    resume: bool,
) -> list[Record] | None:
    """What a model finds, checked; None in all processes but the main one."""
    from yolact.devices import find_device
    from yolact.distributed import failing_together, is_main, process_group
    from yolact.engine.memory import keep_freed_memory
    from yolact.evaluation.detection import read_pictures
    from yolact.evaluation.parts import detect_to_file, results_path
    from yolact.evaluation.truth import read_results
    from yolact.loading import load

    keep_freed_memory()
    with process_group(find_device(device)) as place, results_path(results_file) as path:
        with failing_together():
            model = load(weights, place, config)
            dataset = read_pictures(model, truth.path, images, truth.is_class_agnostic)
        detect_to_file(model, dataset, path, batch_size=batch_size, workers=workers, resume=resume)
        return read_results(path, truth) if is_main() else None


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """COCO's numbers as a table, a line for boxes and a line for masks."""
    header = "".join(f"{metric:>7}" for metric in next(iter(scores.values()), ()))
    rows = [f"{kind:<5}" + "".join(f"{value:7.3f}" for value in row.values()) for kind, row in scores.items()]
    return "\n".join([f"{'':5}{header}", *rows])


def class_table(scores: Mapping[str, Scores]) -> str:
    """AP, AP50 and AP75 of each class, and how many objects of it there are to find."""
    from yolact.data.fields import printable

    first = next(iter(scores.values()))
    names = [*map(printable, first.class_names)]
    width = max(map(len, ("class", *names)))
    metrics = "".join(f"{name:>7}" for name in ("AP", "AP50", "AP75"))
    lines = [
        f"{'':{width + 8}}" + "".join(f"  {kind:<21}" for kind in scores).rstrip(),
        f"{'class':<{width}}{'truths':>8}" + f"  {metrics}" * len(scores),
    ]
    per_class = [kind.per_class() for kind in scores.values()]
    for label, name in enumerate(names):
        numbers = ("  " + "".join(f"{value:7.3f}" for value in kind[label]) for kind in per_class)
        lines.append(f"{name:<{width}}{first.truths[label]:>8}" + "".join(numbers))
    return "\n".join(lines)
