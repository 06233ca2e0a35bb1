"""Checkpoints: any sequence of saves, failures, damages, pins and restarts, against a small model."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from commit_ranks import flip, full_disk, names, save
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ptm_dist.errors import NoValidCheckpointError
from ptm_dist.train import committed
from ptm_dist.train.commit import Alone, CheckpointStore, list_quarantined


class Machine(RuleBasedStateMachine):
    """The model: for each committed step whether it is whole, flipped (right sizes) or cut; pins; how many were set aside."""

    steps = st.integers(1, 6)

    @initialize()
    def start(self):
        self.root = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.store = CheckpointStore(self.root, Alone())
        self.model, self.pins, self.aside = {}, {}, 0

    def teardown(self):
        shutil.rmtree(self.root, ignore_errors=True)

    @rule(step=steps, name=st.sampled_from([None, None, "best", "x"]))
    def save(self, step, name):
        assert save(self.store, step, pinned=name).step == step
        self.pins |= {name: step} if name else {}
        if self.model.get(step) != "whole":
            self.aside += step in self.model
            self.model[step] = "whole"
            looks_whole = sorted((other for other, form in self.model.items() if form != "cut"), reverse=True)
            for other in set(looks_whole[2:]) - {step, *self.pins.values()}:
                del self.model[other]

    @rule(step=steps)
    def save_on_a_full_disk(self, step):
        self.store._failures = 0
        if self.model.get(step) == "whole":
            return
        assert self.store.save(step, full_disk, {}) is None
        self.aside += self.model.pop(step, None) is not None

    @rule(step=steps, form=st.sampled_from(["flipped", "cut"]), file=st.sampled_from(["rank-00000.weights", committed.MANIFEST]))
    def damage(self, step, form, file):
        if self.model.get(step) == "whole":
            path = self.root / f"step-{step:012d}" / file
            flip(path, 100) if form == "flipped" else os.truncate(path, 100)
            self.model[step] = "cut" if file == committed.MANIFEST else form

    @rule(step=steps)
    def pin(self, step):
        if step in self.model:
            self.store.pin(step, "best")
            self.pins["best"] = step

    @rule()
    def choose(self):
        while self.model and self.model[max(self.model)] != "whole":
            del self.model[max(self.model)]
            self.aside += 1
        expected = max(self.model, default=None)
        found = None
        with suppress(NoValidCheckpointError):
            found = self.store.latest()
            assert found is not None or self.aside == 0
        assert (found and found.step) == expected

    @rule()
    def restart(self):
        self.store = CheckpointStore(self.root, Alone())
        self.store.clean()

    @invariant()
    def the_directory_is_as_the_model_says(self):
        assert self.store.steps() == sorted(self.model)
        assert len(list_quarantined(self.root)) == self.aside
        assert not names(self.root, ".stage-") + names(self.root, ".trash-")


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
TestAnySequence = Machine.TestCase
