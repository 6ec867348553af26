"""Commands `ovps experiment ...`."""

from __future__ import annotations

import typer

from ovps.commands.declare import Json, example
from ovps.commands.shown import show
from ovps.options import takes
from pipelines.options import ExperimentOptions, JoinOptions, TableOptions

app = typer.Typer(no_args_is_help=True, help="Systems x splits x seeds, from the data set to a table.")


@app.command(
    "run",
    epilog=example(
        "ovps experiment run driveworld",
        "ovps experiment run table1 --systems pfc,ovps --splits b12n4 --seeds 0,1 --jobs 2",
        "ovps experiment run ablation --yes --json",
    ),
)
@takes(ExperimentOptions)
def experiment_run(options: ExperimentOptions, as_json: Json = False) -> None:
    """Data set, CLIP features, trainings, evaluations, one table and one page. What is done is not done again."""
    from pipelines.experiment.runner import run
    from pipelines.experiment.table import tables

    summary = run(**options.model_dump())
    if not as_json and summary.done:
        print(tables(summary.results.parent), end="\n\n")
    show(summary, as_json)


@app.command(
    "join",
    epilog=example("ovps experiment join results/ablation results/ablation-1 results/ablation-2 --out results/all"),
)
@takes(JoinOptions)
def experiment_join(options: JoinOptions, as_json: Json = False) -> None:
    """Results of one experiment from parts of it that were run on several machines."""
    from pipelines.experiment.join import join

    show(join(**options.model_dump()), as_json)


@app.command(
    "table",
    epilog=example("ovps experiment table results/table1", "ovps experiment table results/ablation --score miou"),
)
@takes(TableOptions)
def experiment_table(options: TableOptions, as_json: Json = False) -> None:
    """Results as a Markdown table: mean and sample standard deviation over seeds, in percent. JSON: in fractions."""
    from pipelines.experiment.table import result_table

    table = result_table(**options.model_dump())
    if as_json:
        show(table, as_json)
    else:
        print(table.markdown())
