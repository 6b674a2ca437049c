"""The environments of WSGI requests, and how they are shown. (As those of gevent.pywsgi.)"""

from __future__ import annotations

from typing import Any

__all__ = ["Environ", "SecureEnviron", "WSGISecureEnviron"]


class Environ(dict[str, Any]):
    """A dict for the environment of a request. What is pickled of it, or copied by `copy.copy`, is
    a plain dict."""

    __slots__ = ()

    def copy(self) -> Environ:
        """Return a copy of the same class."""
        return type(self)(self)

    def iteritems(self) -> Any:
        """As `items`, for programs that have been Python 2's."""
        return self.items()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (), None, None, iter(self.items())


class SecureEnviron(Environ):
    """An environment whose representation keeps to itself what is secret: it may be shown in logs
    and tracebacks, and holds cookies and passwords.

    Instances have these attributes, which have the values of `default_...` of the class as long as
    they are not set:

    secure_repr: whether the rest applies. If not, it is shown as any dict.
    whitelist_keys: the keys whose values may be shown. Without any, only the number of keys is.
    print_masked_keys: whether the other keys are shown, with a mask for the value, or only counted.
    """

    __slots__ = ("print_masked_keys", "secure_repr", "whitelist_keys")

    default_secure_repr = True
    default_whitelist_keys: tuple[str, ...] = ()
    default_print_masked_keys = True

    def __getattr__(self, name: str) -> Any:
        # An instance's own, which is not set.
        if name in SecureEnviron.__slots__:
            return getattr(type(self), "default_" + name)
        raise AttributeError(name)

    def __repr__(self) -> str:
        if not self.secure_repr:
            return super().__repr__()
        shown = self.whitelist_keys
        if not shown:
            return f"<pywsgi.{type(self).__name__} dict (keys: {len(self)}) at {id(self):#x}>"
        if self.print_masked_keys:
            return repr({key: value if key in shown else "<MASKED>" for key, value in self.items()})
        known = {key: value for key, value in self.items() if key in shown}
        if len(known) == len(self):
            return repr(known)
        hidden = f"(hidden keys: {len(self) - len(known)})"
        return f"{repr(known)[:-1]}{', ' if known else ''}{hidden}}}"

    __str__ = __repr__


class WSGISecureEnviron(SecureEnviron):
    """A `SecureEnviron` that shows who has asked whom. What errors are reported with."""

    __slots__ = ()

    default_whitelist_keys = ("REMOTE_ADDR", "REMOTE_PORT", "HTTP_HOST")
    default_print_masked_keys = False
