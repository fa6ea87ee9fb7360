"""Commands. Each one parses its flags, calls a workflow and prints what came out.

Nothing heavy is imported at the top: ``fewlabels --help`` must answer at once.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fewlabels.cli import output
from fewlabels.errors import FewlabelsError
from fewlabels.interrupts import remembering_interrupts

INTERRUPTED = 130
"""What the library reports for Ctrl-C; ours is 1, as for any work that did not get done."""

app = typer.Typer(
    name="fewlabels",
    help="An image classifier from many images and few labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataPath = Annotated[
    str, typer.Argument(metavar="DATA", help="Folder or file of images; or digits, mnist.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Labels = Annotated[
    str | None, typer.Option(help="CSV or Parquet file with columns image,label.", metavar="FILE")
]
NumLabels = Annotated[
    int | None,
    typer.Option(help="Pretend that only so many images are labelled.", metavar="N"),
]
LabelSeed = Annotated[int, typer.Option(help="Which of the labels to keep then.", metavar="S")]
Share = Annotated[
    str | None,
    typer.Option("--split", help="Train/validation/test: percent (60/20/20) or counts."),
]
ImageSize = Annotated[
    str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.", metavar="SIZE")
]
Recipe = Annotated[str, typer.Option(help="Named settings to start from.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file laid over the recipe.", metavar="FILE")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, laid over all: a.b=value.", metavar="KEY=VALUE"),
]
Out = Annotated[Path, typer.Option("--out", help="Folder in which runs are made.")]
Views = Annotated[
    str,
    typer.Option(
        help="Average over views of each image: single, crops, augmented, or as the run says."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _print_version(asked: bool) -> None:
    if asked:
        import fewlabels

        print(fewlabels.__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of all commands."""


def _settings(
    recipe: str,
    config: Path | None,
    assignments: list[str] | None,
    encoder: Path | None = None,
    **flags: Any,
) -> Any:
    """Settings from the recipe and the flags given, named as in the settings: ``data__labels``."""
    from fewlabels.workflows.reuse import settings_with_encoder
    from fewlabels.workflows.settings import load_settings

    given: dict[str, dict[str, Any]] = {}
    for name, value in flags.items():
        section, key = name.split("__")
        if value is not None:
            given.setdefault(section, {})[key] = value
    layers: dict[str, Any] = {
        "config": config,
        "assignments": assignments or (),
        "flags": given,
    }
    if encoder is not None:
        return settings_with_encoder(encoder, recipe, **layers)
    return load_settings(recipe, **layers)


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="digits (built in) or mnist.")] = "digits",
    num_labels: NumLabels = None,
    label_seed: LabelSeed = 0,
    assignments: Assignments = None,
    out: Out = Path("runs"),
    json: Json = False,
) -> None:
    """The main job on real handwritten digits: no network, under a minute."""
    from fewlabels.workflows.demo import demo as run_demo

    result = run_demo(data, out, assignments or (), num_labels=num_labels, label_seed=label_seed)
    output.fit_result(result, json)


@app.command()
def inspect(
    data: DataPath,
    labels: Labels = None,
    image_size: ImageSize = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Where to write the contact sheet.", metavar="PNG")
    ] = None,
    json: Json = False,
) -> None:
    """What is in an image set: counts, sizes, broken files, duplicates, a contact sheet."""
    from fewlabels.workflows.inspect import inspect_source

    output.inspection(inspect_source(data, labels, image_size, sheet), json)


@app.command()
def fit(
    data: DataPath,
    labels: Labels = None,
    num_labels: NumLabels = None,
    split: Share = None,
    image_size: ImageSize = None,
    recipe: Recipe = "auto",
    time_budget: Annotated[
        float | None,
        typer.Option(help="Seconds that recipe auto may take, 300 by default.", metavar="SECONDS"),
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="A pretraining run to start from.", metavar="RUN")
    ] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    out: Out = Path("runs"),
    open_test: Annotated[
        bool, typer.Option("--open-test", help="Open the sealed test set at the end.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a classifier: try baselines, labels alone, and all images; choose; report."""
    started = time.perf_counter()  # what is imported now takes seconds, too
    from fewlabels.workflows.fit import fit as run_fit

    settings = _settings(
        recipe,
        config,
        assignments,
        encoder,
        data__source=data,
        data__labels=labels,
        data__image_size=image_size,
        data__num_labels=num_labels,
        split__shares=split,
        auto__time_budget=time_budget,
    )
    output.fit_result(run_fit(settings, out, open_test_set=open_test, started=started), json)


@app.command()
def pretrain(
    data: DataPath,
    objective: Annotated[
        str, typer.Option(help="What is learnt without labels.", metavar="NAME")
    ] = "denoising_autoencoder",
    labels: Labels = None,
    num_labels: NumLabels = None,
    split: Share = None,
    image_size: ImageSize = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    out: Out = Path("runs"),
    json: Json = False,
) -> None:
    """Train an encoder on all images alone; for fit --encoder, generate, reconstruct …"""
    from fewlabels.workflows.pretrain import pretrain_run, recipe_for

    settings = _settings(
        recipe_for(objective),
        config,
        # First, as it says to which objective the other settings belong.
        [f"pretext.name={objective}", *(assignments or [])],
        run__task="pretrain",
        data__source=data,
        data__labels=labels,
        data__image_size=image_size,
        data__num_labels=num_labels,
        split__shares=split,
    )
    output.pretraining(pretrain_run(settings, out), json)


Picture = Annotated[Path, typer.Option("--output", "-o", help="Where to write it.", metavar="PNG")]
Seed = Annotated[int, typer.Option(help="Of the draw.", metavar="S")]


@app.command()
def generate(
    run: RunPath,
    count: Annotated[int, typer.Option(help="How many images.", min=1, metavar="N")] = 64,
    output_file: Picture = Path("samples.png"),
    seed: Seed = 0,
    show: Annotated[
        str, typer.Option(help="samples; steps (diffusion); grid (two latents).")
    ] = "samples",
    classifier: Annotated[
        Path | None, typer.Option(help="A finished run that judges them.", metavar="RUN")
    ] = None,
    of_class: Annotated[
        str | None, typer.Option("--class", help="Only of this class, by the classifier.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw new images with a pretrained model, and say how close they are to real ones."""
    from fewlabels.workflows.generate import generate as run_generate

    found = run_generate(
        run, count, output_file, seed=seed, show=show, classifier=classifier, of_class=of_class
    )
    output.generated(found, json)


@app.command()
def reconstruct(
    run: RunPath,
    images: Annotated[str, typer.Argument(metavar="IMAGES", help="A folder or a file of images.")],
    count: Annotated[int, typer.Option(help="How many images.", min=1, metavar="N")] = 16,
    output_file: Picture = Path("reconstructions.png"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Images, and below each what a pretrained model draws of it."""
    from fewlabels.workflows.generate import reconstruct_images

    output.picture(reconstruct_images(run, images, output_file, count=count, seed=seed), json)


@app.command()
def interpolate(
    run: RunPath,
    first: Annotated[str, typer.Argument(metavar="A", help="An image file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    steps: Annotated[int, typer.Option(help="Images between them.", min=2, metavar="N")] = 10,
    output_file: Picture = Path("interpolation.png"),
    json: Json = False,
) -> None:
    """A strip from one image to another, through what a pretrained model has learnt."""
    from fewlabels.workflows.generate import interpolate as run_interpolate

    output.picture(run_interpolate(run, first, second, output_file, steps=steps), json)


@app.command()
def compare(
    data: DataPath,
    draws: Annotated[int, typer.Option(help="How many draws of labels.", metavar="N")] = 10,
    repeat_pretraining: Annotated[
        bool, typer.Option("--repeat-pretraining", help="Pretrain anew for every draw.")
    ] = False,
    pretext: Annotated[
        str | None,
        typer.Option(help="Compare these objectives instead: names with commas, or all."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Time of each objective then.", metavar="SECONDS")
    ] = 60.0,
    picture: Annotated[
        Path | None, typer.Option(help="Where to draw it: .svg or .png.", metavar="FILE")
    ] = None,
    labels: Labels = None,
    num_labels: NumLabels = None,
    split: Share = None,
    recipe: Recipe = "default",
    config: ConfigFile = None,
    assignments: Assignments = None,
    json: Json = False,
) -> None:
    """Does pretraining help here? Scratch against pretrained over draws of the labels."""
    from fewlabels.workflows.compare import compare as run_compare
    from fewlabels.workflows.compare_pretexts import compare_pretexts

    settings = _settings(
        recipe,
        config,
        assignments,
        data__source=data,
        data__labels=labels,
        data__num_labels=num_labels,
        split__shares=split,
    )
    if pretext is not None:
        result = compare_pretexts(settings, pretext, draws, seconds, picture)
        output.pretexts(result, json)
        return
    result = run_compare(settings, draws, repeat_pretraining=repeat_pretraining)
    output.comparison(result, json)


@app.command()
def latent_size(
    data: DataPath,
    widths: Annotated[
        str, typer.Option(help="Widths to try, with commas.", metavar="N,N,…")
    ] = "2,4,8,16,32,64,128",
    labels: Labels = None,
    num_labels: NumLabels = None,
    split: Share = None,
    recipe: Recipe = "autoencoder",
    config: ConfigFile = None,
    assignments: Assignments = None,
    picture: Annotated[
        Path | None, typer.Option(help="Where to draw it: .svg or .png.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """How wide should the latent be? Reconstruction and features against width, PCA beside it."""
    from fewlabels.workflows.latent_size import latent_sizes

    settings = _settings(
        recipe,
        config,
        assignments,
        data__source=data,
        data__labels=labels,
        data__num_labels=num_labels,
        split__shares=split,
    )
    output.latents(latent_sizes(settings, widths, picture), json)


@app.command()
def test(run: RunPath, json: Json = False) -> None:
    """Open the sealed test set of a run; it is recorded."""
    from fewlabels.workflows.testing import test_run

    output.test_result(test_run(run), json)


@app.command()
def evaluate(
    run: RunPath,
    data: DataPath,
    labels: Labels = None,
    views: Views = "auto",
    json: Json = False,
) -> None:
    """Measure a run on other labelled images."""
    from fewlabels.workflows.predict import evaluate_run

    output.evaluation(evaluate_run(run, data, labels, views), json)


@app.command()
def predict(
    run: RunPath,
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="Folder, file of images, or one image.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--output", help="CSV file to write.", metavar="CSV")
    ] = Path("predictions.csv"),
    views: Views = "auto",
    json: Json = False,
) -> None:
    """Classify images and write a CSV file."""
    from fewlabels.workflows.predict import predict_run

    output.prediction(predict_run(run, images, out, views), json)


@app.command()
def report(run: RunPath, json: Json = False) -> None:
    """Write the report of a run anew."""
    from fewlabels.report.report import write_report
    from fewlabels.runs.run_folder import open_run

    folder = open_run(run)
    folder.read_result()
    output.report(write_report(folder.path), json)


@app.command()
def recipes(json: Json = False) -> None:
    """The recipes for fit: what each does, what it costs, whose idea it is."""
    from fewlabels.workflows.recipes import recipes as all_recipes

    output.recipes([recipe for recipe in all_recipes().values() if recipe.complete], json)


@app.command()
def network(
    name: Annotated[str, typer.Argument(metavar="NAME", help="lenet, resnet, timm:resnet18 …")],
    image: Annotated[str, typer.Option(help="CHANNELSxHEIGHTxWIDTH.", metavar="SHAPE")] = "1x28x28",
    num_classes: Annotated[int, typer.Option(help="Outputs of the head.", min=2)] = 10,
    assignments: Assignments = None,
    drawing: Annotated[
        Path | None, typer.Option(help="Where to draw it: .svg, .png or .pdf.", metavar="FILE")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="See whether these weights fit: a file, or hub.")
    ] = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Also what draws images from its features.")
    ] = False,
    json: Json = False,
) -> None:
    """What a network costs before it is trained: shapes, parameters, work, memory, fields."""
    from fewlabels.workflows.network import describe_network

    found = describe_network(
        name, image, num_classes, assignments or (), drawing, weights, decoder=decoder
    )
    output.network(found, json)


@app.command()
def bench(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32 or bf16.")] = "auto",
    json: Json = False,
) -> None:
    """How fast this machine is, and how much of that the program uses. Half a minute."""
    from fewlabels.workflows.bench import bench as run_bench

    output.speeds(run_bench(device, precision), json)


@app.command()
def resume(
    run: RunPath,
    open_test: Annotated[
        bool, typer.Option("--open-test", help="Open the sealed test set at the end.")
    ] = False,
    json: Json = False,
) -> None:
    """Finish an interrupted run exactly as it would have gone on."""
    from fewlabels.workflows.fit import resume as run_resume

    result = run_resume(run, open_test_set=open_test)
    shown = output.pretraining if result.get("task") == "pretrain" else output.fit_result
    shown(result, json)


def main() -> None:
    """Entry point of the ``fewlabels`` command."""
    sys.exit(run(sys.argv[1:]))


def _warning_printer() -> Callable[..., None]:
    """Prints each warning once, without the place in the source that it comes from."""
    printed: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            print(f"Warning: {message}", file=sys.stderr)

    return show


def run(arguments: list[str]) -> int:
    """Run one command; a known error is one sentence on standard error.

    Returns:
        Exit status: 0 done, 1 an error or an interruption with its sentence, 2 wrong usage.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warning_printer()
            with remembering_interrupts():
                app(arguments)
    except SystemExit as leaving:  # the usual end of a command, also of a right one
        status = int(leaving.code or 0)
        return 1 if status == INTERRUPTED else status
    except FewlabelsError as error:
        if "--debug" in arguments:
            raise
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
