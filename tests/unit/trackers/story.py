"""Events of a run of 40 steps that is killed at step 21, goes on from its checkpoint at 16 and ends, as its event log holds them."""

from ptm_dist.events import EventLog, steps_of
from ptm_dist.run import RunFolder
from tests.tiny import tiny_recipe

TOTAL, KILLED, SAVED = 40, 21, 16


def make_run(path):
    run = RunFolder(path)
    run.claim(tiny_recipe())
    return run


def loss(step, attempt):
    return 6.0 - step / 16 + attempt / 1024  # The attempts differ, so that it shows whose word counts.


def attempt_of(run, number, start, stop):
    """Do steps start..stop-1, with a checkpoint every 8 and held-out figures every 20; yield the events."""
    log = EventLog(run.events_path, number)
    yield log.write("chosen", key="batch.micro", value=4)
    yield log.write("attempt_started", step=start, total_steps=TOTAL, world=2)
    held_out = {"task": "mlm", "objective": "masked_lm", "accuracy": 0.5, "unigram_entropy": 5.0, "baseline_loss": None}
    if not start:
        yield log.write("evaluated", step=0, loss=6.0, **held_out)
    for step in range(start, stop):
        means = {"masked_lm": loss(step, number)}
        common = {"task": "mlm", "losses": means, "learning_rate": 1e-3, "gradient_norm": 1.0, "tokens": 500, "seconds": 0.5}
        yield log.write("step", step=step, loss=loss(step, number), loss_scale=None, **common)
        done = step + 1
        if done % 20 == 0:
            sources = {name: {"loss": done / 10, "accuracy": 0.5, "unigram_entropy": 5.0} for name in ("a", "b")}
            yield log.write("evaluated", step=done, loss=done / 20 + number / 1024, sources=sources, **held_out)
        if done % 8 == 0:
            yield log.write("checkpoint_saved", step=done, seconds=0.25, bytes=1000, path="x")
    if stop == TOTAL:
        yield log.write("attempt_finished", step=stop)
    log.close()


def live_through(settings, run):
    """Let a tracker follow the whole story; the first attempt is killed, so that nothing is closed."""
    killed = settings.open(run)
    for event in attempt_of(run, 1, 0, KILLED):
        killed.observe(event)
    again = settings.open(run)
    for event in attempt_of(run, 2, SAVED, TOTAL):
        again.observe(event)
    again.close()
    return killed


def ledger(run):
    """Return {updates done: loss}, the last word on every step."""
    return {step + 1: event["loss"] for step, event in steps_of(run.events_path).items()}
