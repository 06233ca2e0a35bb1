"""What lies between the corpus and the model: documents, examples, shards, batches."""
