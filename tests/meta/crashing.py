"""Workers whose ONNX Runtime goes wrong: a ``sitecustomize`` changes it in every new Python that finds it."""

SITE = """
import os, signal, sys, time
import onnxruntime
UNOPTIMISED = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
class Session(onnxruntime.InferenceSession):
    def __init__(self, source, options, **more):
        self.runs, self.wrong = 0, options.graph_optimization_level {judged} UNOPTIMISED
        if self.wrong:
            {at_compile}
        super().__init__(source, options, **more)
    def run(self, names, feeds):
        batch = len(next(iter(feeds.values())))
        self.runs += 1
        if self.wrong and ({condition}):
            {at_run}
        return super().run(names, feeds)
onnxruntime.InferenceSession = Session
"""
ABORT = "os.write(2, b'Assertion `axis < rank` failed.'); os.abort()"


def environment(folder, *, at_run="pass", at_compile="pass", condition="True", judged="!="):
    """Return the environment in which sessions of the judged engine go wrong, or with ``==`` the reference's.

    ``at_run`` and ``at_compile`` are statements on one line.
    """
    text = SITE.format(at_run=at_run, at_compile=at_compile, condition=condition, judged=judged)
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(folder)}
