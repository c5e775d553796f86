"""Keeps a second trainer out of a workdir."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator

import jax
from etils import epath

from dwconv_jax.errors import UserError

_LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def workdir_lock(workdir: epath.Path) -> Iterator[None]:
    """Holds the lock of a workdir, which it creates.

    The file `.lock` names the process that trains there. The operating system releases the lock of
    a process that ends, however it ends, so that no lock is ever left behind. File systems without
    locks, such as object stores, are not protected.

    Raises:
      UserError: if another process trains in the workdir; the message names it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() != 0 or "://" in str(workdir):
        yield
        return
    path = workdir / _LOCK
    with open(path, "a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().decode().strip() or "another process"
            raise UserError(
                f"{workdir} is in use: {owner} trains there; wait for it, or use another workdir"
            ) from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
