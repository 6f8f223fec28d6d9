"""`yolact data`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from yolact.cli import _options as options


@click.group(invoke_without_command=True)
@click.pass_context
def data(context: click.Context) -> None:
    """Look at a data set in COCO's format."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@data.command()
@click.argument("annotations", type=Path)
@click.argument("images", type=Path)
@click.option("--output", type=Path, metavar="DIR", help="Draw samples there, as samples.jpg.")
@click.option("--json", "report_file", type=Path, metavar="FILE", help="Write counts and faults as JSON.")
@options.number("--samples", 16, "Pictures on the sheet.", high=400)
@options.number("--seed", 0, "Of the choice of samples.", low=0)
@options.number("--threads", None, "That decode pictures; by default one a processor.")
@click.pass_context
def check(
    context: click.Context,
    annotations: Path,
    images: Path,
    output: Path | None,
    report_file: Path | None,
    samples: int,
    seed: int,
    threads: int | None,
) -> None:
    """Read a data set wholly, tell every fault, and count.

    ANNOTATIONS is the JSON file, IMAGES the folder that its file names are relative to. Every picture is decoded. The
    exit status is 0 where nothing is at fault, else 2.
    """
    from yolact.data.check import check_dataset
    from yolact.data.faults import summary
    from yolact.data.sheet import dataset_sheet
    from yolact.files import replacing
    from yolact.pictures import make_folder, write_picture

    if report_file:
        options.refuse_to_replace(annotations, report_file)
    for folder in (output, report_file and report_file.parent):  # told before the work that it cannot be written
        if folder:
            make_folder(folder)
    report = check_dataset(annotations, images, threads)
    for fault in report.faults:
        click.echo(fault.text)
    click.echo(f"{report}\n\n{summary(report.faults) if report.faults else 'no faults'}")
    if report_file:
        with replacing(report_file) as file:
            file.write(json.dumps(report.to_json(), indent=1).encode())
    if output:
        write_picture(output / "samples.jpg", dataset_sheet(report.dataset, samples, seed))
    context.exit(options.FAULT if report.faults else 0)


@data.command()
@click.argument("config")
@click.argument("annotations", type=Path)
@click.argument("images", type=Path)
@click.option("--output", type=Path, required=True, metavar="FILE", help="The picture to write, .jpg or .png.")
@click.option("--recipe", default="original", show_default=True, metavar="NAME", help="Whose augmentation.")
@options.number("--samples", 16, "How many.", high=400)
@options.number("--seed", 0, "As of training.", low=0)
def augmented(config: str, annotations: Path, images: Path, output: Path, recipe: str, samples: int, seed: int) -> None:
    """Draw the first samples of a training, augmented, as the network will see them.

    CONFIG is a configuration's name; ANNOTATIONS and IMAGES are as for `yolact data check`.
    """
    from yolact.config import get_config
    from yolact.data.coco import read_coco
    from yolact.data.faults import summary
    from yolact.data.samples import SampleStream
    from yolact.data.sheet import contact_sheet, draw_sample
    from yolact.errors import UserError
    from yolact.pictures import make_folder, write_picture
    from yolact.train.recipe import get_recipe

    network, augmentation = get_config(config), get_recipe(recipe).augmentation
    make_folder(output.parent)
    dataset = read_coco(annotations, images, on_fault="skip")
    if not dataset.pictures:
        raise UserError(f"{annotations}: holds no picture that can be used")
    stream = SampleStream(
        dataset,
        network.size,
        augmentation,
        network.preprocessing.mean,
        seed,
        network.train.min_truth_size,
        on_fault="skip",
    )
    drawn = [stream[position] for position in range(samples)]
    write_picture(output, contact_sheet([draw_sample(sample, dataset.class_names) for sample in drawn]))
    if dataset.faults:
        click.echo(f"left out: {summary(dataset.faults)}; `yolact data check` names them", err=True)
    for line in dict.fromkeys(line for sample in drawn for line in sample.unreadable):
        click.echo(f"another picture stands for {line}", err=True)
    click.echo(output)


@data.command()
@click.argument("folder", type=Path)
@click.argument("split")
@click.option("--output", type=Path, required=True, metavar="FILE", help="The annotation file to write.")
def sbd(folder: Path, split: str, output: Path) -> None:
    """Write the annotations of Pascal SBD in COCO's format.

    FOLDER is the data set's, with img, inst and the lists; SPLIT is a list's name, train or val. The pictures are those
    in FOLDER/img.
    """
    from yolact.data.sbd import convert_sbd
    from yolact.files import replacing
    from yolact.pictures import make_folder

    make_folder(output.parent)
    content = convert_sbd(folder, split)
    with replacing(output) as file:
        file.write(json.dumps(content).encode())
    click.echo(f"{len(content['annotations'])} instances in {len(content['images'])} pictures: {output}")
