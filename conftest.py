"""The suite's pytest plugins."""

pytest_plugins = [
    "fixtures.plugin.options",
    "fixtures.plugin.main",
    "fixtures.plugin.session",
    "fixtures.plugin.checking",
    "fixtures.plugin.predictions",
    "fixtures.plugin.saving",
    "fixtures.plugin.speed",
    "fixtures.plugin.figures",
    "fixtures.plugin.ab_comparison",
    "fixtures.plugin.sweep",
]
