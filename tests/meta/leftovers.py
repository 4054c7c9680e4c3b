"""What is in a folder once a test is over."""


def left(folder):
    """Names of the files, locks aside."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
