"""The FIN publication's classifier on each combination of its five features, computed or imitated: 32 runs.

A run is named by the features that FINs imitate, frozen and then finetuned; the others are closed forms.
FINs are those of this package, finetuned as everywhere in it: the publication doesn't say how long, and at
what rate.
"""

from itertools import combinations

from fins.features import STORED
from ser_heads.experiments import RunConfig, configure


def runs() -> dict[str, RunConfig]:
    subsets = [names for n in range(len(STORED) + 1) for names in combinations(STORED, n)]
    return {"+".join(names) or "none": configure("feature_cnn", fins=names) for names in subsets}
