"""Take out of an image's virtual environment what no service of ours imports, and compile the rest.

Runs in the build stages of every Dockerfile: `python prune.py /opt/hourcast`, and for what is laid over it `python prune.py /more`.
"""

import compileall
import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

# Folders with these names hold a package's own tests, and nothing that runs imports them.
_TESTS = ("test", "tests")
# What a package calls `test` or `tests` and yet imports.
_KEPT = ()
# Globs below site-packages, each with its reason.
_UNUSED = (
    "torch/include/*",  # headers for C++ extensions
    "torch/bin/protoc*",  # torch asks for torch_shm_manager beside it when it is imported
    "torch/share/*",  # CMake files
    "onnx/**/*.proto",
    "onnxruntime/tools",
    "onnxruntime/transformers",  # conversion of models from elsewhere
    "onnxruntime/quantization",
    "pyarrow/include",
    "pyarrow/src",
    "ccxt/async_support",  # we ask one exchange at a time
    "ccxt/pro",
    "numpy/_core/include",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
)
# Programs that nobody runs in a container: they are for people, or 50 MB.
_PROGRAMS = ("hourcast", "python*", "bentoml")
# botocore carries a description of every service of AWS; S3 is ours, STS gives credentials to pods.
_AWS = ("s3", "sts", "sso", "sso-oidc")


def main() -> None:
    """Prune and compile the environment, or the part of one, that `argv[1]` names."""
    site = next(Path(sys.argv[1]).glob("lib/python3.*/site-packages"))
    for folder in sorted(site.rglob("*")):
        if folder.is_dir() and folder.name in _TESTS and folder.relative_to(site).as_posix() not in _KEPT:
            shutil.rmtree(folder)
    for pattern in _UNUSED:
        for path in list(site.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for service in (site / "botocore" / "data").glob("*/"):
        if service.is_dir() and service.name not in _AWS:
            shutil.rmtree(service)
    for program in (site.parents[2] / "bin").glob("*"):
        if not any(program.match(kept) for kept in _PROGRAMS):
            program.unlink()
    # Hashes that nobody checks: copying a layer may change a file's time, and no start compiles again.
    compileall.compile_dir(site, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)


if __name__ == "__main__":
    main()
