"""The load benchmark beside generators that others wrote. In order: command, comparison, loadgen, perf_analyzer."""
