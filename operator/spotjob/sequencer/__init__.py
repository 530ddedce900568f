"""The command line `sequencer`: runs an ordered list of ECS tasks and SpotJobs, each exactly once."""
