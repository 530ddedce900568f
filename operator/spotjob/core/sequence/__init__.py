"""The Sequencer's core: what a sequence is, where a run of it stands, and what is to be done next. Pure."""
