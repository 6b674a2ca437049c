"""What is printed, and where, when a greenlet dies of an exception nobody caught."""

import re

import gevent
import pytest


class Boom(Exception):
    pass


def fail(*args, **kwargs):
    raise Boom("reason")


def test_report_has_traceback_greenlet_and_exception_type(capsys):
    g = gevent.spawn(fail, 1, "two", three=3)
    name = f"<Greenlet at {hex(id(g))}: fail(1, 'two', three=3)> failed with Boom"
    g.join()
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert 'test_error_report.py", line ' in err
    assert 'raise Boom("reason")' in err
    assert "Boom: reason\n" in err
    last = err.rstrip("\n").rsplit("\n", 1)[-1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ " + re.escape(name), last)


def test_report_goes_to_stderr_only(capsys):
    gevent.spawn(fail).join()
    assert capsys.readouterr().out == ""


def test_report_is_printed_once_per_greenlet(capsys):
    gs = [gevent.spawn(fail) for _ in range(3)]
    gevent.joinall(gs)
    for g in gs:
        with pytest.raises(Boom):
            g.get()
    assert capsys.readouterr().err.count("failed with Boom") == 3


def test_report_is_printed_even_when_somebody_waits(capsys):
    with pytest.raises(Boom):
        gevent.spawn(fail).get()
    assert "failed with Boom" in capsys.readouterr().err


def test_report_shows_a_chain_of_causes(capsys):
    def chained():
        try:
            fail()
        except Boom as error:
            raise ValueError("second") from error

    gevent.spawn(chained).join()
    err = capsys.readouterr().err
    assert "Boom: reason" in err
    assert "direct cause" in err
    assert "ValueError: second" in err


def test_report_uses_the_given_name(capsys):
    g = gevent.spawn(fail)
    g.name = "worker-7"
    g.join()
    assert '<Greenlet "worker-7" at 0x' in capsys.readouterr().err


def test_not_callable_arguments_with_a_broken_repr_do_not_stop_the_report(capsys):
    class Unprintable:
        def __repr__(self):
            raise RuntimeError("no repr")

    g = gevent.spawn(fail, Unprintable())
    g.join()
    assert isinstance(g.exception, Boom)
    assert "Boom: reason" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["value", "exit"])
def test_success_and_greenlet_exit_print_nothing(capsys, kind):
    def function():
        if kind == "exit":
            raise gevent.GreenletExit

    gevent.spawn(function).join()
    assert capsys.readouterr().err == ""


def test_base_exception_is_reported_and_stored(capsys):
    class Base(BaseException):
        pass

    def function():
        raise Base("base")

    g = gevent.spawn(function)
    g.join()
    assert isinstance(g.exception, Base)
    assert "failed with Base" in capsys.readouterr().err


def test_timeout_leaving_a_greenlet_is_reported(capsys):
    def function():
        gevent.Timeout(0.001).start()
        gevent.sleep(10)

    g = gevent.spawn(function)
    g.join()
    assert isinstance(g.exception, gevent.Timeout)
    assert "failed with Timeout" in capsys.readouterr().err


def test_system_exit_in_a_greenlet_reaches_main_and_prints_nothing(capsys):
    def function():
        raise SystemExit(3)

    g = gevent.spawn(function)
    with pytest.raises(SystemExit) as caught:
        gevent.sleep(1)
    assert caught.value.code == 3
    assert isinstance(g.exception, SystemExit)
    assert not g.successful()
    assert capsys.readouterr().err == ""


def test_keyboard_interrupt_in_a_greenlet_reaches_main(capsys):
    def function():
        raise KeyboardInterrupt

    g = gevent.spawn(function)
    with pytest.raises(KeyboardInterrupt):
        g.join()
    assert isinstance(g.exception, KeyboardInterrupt)
    assert "failed with KeyboardInterrupt" in capsys.readouterr().err


def test_the_hub_goes_on_after_a_system_error_reached_main(capsys):
    def function():
        raise SystemExit

    gevent.spawn(function)
    with pytest.raises(SystemExit):
        gevent.sleep(1)
    assert gevent.spawn(lambda: "alive").get() == "alive"


def test_a_program_exits_with_the_code_a_greenlet_asked_for(run_script):
    result = run_script(
        """
        import sys
        import gevent

        gevent.spawn(sys.exit, 7)
        gevent.sleep(10)
        """
    )
    assert result.returncode == 7
    assert result.stderr == ""


def test_a_failed_greenlet_does_not_change_the_exit_code(run_script):
    result = run_script(
        """
        import gevent

        def divide(a, b):
            return a / b

        gevent.spawn(divide, 1, 0).join()
        print("end")
        """
    )
    assert result.returncode == 0
    assert result.stdout == "end\n"
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert re.search(
        r"<Greenlet at 0x[0-9a-f]+: divide\(1, 0\)> failed with ZeroDivisionError", result.stderr
    )
