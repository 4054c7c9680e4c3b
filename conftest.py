"""The suite's pytest plugins."""

import pytest

PLUGINS = (
    *("config", "selection", "main", "time_estimate", "failures", "session", "agreement", "accuracy"),
    *("latency_benchmark", "benchmark_baseline", "ab_comparison", "results_file"),
)


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Import them. For each one in a list ``pytest_plugins``, pytest would search all installed packages."""
    for name in PLUGINS:
        pluginmanager.import_plugin(f"fixtures.plugin.{name}")
