"""The suite's pytest plugins."""

pytest_plugins = [
    "fixtures.plugin.config",
    "fixtures.plugin.main",
    "fixtures.plugin.failures",
    "fixtures.plugin.session",
    "fixtures.plugin.agreement",
    "fixtures.plugin.accuracy",
    "fixtures.plugin.saving",
    "fixtures.plugin.speed",
    "fixtures.plugin.figures",
    "fixtures.plugin.ab_comparison",
    "fixtures.plugin.sweep",
]
