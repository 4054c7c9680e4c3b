"""Made-up machines: files of a kernel below another root."""

from fixtures import hardware


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
