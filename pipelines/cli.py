"""fin-ser VERB: every command line under one name; the same as python -m pipelines.VERB or fins.VERB."""

from __future__ import annotations

import runpy
import sys

COMMANDS = {
    "synthesise": "pipelines.synthesise",
    "prepare": "pipelines.prepare",
    "explore": "pipelines.explore",
    "audit": "pipelines.audit",
    "verify": "pipelines.verify",
    "train-fin": "fins.train",
    "report-fins": "fins.report",
    "train": "pipelines.train",
    "evaluate": "pipelines.evaluate",
    "score": "pipelines.score",
    "predict": "pipelines.predict",
    "export": "pipelines.export",
    "app": "pipelines.app",
    "crossval": "pipelines.crossval",
    "compare": "pipelines.compare",
    "tune": "pipelines.tune",
    "results": "pipelines.results",
    "report": "pipelines.report",
    "weights": "pipelines.weights",
    "release": "pipelines.release",
    "manifests": "pipelines.manifests",
}
"""Verb → module that is run."""


def main() -> None:
    """Run the module of the first word with the other words."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        print("usage: fin-ser VERB ...   (fin-ser VERB --help says more)\n\n" + "\n".join(COMMANDS))
        return
    if verb not in COMMANDS:
        print(f"error: there is no {verb}: the verbs are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv[:2] = [f"fin-ser {verb}"]
    runpy.run_module(COMMANDS[verb], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
