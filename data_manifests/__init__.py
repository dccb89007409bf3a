"""Names on disk become rows of a manifest: which corpora are known, and how each is read.

Beside the code lie the manifests of known corpora: names and checksums, no audio; README.md says more.
Nothing here imports another package of this project, nor NumPy: workers that prepare recordings load it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from data_manifests import crema_d, emodb, esd, folders, iemocap, ravdess, savee, synthetic, table, tess
from data_manifests.labels import EMOTIONS, NO_MAPPING, check_labels, resolve
from data_manifests.ledger import Listing
from data_manifests.reading import Corpus, list_files

CORPORA: dict[str, Corpus] = {
    "ravdess": ravdess.CORPUS,
    "crema_d": crema_d.CORPUS,
    "savee": savee.CORPUS,
    "tess": tess.CORPUS,
    "esd": esd.CORPUS,
    "emodb": emodb.CORPUS,
    "iemocap": iemocap.CORPUS,
    "synthetic": synthetic.CORPUS,
    "folders": folders.CORPUS,
    "csv": table.CORPUS,
}
"""Name → how a corpus is read. One that is added here is known to pipelines.prepare."""


def read_corpus(
    name: str,
    root: Path,
    labels: Sequence[str] = EMOTIONS,
    mapping: Mapping[str, str] = NO_MAPPING,
    follow_links: bool = False,
) -> Listing:
    """Read a corpus by its file names; no audio is decoded.

    name : a key of `CORPORA`
    root : the folder that holds the corpus at any depth; for "csv" the CSV file itself, whose folder becomes
        the listing's root
    labels : the words that utterances can have as their emotion; any other word drops its file, unless it is
        another word for one of the labels
    mapping : such other words, each with its label, beside those that are known for the eight
    follow_links : whether links that lead out of the root are followed; otherwise each is dropped

    Raises FileNotFoundError where the root is missing, ValueError where it has nothing that can be used or
    where labels can't be told apart.
    """
    if name not in CORPORA:
        raise ValueError(f"there is no corpus {name!r}: choose one of {', '.join(CORPORA)}")
    check_labels(labels, mapping)
    resolver = partial(resolve, labels=tuple(labels), mapping=mapping)
    return list_files(name, CORPORA[name], Path(root), tuple(labels), resolver, follow_links)
