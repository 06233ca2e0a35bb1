"""A run as its two logs tell it: every kind of event, with every field."""

import os
import socket

HERE = socket.gethostname()
RANKS = [
    {"rank": 0, "node": HERE, "pid": os.getpid(), "gpu": "GPU-0", "metrics": "127.0.0.1:9100"},
    {"rank": 1, "node": HERE, "pid": os.getpid(), "gpu": "GPU-1", "metrics": ""},
    {"rank": 2, "node": "far", "pid": 12, "gpu": "GPU-2", "metrics": "10.0.0.2:9100"},
    {"rank": 3, "node": "mute", "pid": 13, "gpu": "GPU-3", "metrics": ""},
]
FIGURES = {"loss": 2.0, "accuracy": 0.5, "targets": 10, "unigram_entropy": 3.0, "baseline_loss": 0.7, "baseline_accuracy": 0.6}


def told(event, time, attempt=2, **fields):
    return {"event": event, "attempt": attempt, "time": time} | fields


STARTED = told(
    "attempt_started", 1010.0, step=16, total_steps=40, world=4, metrics="http://127.0.0.1:9100/metrics", examples=500, pids=[1, 2, 12, 13],
    code="1", repeats="bits", ranks=RANKS, start_seconds=8.0, restore_seconds=2.0, flops_per_token=100.0, peak_flops=1e6,
)  # fmt: skip
STEP = told(
    "step", 1011.0, step=16, task="mlm", loss=5.5, losses={"masked_lm": 5.0, "classify_sequence": 0.5}, learning_rate=1e-3,
    gradient_norm=2.0, rows=16, tokens=1000, skipped=False, loss_scale=1024.0, seconds=1.0, data_seconds=0.2,
    phases={"data": 0.2, "forward": 0.3, "backward": 0.4, "optimizer": 0.05, "communication": 0.05},
)  # fmt: skip
BUSY = told(
    "ranks",
    1011.0,
    step=16,
    steps=5,
    busy_seconds=[0.5, 0.6, 0.7, 0.8],
    data_seconds=[0.1, 0.2, 0.3, 0.4],
    memory_bytes=[100, 200, 300, 400],
)
WORKERS = [
    told("checkpoint_quarantined", 1009.0, reason="a byte"),
    STARTED,
    STEP,
    BUSY,
    told("evaluated", 1012.0, step=17, task="mlm", objective="masked_lm", **FIGURES, sources={"own": FIGURES | {"loss": 1.0}}),
    told("probed", 1012.0, step=17, probe="mood", accuracy=0.75, loss=0.5, baseline_accuracy=0.6, rows=100),
    told("evaluation_finished", 1012.0, step=17, seconds=0.75),
    told("checkpoint_saved", 1014.0, step=17, seconds=1.5, bytes=5000, path="p"),
    told("checkpoint_failed", 1015.0, step=18, seconds=0.5, reason="full"),
    told("stopping", 1016.0, step=18, reason="user"),
]
DRIVER = [
    told("prepared", 900.0, 0, stage="tokens", tasks=36, done=30, seconds=12.0),
    told("attempt_placed", 901.0, 1, workers=4, wanted_workers=4, nodes=[HERE], kind="local", step=0, host=HERE),
    told("attempt_ended", 950.0, 1, exit_code=60, cause="lost_worker", step=20, kept_step=16, lost_steps=4, seconds=49.0, workers=4),
    told("stepped_back", 951.0, 1, step=16, reason="2 attempts ended at step 20"),
    told("restarting", 951.0, 1, seconds=5.0, reason="2 attempts ended at step 20: lost_worker", restarts_left=3),
    told("waiting_for_capacity", 956.0, 1, workers=2, least=4),
    told("nodes_checked", 957.0, 2, seconds=60.0, left_out=["bad"], nodes=[
        {"node": HERE, "matmul_seconds": 1.0, "allreduce_seconds": 0.1, "fine": True, "reason": ""},
        {"node": "bad", "matmul_seconds": 3.0, "allreduce_seconds": 0.1, "fine": False, "reason": "slow"},
    ]),
    told("attempt_placed", 1000.0, 2, workers=4, wanted_workers=8, nodes=[HERE, "far", "mute"], kind="ray", step=16, host=HERE),
]  # fmt: skip
