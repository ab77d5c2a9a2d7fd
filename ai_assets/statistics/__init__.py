"""Statistics of decisions: pure functions on numbers, each tested by simulation. Nothing here knows of documents, and
no module that declares assets imports it."""
