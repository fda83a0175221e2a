"""An error as one sentence with what would work."""

from __future__ import annotations

import errno

_EXTRAS = {
    "sim": ("mujoco", "gymnasium", "imageio", "geoflow_envs"),
    "train": (
        "accelerate",
        "h5py",
        "huggingface_hub",
        "jinja2",
        "matplotlib",
        "yaml",
        "tensorboard",
        "tqdm",
    ),
    "view": ("viser",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "formats": ("pyarrow", "zarr", "numcodecs", "imageio_ffmpeg"),
}


def sentence(error: Exception) -> str:
    """An error in one line, with what would work."""
    if isinstance(error, ImportError):
        module = (error.name or "").split(".")[0]
        extra = next((extra for extra, modules in _EXTRAS.items() if module in modules), "all")
        return f"this command needs {module or error}; install it with: pip install 'geoflow[{extra}]'"
    if isinstance(error, OSError) and error.errno is not None:
        return _system_sentence(error)
    return " ".join(str(error).split()) or type(error).__name__


def _system_sentence(error: OSError) -> str:
    """What the operating system refused."""
    where = f"{error.filename}: " if error.filename else ""
    advice = {
        errno.ENOSPC: "free some space, or choose another --out; the same command continues",
        errno.EDQUOT: "free some space, or choose another --out; the same command continues",
        errno.EFBIG: "choose another --out; the same command continues",
        errno.EACCES: "choose another --out, or ask for permission",
        errno.EPERM: "choose another --out, or ask for permission",
        errno.EROFS: "choose another --out: nothing can be written there",
        errno.ENOENT: "a folder of the path is missing",
        errno.ENOTDIR: "a part of the path is a file: choose another path",
        errno.EEXIST: "a file is where a folder is needed: choose another path",
        errno.EISDIR: "that is a folder: give a file",
    }
    return f"{where}{error.strerror}; {advice.get(error.errno or 0, 'choose another path')}."
