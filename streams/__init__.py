"""The floor: settings, topics from topics.yaml, the Faust app of a role, the micro-batch runner and the pure rules."""
