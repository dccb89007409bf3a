"""python -m pipelines.tune: search for better options of a model, by validation alone."""

from __future__ import annotations

import csv
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from fins.command import run_command, sentence_of
from fins.runs import RESULT, begin_run, held, look_up_run, write_atomically, write_json
from fins.splits import Protocol
from pipelines import train
from pipelines.engine import check_ray, ray_session, resources
from pipelines.results import part_facts
from pipelines.searches import Drawn, Search, draw_trials, read_search, with_options
from pipelines.train import Emotion, TrainConfig, divide, part_of, with_settings
from pipelines.trials import JOURNAL, Journal, Told, forget_ended, keep_inputs
from ser_heads.data import UtteranceTable
from ser_heads.models import ModelConfig, build_model
from ser_heads.search_plots import plot_trials

TABLE, PICTURE = "trials.csv", "trials.png"
ENDING = 10.0  # seconds that ending the trials, the picture and files take
ENDS = ("finished", "stopped", "failed")
SHOWN = 10  # trials on the page, at most


@dataclass(frozen=True)
class TuneConfig:
    """Search for better options of a model: many trials, of which the worse ones are stopped early (ASHA).

    The first trial is the model's default, and is trained in full; the others are drawn from the search
    space, the same ones for the same seed. Each learns from the train part and is judged on the validation
    part; the test part is left alone. A trial whose process is lost goes on from its last epoch, and so does
    a search that was killed, by the same command. Needs the extra cluster.
    """

    search: Annotated[str, tyro.conf.Positional]
    """Where to look: fin or wavelet_packet_net, or the path of a .py file like those."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare; on a cluster all machines find them, and --out, by the same path."""
    emotions: tuple[Emotion, ...] | None = None
    """Of the utterances that are used; by default all."""
    protocol: Protocol = "speaker"
    """How utterances are divided, as in pipelines.train."""
    test_corpus: tuple[str, ...] = ()
    """Corpora that are left out, under the protocol corpus."""
    fold: str | None = None
    """A published fold, as corpus:number, whose test speakers are left out."""
    trials: int = 16
    """With the default. More of them than a finished search had go on with it."""
    epochs: int = 20
    """Of a trial that isn't stopped early; all with the FINs as they are."""
    grace: int = 3
    """Epochs before a trial can be stopped."""
    reduction: int = 2
    """At the grace period, and at each of its products with powers of this number, a trial goes on if it is
    among the best 1 / reduction of those that have come so far."""
    cpus: int = 1
    """Of each trial, which has as many threads."""
    gpus: float = 0.0
    """Of each trial; a share if several are to learn on one."""
    at_once: int | None = None
    """Trials side by side, at most; by default as many as there are CPUs for."""
    address: str | None = None
    """Head of a cluster as host:port, or auto for that of this machine; by default this machine alone."""
    minutes: float | None = None
    """Budget of the whole search: when it is spent, the result is that of the trials so far."""
    seed: int = 0
    """Of the configurations, of the split, and of every trial."""
    out: Path | None = None
    """Folder of the search; by default runs/tune-<search>-<protocol or fold>-seed<seed>."""


def main(config: TuneConfig) -> None:
    """Draw, train, write; the best configuration is printed as a command."""
    search = read_search(config.search)
    drawn, planned = plan(search, config)
    kind = config.fold.replace(":", "") if config.fold else config.protocol
    out = config.out or Path("runs") / f"tune-{search.name}-{kind}-seed{config.seed}"
    model, _ = build_model(part_of(planned[0], ModelConfig))
    table = UtteranceTable(config.store, trimmed=not model.whole)
    parts = divide(table, planned[0])
    asked = {
        **asdict(replace(config, search=search.name, out=None, address=None, at_once=None)),
        "store": [str(path) for path in config.store],
        "stores_hold": table.facts(),
        "fin_weights": model.fins.digest() if model.fins is not None else "",
        "default": asdict(search.default, dict_factory=as_json),
        "space": {option: repr(its) for option, its in search.space.items()},
    }
    if look_up_run(out, asked, free=("trials", "minutes")) == "finished":
        print(f"{out} holds the result of this very search already")
        return
    with held(out):
        journal = Journal(out / JOURNAL)
        pending = {number: its for number, its in enumerate(planned) if not journal.told(number).ended}
        if pending:
            check_ray()
            begin_run(out, asked)
            keep_all(list(pending.values()), table)
            search_on(config, pending, out, journal)
        told = [journal.told(number) for number in range(len(planned))]
        if not any(its.rows for its in told):
            why = next((its.why for its in told if its.why), "the time was spent before the first epoch")
            raise ValueError(f"none of {len(planned)} trials has a score: {why}")
        learned = {part: rows for part, rows in parts.items() if part != "test"}
        result = {
            "search": search.name,
            "about": search.about,
            "model": search.default.model,
            "protocol": config.protocol,
            "fold": config.fold,
            "seed": config.seed,
            "stores": asked["store"],
            "parts": part_facts(table, learned),
            "epochs": config.epochs,
            "grace": config.grace,
            "reduction": config.reduction,
            "seconds": round(journal.seconds(), 1),
            **summarise(drawn, planned, told),
        }
        write(out, result, told)
        forget_ended(out, journal)
        write_json(out / RESULT, result)  # last: its presence says that the search is whole
    print("\n".join(describe(result)))
    print(f"written to {out}")


def plan(search: Search, config: TuneConfig) -> tuple[list[Drawn], list[TrainConfig]]:
    """What each trial's drawn options are, and all of its options; ValueError if they can't be meant."""
    if min(config.trials, config.epochs, config.grace, config.cpus, config.at_once or 1) < 1:
        raise ValueError("--trials, --epochs, --grace, --cpus and --at-once are at least 1")
    if config.reduction < 2 or config.grace > config.epochs:
        raise ValueError("--reduction is at least 2, and --grace at most --epochs")
    if config.gpus < 0 or (config.minutes is not None and config.minutes * 60 <= ENDING):
        raise ValueError(f"--gpus is at least 0, --minutes a number above {ENDING / 60:.2g}")
    asked = {its.name: getattr(config, its.name) for its in fields(TuneConfig)}
    shared = {name: asked[name] for name in ("store", "emotions", "protocol", "test_corpus", "fold", "seed")}
    base = replace(search.default, **shared, frozen_epochs=config.epochs, finetuned_epochs=0)
    train.check(base)
    for option, distribution in search.space.items():
        for value in distribution.ends():
            try:
                train.check(with_options(base, {option: value}))
            except (TypeError, ValueError) as error:
                raise ValueError(f"the space lets {option} be {value!r}: {sentence_of(error)}") from error
    drawn = draw_trials(search, config.trials, config.seed)
    return drawn, [with_options(base, its) for its in drawn]


def keep_all(configs: Sequence[TrainConfig], table: UtteranceTable) -> None:
    """Make what trials read from beside the stores, before several of them would."""
    made = []
    for config in configs:
        key = (config.fins, config.pretraining, config.copies)
        if key not in made:
            made.append(key)
            with tqdm(total=len(table), unit=" utterances", desc="inputs", leave=False) as bar:
                model, _ = build_model(part_of(config, ModelConfig))
                frozen = keep_inputs(model, table, config.copies, bar.update)
            if frozen is not None:
                frozen.close()


def search_on(config: TuneConfig, pending: Mapping[int, TrainConfig], out: Path, journal: Journal) -> None:
    """Train what isn't over yet, until it is or the time is spent."""
    here = None if config.at_once is None else config.at_once * config.cpus
    with ray_session(config.address, here):
        from pipelines.asha import Asha, Means, run_trials

        for name, wanted in (("CPU", config.cpus), ("GPU", config.gpus)):
            if wanted > max(resources(name)):
                raise ValueError(
                    f"no trial can have {wanted:g} {name}s: no machine has above {max(resources(name)):g}"
                )
        left = None if config.minutes is None else config.minutes * 60 - ENDING - journal.seconds()
        if left is not None and left <= 0:
            return
        asha = Asha(journal, config.epochs, config.grace, config.reduction)
        means = Means(config.cpus, config.gpus, config.at_once)
        stores = tuple(path.resolve() for path in config.store)
        found = {number: replace(its, store=stores) for number, its in pending.items()}
        with tqdm(total=config.trials, initial=journal.n_ended(), unit=" trials", leave=False) as bar:
            run_trials(found, out, asha, means, left, bar)


def summarise(drawn: Sequence[Drawn], planned: Sequence[TrainConfig], told: Sequence[Told]) -> dict[str, Any]:
    """Every trial, the default and the best one of them, and the command that trains as it was trained."""
    trials = [row_of(number, drawn[number], told[number]) for number in range(len(drawn))]
    best = max((its for its in trials if its["epochs"]), key=lambda its: its["uar"])
    default = trials[0]
    states = [its["state"] for its in trials]
    return {
        "n_trials": len(trials),
        **{f"n_{state}": states.count(state) for state in ENDS},
        "n_lost": sum(its["lost"] for its in trials),
        "default": default,
        "best": best,
        "gain": best["uar"] - default["uar"] if default["epochs"] else None,
        "command": command_of(planned[best["trial"]]),
        "trials": trials,
    }


def row_of(number: int, drawn: Drawn, told: Told) -> dict[str, Any]:
    """A trial. state : finished, stopped (by ASHA), failed, or unfinished when the time was spent
    uar : mean of five epochs' validation UAR, at the best of them; lost : how often its process was"""
    return {
        "trial": number,
        "state": told.ended or "unfinished",
        "why": told.why,
        "epochs": len(told.rows),
        "uar": told.uar if told.rows else None,
        "seconds": told.rows[-1]["seconds"] if told.rows else 0.0,
        "lost": told.retries,
        "options": as_json(drawn.items()),
    }


def as_json(items: Any) -> dict[str, Any]:
    """Options as JSON holds them."""
    return {name: str(its) if isinstance(its, Path) else its for name, its in items}


def command_of(config: TrainConfig) -> str:
    """The command line of pipelines.train that has these options: those that differ from the model's own."""
    own = with_settings(config.model)
    words = ["python", "-m", "pipelines.train", "--model", config.model]
    for its in fields(TrainConfig):
        if its.name != "model":
            words += flags_of(its.name, getattr(config, its.name), getattr(own, its.name))
    return shlex.join(words)


def flags_of(name: str, value: Any, own: Any) -> list[str]:
    """An option and its value, or nothing where that is the model's own; an option of a part has a dot."""
    if value == own:
        return []
    if is_dataclass(value):
        words: list[str] = []
        for its in fields(value):
            words += flags_of(f"{name}.{its.name}", getattr(value, its.name), getattr(own, its.name))
        return words
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        first, _, last = flag.rpartition(".")
        return [f"--{first}{'.' if first else ''}{'' if value else 'no-'}{last}"]
    return [f"--{flag}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]


def write(out: Path, result: Mapping[str, Any], told: Sequence[Told]) -> None:
    """trials.csv, trials.png and README.md."""
    trials = result["trials"]
    options = list(trials[0]["options"])
    columns = [name for name in trials[0] if name != "options"]
    partial = out / f"{TABLE}.partial"
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *options])
        for its in trials:
            writer.writerow([*(its[name] for name in columns), *(its["options"][name] for name in options)])
    os.replace(partial, out / TABLE)
    curves = [[row["uar"] for row in its.rows] for its in told]
    drawn = [{"number": number, "curve": curve} for number, curve in enumerate(curves)]
    title = f"{result['search']}: {result['n_trials']} trials of {result['model']}, seed {result['seed']}"
    plot_trials(out / PICTURE, drawn, result["best"]["trial"], title)
    text = [f"# {title}", "", result["about"], "", *describe(result), "", f"![Trials]({PICTURE})", ""]
    text += [*tabulate(trials), ""]
    write_atomically(out / "README.md", "\n".join(text))


def describe(result: Mapping[str, Any]) -> list[str]:
    """What came out, as Markdown."""
    best, default, parts = result["best"], result["default"], result["parts"]
    n, speakers = parts["validation"]["n_utterances"], len(parts["validation"]["speakers"])
    if result["gain"] is None:
        gained = f"The default has no score: {default['why'] or 'the time was spent before its first epoch'}."
    elif best["trial"] == default["trial"]:
        gained = f"No trial was better than the default, whose validation UAR is {percent(default['uar'])} %."
    else:
        gained = (
            f"The best is trial {best['trial']}: validation UAR {percent(best['uar'])} % in {best['epochs']} "
            f"epochs; the default has {percent(default['uar'])} % in {default['epochs']}, "
            f"{100 * result['gain']:.1f} points less."
        )
    lost = f", {result['n_lost']} processes lost and started again" if result["n_lost"] else ""
    unfinished = result["n_trials"] - sum(result[f"n_{state}"] for state in ENDS)
    left = f", {unfinished} unfinished when the time was spent" if unfinished else ""
    return [
        gained,
        "",
        "```sh",
        result["command"],
        "```",
        "",
        f"{result['n_trials']} trials in {result['seconds'] / 60:.1f} minutes: {result['n_finished']} were "
        f"trained for {result['epochs']} epochs or until they converged, {result['n_stopped']} were stopped "
        f"early by ASHA (grace {result['grace']}, reduction {result['reduction']}), {result['n_failed']} "
        f"failed{left}{lost}.",
        "",
        f"UAR is the mean of five epochs on {n:,} validation utterances (speakers: {speakers}), at the best "
        "of them: that of the best of many trials is too good. The test part hasn't been touched: the "
        "command scores it. Which trials are stopped depends on the order in which they reach an epoch, so "
        "with several at once on the machine; the configurations, and the numbers of an epoch, don't.",
    ]


def tabulate(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best trials and the default as a table of Markdown."""
    ranked = sorted((its for its in trials if its["epochs"]), key=lambda its: -its["uar"])
    shown = [its for its in ranked if its["trial"] == 0 or its in ranked[:SHOWN]]
    options = list(trials[0]["options"])
    lines = ["| trial | UAR % | epochs | state | " + " | ".join(options) + " |"]
    lines.append("|---|--:|--:|---|" + "--:|" * len(options))
    for its in shown:
        name = "0 (default)" if its["trial"] == 0 else str(its["trial"])
        values = " | ".join(str(its["options"][option]) for option in options)
        lines.append(f"| {name} | {percent(its['uar'])} | {its['epochs']} | {its['state']} | {values} |")
    lines += [f"\nTrial {its['trial']} failed: {its['why']}" for its in trials if its["state"] == "failed"]
    return lines


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    run_command(main, TuneConfig, TuneConfig.__doc__ or "")
