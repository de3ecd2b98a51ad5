"""One file a benchmark: `measure(runs)` gives its figures; being here is enough to be found."""
