"""Made-up machines: files of a kernel below another root."""

from fixtures import hardware

VARIABLES = (*sum(hardware.NARROWED_BY, ()), "HSA_OVERRIDE_GFX_VERSION", "ROCM_PATH", "ROCM_HOME", "LD_LIBRARY_PATH")


def use_machine(monkeypatch, root, **variables):
    """Let this process be on the machine with these files and variables."""
    monkeypatch.setattr(hardware, "ROOT", root)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def write_files(root, texts):
    """Write the text of each path below ``root``, with its folders."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write_nodes(root, *properties):
    """Write the kernel's nodes: one without a GPU, then one for each dictionary."""
    for number, node in enumerate(({"gfx_target_version": 0}, *properties)):
        text = "".join(f"{name} {value}\n" for name, value in node.items())
        write_files(root, {f"{hardware.NODES}/{number}/properties": text})
