"""The suite's pytest plugins."""

pytest_plugins = [
    "fixtures.plugin.options",
    "fixtures.plugin.main",
    "fixtures.plugin.session",
    "fixtures.plugin.checking",
    "fixtures.plugin.decisions",
    "fixtures.plugin.saving",
    "fixtures.plugin.speed",
    "fixtures.plugin.figures",
    "fixtures.plugin.duel",
    "fixtures.plugin.sweep",
]
