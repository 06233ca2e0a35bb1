"""Fine-tuning: from the outputs of a model to answers, tags, metrics and tables of results."""
