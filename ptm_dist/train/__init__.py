"""The worker side: one SPMD loop, its engine, state and checkpoints."""
