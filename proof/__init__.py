"""What decides whether a run kept the promises: a history of what happened, a checker, a judge, faults on purpose."""
