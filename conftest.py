"""The suite's pytest plugins."""

pytest_plugins = [
    "fixtures.plugin.config",
    "fixtures.plugin.selection",
    "fixtures.plugin.main",
    "fixtures.plugin.time_estimate",
    "fixtures.plugin.failures",
    "fixtures.plugin.session",
    "fixtures.plugin.agreement",
    "fixtures.plugin.accuracy",
    "fixtures.plugin.latency_benchmark",
    "fixtures.plugin.benchmark_baseline",
    "fixtures.plugin.ab_comparison",
    "fixtures.plugin.latency_table",
    "fixtures.plugin.results_file",
]
