"""Turns images into smaller pre-training sets, pre-trained models and a report."""

from collections.abc import Sequence

from hardset.start import keep_freed_memory, start

COMMANDS = {
    "pipeline": "pretrain_jax.commands.pipeline:pipeline",
    "report": "pretrain_jax.commands.pipeline:report",
    "benchmark-tables": "pretrain_jax.commands.pipeline:benchmark_tables",
    "lab-demo": "pretrain_jax.commands.demo:lab_demo",
    "import-dicom": "pretrain_jax.commands.stages:import_dicom",
    "import-nifti": "pretrain_jax.commands.stages:import_nifti",
    "embed": "pretrain_jax.commands.features:embed",
    "keep": "pretrain_jax.commands.features:keep",
    "propose": "pretrain_jax.commands.stages:propose",
    "probe": "pretrain_jax.commands.stages:probe",
    "score": "pretrain_jax.commands.stages:score",
    "select": "pretrain_jax.commands.stages:select",
    "synthesise": "pretrain_jax.commands.stages:synthesise",
    "run": "pretrain_jax.commands.train:run",
    "reconstruct": "pretrain_jax.commands.train:reconstruct",
    "pretrain": "pretrain_jax.commands.train:pretrain",
    "finetune": "pretrain_jax.commands.train:finetune",
    "predict": "pretrain_jax.commands.predict:predict",
    "export": "pretrain_jax.commands.export:export",
}


def main(argv: Sequence[str]) -> int:
    """Run the command line, and return the exit code."""
    from hardset.cli import dispatch  # here, so that Ctrl-C is a sentence from the start

    return dispatch("pretrain_jax", COMMANDS, argv, __doc__)


if __name__ == "__main__":
    keep_freed_memory()
    start(main)
