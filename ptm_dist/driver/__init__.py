"""The Ray side: preparing corpora and placing workers. The only code that imports ray."""
