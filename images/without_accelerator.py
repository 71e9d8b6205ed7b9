"""Leave out what torch needs only where there is an accelerator; run by the interpreter whose packages it thins out.

torch's build for CUDA links a part of NVIDIA's libraries and cannot be imported without them. The rest (cuDNN's
engines, headers, Triton with its compilers) is looked for on a GPU alone. What is linked is not listed here but asked
of the running process, so that another version of torch keeps what it needs.
"""

import importlib
import shutil
import site
import subprocess
import sys
from pathlib import Path

IMPORTED = ("torch", "torchvision", "timm")


def mapped() -> set[Path]:
    """Every shared library that this process has loaded."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {Path(line.split()[-1]).resolve() for line in lines if ".so" in line}


def main() -> None:
    packages = Path(site.getsitepackages()[0])
    for name in IMPORTED:
        importlib.import_module(name)
    kept = mapped()
    for path in (packages / "nvidia").rglob("*"):
        if path.is_file() and path.resolve() not in kept:
            path.unlink()
    for folder in packages.glob("triton*"):
        shutil.rmtree(folder)
    # A process of its own: this one has everything loaded already.
    subprocess.run([sys.executable, "-c", f"import {', '.join(IMPORTED)}"], check=True)


if __name__ == "__main__":
    main()
