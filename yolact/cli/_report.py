"""`yolact report`."""

from __future__ import annotations

from pathlib import Path

import click

from yolact.cli import _options as options


@click.command()
@click.option("--results", type=Path, required=True, metavar="FILE", help="A COCO results list, .json or .jsonl.")
@click.option("--images", type=Path, required=True, metavar="DIR", help="The folder of the pictures.")
@click.option("--annotations", type=Path, metavar="FILE", help="The truth, in COCO's format, to be shown as well.")
@click.option(
    "-o",
    "--output",
    type=Path,
    default="report.html",
    show_default=True,
    metavar="FILE",
    callback=options.check_page,
    help="The page to write, .html.",
)
@options.score_threshold
@options.number("--limit", None, "Pictures in the report at most, the first ones.")
@options.report_side
@click.pass_context
def report(
    context: click.Context,
    results: Path,
    images: Path,
    annotations: Path | None,
    output: Path,
    score_threshold: float,
    limit: int | None,
    report_side: int,
) -> None:
    """Write results as one page to look at, whose masks can be switched and filtered.

    The pictures are those that the annotations name, or without them the results of `yolact predict`. The page needs no
    server and no network. Results of videos are left out.
    """
    from yolact.pictures import make_folder
    from yolact.report import Report
    from yolact.report.results import report_results

    make_folder(output.parent)
    done = report_results(
        results,
        images,
        Report(output, results.name, report_side),
        annotations=annotations,
        score_threshold=score_threshold,
        limit=limit,
    )
    size = output.stat().st_size / 1e6
    click.echo(f"{done.instances} instances in {done.pictures} pictures: {output}, {size:.1f} MB")
    if done.left_out:
        click.echo(f"yolact: {done.left_out} results are of videos, or of pictures that are not there", err=True)
    context.exit(options.FAULT if done.failed else 0)
