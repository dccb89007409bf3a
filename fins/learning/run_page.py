"""A run of fins.train as a page of Markdown, and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fins.documents import table_of_rows
from fins.features import get_feature
from fins.learning.plots import (
    plot_learned,
    plot_learning_curve,
    plot_r2_per_output,
    plot_stages,
    plot_true_against_imitated,
)
from fins.learning.r2 import held_out_rows, name_rows, r2_text
from fins.networks import CompactFin, Fin
from fins.runs import as_command

if TYPE_CHECKING:
    from fins.learning.run import FinRunConfig, FinRunResult
    from fins.learning.stages import StageStep
    from fins.learning.trainer import FinEpoch


def draw_run(
    out: Path,
    fin: Fin,
    shown: tuple[NDArray, NDArray, str],
    result: FinRunResult,
    history: Sequence[FinEpoch],
    steps: Sequence[StageStep],
) -> None:
    """The pictures of a run; shown : truth and imitation of some windows, and whose they are."""
    title = f"{result.feature}, {result.topology} topology, seed {result.seed}"
    if steps:
        plot_stages(out / "stages.png", steps, title)
    if isinstance(fin, CompactFin):
        plot_learned(out / "learned.png", fin, title)
    if history:
        plot_learning_curve(out / "learning_curve.png", history, title)
    truth, imitation, whose = shown
    feature = get_feature(result.feature)
    plot_true_against_imitated(
        out / "true_against_imitated.png", truth, imitation, feature, f"{title}: {whose}"
    )
    scores = {name: row["per_output"] for name, row in held_out_rows(result.r2).items()}
    plot_r2_per_output(out / "r2_per_output.png", scores, title)


def describe_run(result: FinRunResult, config: FinRunConfig) -> str:
    """The page."""
    lines = [
        f"# {result.feature}, {result.topology} topology, seed {result.seed}",
        "",
        f"{result.parameters:,} parameters; {result.multiply_adds_per_window:,} multiply-adds a "
        f"window; trained for {result.seconds:,.0f} s.",
        "",
    ]
    pictures = {"true_against_imitated": "true against imitated", "r2_per_output": "R² per output"}
    if result.stages:
        pictures |= {"stages": "error of each stage over its steps", "learned": "what was learned"}
        lines += [
            "Learned from noise, without speech, stage by stage:",
            "",
            describe_stages(result.stages),
            "",
        ]
    if result.windows_seen:
        pictures["learning_curve"] = "learning curve"
        lines += [
            f"Fitted to {result.windows_seen:,} windows ({result.epochs} epochs, ended by: "
            f"{result.stopped}); protocol {result.protocol}. The weights are those of the lowest "
            "validation loss; test windows had no say in it. Of the training windows a fifth is scored.",
            "",
        ]
    lines += [
        describe_scores(result.r2),
        "",
        "R² uniform is the mean over outputs that vary; variance-weighted weights each by its variance.",
        "",
        "Made by",
        "",
        f"    {as_command('fins.train', config)}",
        "",
    ]
    for name, caption in pictures.items():
        lines += [f"![{caption}]({name}.png)", ""]
    return "\n".join(lines)


def describe_stages(stages: Sequence[Mapping[str, Any]]) -> str:
    """The stages as a Markdown table; each as `StageResult` by name."""
    return table_of_rows(
        ("stage", "steps", "seconds", "squared error, as a share of the squared target"),
        [
            (row["name"], f"{row['n_steps']:,}", f"{row['seconds']:.1f}", f"{row['error']:.1e}")
            for row in stages
        ],
    )


def describe_scores(rows: Sequence[Mapping[str, Any]]) -> str:
    """The R² rows as a Markdown table."""
    return table_of_rows(
        ("corpus, part", "windows", "R² uniform", "R² variance-weighted", "constant outputs"),
        [
            (
                name,
                f"{row['n_windows']:,}",
                r2_text(row["uniform"]),
                r2_text(row["variance_weighted"]),
                str(len(row["constant_outputs"])),
            )
            for name, row in name_rows(rows).items()
        ],
    )
