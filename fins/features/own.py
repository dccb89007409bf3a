"""A feature of a user's own: a function, given as package.module:function."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fins.audio import WINDOW
from fins.features.feature import Feature, Windows
from fins.features.spectrum import Floats


@dataclass(frozen=True)
class OwnClosedForm:
    """Windows → (n, n_outputs) by a function of (n, 2048) float32, which gives (n,) or (n, n_outputs).

    Raises ValueError if it fails or gives something else.
    """

    name: str
    function: Callable[[NDArray], NDArray]

    def __call__(self, windows: Windows) -> Floats:
        try:
            values = np.asarray(self.function(windows.samples.copy()), dtype=np.float32)
        except Exception as error:  # whatever a user's function raises
            message = f"the feature {self.name} failed: {type(error).__name__}: {error}"
            raise ValueError(message) from error
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or len(values) != len(windows) or values.shape[1] == 0:
            raise ValueError(
                f"the feature {self.name} gave the shape {values.shape} for {len(windows)} windows: "
                "one row a window is needed"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"the feature {self.name} gave NaN or infinity; give silence a number too")
        return values


def own_feature(name: str) -> Feature:
    """The feature that a function defines; what it gives for some noise and silence says how many outputs.

    Modules are looked for where Python looks for them; command lines look in the current directory too.
    Raises ValueError if it can't be imported, fails, or gives a window another value beside others.
    """
    module, _, attribute = name.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a user's module raises
        raise ValueError(f"the feature {name} can't be imported: {type(error).__name__}: {error}") from error
    closed_form = OwnClosedForm(name, function)
    probe = np.random.default_rng(0).normal(0, 0.1, (3, WINDOW)).astype(np.float32)
    probe[2] = 0  # silence occurs in real corpora
    together, alone = closed_form(Windows(probe)), closed_form(Windows(probe[1:2]))
    if not np.allclose(together[1], alone[0], rtol=1e-3, atol=1e-6):
        raise ValueError(f"the feature {name} gives a window another value when others are beside it")
    return Feature(name, together.shape[1], f"unit of {attribute}", "output", closed_form)
