"""Files that let other greenlets run while they wait. (As gevent.fileobject.)

A file object wraps a descriptor, an object that has one (a socket, a file), or opens a path. It
has the methods of the files of `open()`, with the same arguments and results; text and buffering
are those of the standard `io` module.

`FileObjectPosix` is for whatever it is: pipes, terminals and sockets are waited for by the hub,
files on disk are read and written without keeping others from running. `FileObjectThread` makes
each call of a method in a native thread, for file-like objects that have no descriptor, or do
more than reading and writing: compressed files, say. `FileObjectBlock` is no more than the
standard file, for comparison. `FileObject` is `FileObjectPosix`, unless `config.fileobject` says
another.
"""

from __future__ import annotations

from greenloop._config import config
from greenloop._fileobjectcommon import FileObjectBlock, FileObjectThread
from greenloop._fileobjectposix import FileObjectPosix

__all__ = ["FileObject", "FileObjectBlock", "FileObjectPosix", "FileObjectThread"]

FileObject = config.fileobject
