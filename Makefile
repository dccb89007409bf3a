# From a bare machine with Python: make demo, make test. PYTHON may name another interpreter (3.10 or later).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-slow torture check docs benchmark weights clean

install: .venv/installed

# torch first and by version: the CPU build, which the constraints name; the rest then finds it there
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: install
	rm -rf demo
	$(BIN)/python -m pipelines.synthesise --out demo/corpus
	$(BIN)/python -m pipelines.prepare --corpus synthetic --root demo/corpus --out demo/corpus.h5
	$(BIN)/python -m fins.train --feature mfcc --test-store demo/corpus.h5 --out demo/mfcc
	for feature in rms zcr; do $(BIN)/python -m fins.train --feature $$feature --topology paper \
		--store demo/corpus.h5 --protocol speaker --minutes 1 --out demo/$$feature || exit 1; done
	$(BIN)/python -m fins.report demo/mfcc demo/rms demo/zcr --out demo/report
	$(BIN)/python -m pipelines.train --store demo/corpus.h5 --minutes 1.5 --out demo/classifier
	$(BIN)/python -m pipelines.synthesise --out demo/unmet --n-speakers 8 --n-sentences 1 --n-takes 1 --seed 1
	$(BIN)/python -m pipelines.predict demo/classifier demo/unmet/s08
	@echo "That voice was new to the classifier. Next: $(BIN)/python -m pipelines.predict demo/classifier YOUR.wav"

# a process a core, with one thread each: two that wait for each other's threads take longer than one
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

# what takes longer: searches of Ray, clusters, more kills, the longest stage of a FIN
test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m slow

# damaged files by the thousand, odd places, full disks, kills: twenty minutes on one core; the counts go to build/torture.md
torture: install
	mkdir -p build
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz --out build/torture.md

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pipelines.results check

# a dead link, a fault in a page and a public name that no page describes are errors
docs: install
	$(BIN)/sphinx-build -q -n -W --keep-going docs docs/build
	@echo "open docs/build/index.html in a browser"

benchmark: install
	for script in labels preparing training convolution compact choices wavelet_packet wavelet_packet_net classifier answers memory; do $(BIN)/python benchmarks/$$script.py || exit 1; done

# the FINs that come with the package; STORES="a.h5 b.h5" also scores them on corpora
weights: install
	rm -rf runs/shipped
	$(BIN)/python -m pipelines.weights $(if $(STORES),--store $(STORES))

clean:
	rm -rf .venv demo build *.egg-info
