"""A page that shows what a run learned.

    dwconv-jax report --workdir=runs/digits

Writes `report.html` into the workdir: curves, the scores of each class, the confusion matrix, the
most confident mistakes or some predictions, the weights that the layers learned, and the config.
Without the evaluation data the page has what the workdir alone tells: curves, static weights and
the config.
"""

import sys

from etils import epath

from dwconv_jax import visualize
from dwconv_jax.errors import UserError
from dwconv_jax.files import absolute_path
from dwconv_jax.inference.evaluate import evaluate
from dwconv_jax.inference.trained import load_trained
from dwconv_jax.report_sections import (
    config_table,
    insides,
    missing_data,
    results,
    static_weights,
)
from dwconv_jax.tasks.classification.task import Classification
from dwconv_jax.training.jsonl import read_jsonl
from dwconv_jax.visualize.page import Section, write_page


def write_report(workdir: str) -> epath.Path:
    """Writes `report.html` into a workdir and returns its path.

    Raises:
      FileNotFoundError: if the workdir holds no run, or no checkpoint.
    """
    folder = absolute_path(workdir, "--workdir")
    trained = load_trained(workdir)
    config = trained.config
    curves = visualize.training_curves(read_jsonl(folder))
    text = "Training values are means since the last log; evaluation is exact."
    sections = [Section("Curves", text, figures=[curves])]
    summary = f"{config.model.name} after {trained.step:,} steps on {config.dataset.name}"
    try:
        evaluation = evaluate(trained)
    except (UserError, OSError) as error:
        summary += "."
        sections += [missing_data(error), *static_weights(trained)]
    else:
        best = trained.task.best_metric
        value = evaluation.summary.metrics[best]
        summary += (
            f": {best.replace('_', ' ')} {value:.2%} on {evaluation.num_examples:,} evaluation "
            "examples."
        )
        is_classifier = isinstance(trained.task, Classification)
        sections += results(trained, evaluation)
        sections += insides(trained, evaluation) if is_classifier else static_weights(trained)
    sections.append(Section("Config", table=config_table(config)))
    path = folder / "report.html"
    write_page(path, f"A run of {config.model.name}", summary, sections)
    return path


if __name__ == "__main__":
    from dwconv_jax.cli.report import main

    main(sys.argv[1:])
