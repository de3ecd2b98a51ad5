import io
import json

from workers.logs import Log, log_context, set_up


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_is_json_with_its_context_and_fields() -> None:
    out = io.StringIO()
    set_up(debug=False, secrets=[], stream=out)
    with log_context(worker="poster", step="step", trace="t1"):
        Log("test").info("posted", intent="7")
    line = json.loads(out.getvalue())
    assert {key: line[key] for key in ("level", "worker", "step", "trace", "message", "intent")} == {
        "level": "info",
        "worker": "poster",
        "step": "step",
        "trace": "t1",
        "message": "posted",
        "intent": "7",
    }


def test_a_secret_never_shows_neither_in_fields_nor_in_tracebacks() -> None:
    out = io.StringIO()
    set_up(debug=False, secrets=["canary-value", "canary-value-longer"], stream=out)
    try:
        raise ValueError("with canary-value-longer inside")  # noqa: TRY301  the traceback is the point
    except ValueError as error:
        Log("test").error("failed with canary-value", error=error, header="Bearer canary-value")
    text = out.getvalue()
    assert "canary" not in text
    assert "Traceback" in json.loads(text)["error"]


def test_a_terminal_gets_a_short_readable_line() -> None:
    out = Terminal()
    set_up(debug=False, secrets=[], stream=out)
    with log_context(worker="poster"):
        Log("test").warning("the limit says wait", retry_after_s=5)
    assert "warning poster: the limit says wait retry_after_s=5" in out.getvalue()


def test_debug_lines_show_only_when_asked_for() -> None:
    quiet, loud = io.StringIO(), io.StringIO()
    set_up(debug=False, secrets=[], stream=quiet)
    Log("test").debug("detail")
    set_up(debug=True, secrets=[], stream=loud)
    Log("test").debug("detail")
    assert quiet.getvalue() == ""
    assert "detail" in loud.getvalue()


def test_a_hostile_text_stays_one_line() -> None:
    out = io.StringIO()
    set_up(debug=False, secrets=[], stream=out)
    Log("test").info("read", text='a"\n{"level":"error"}\u2028')
    assert len(out.getvalue().splitlines()) <= 2
    assert json.loads(out.getvalue())["level"] == "info"


def test_a_secret_that_json_would_escape_is_hidden_too() -> None:
    out = io.StringIO()
    set_up(debug=False, secrets=['ca"na\\ry'], stream=out)
    Log("test").info(
        'said ca"na\\ry', fields=['ca"na\\ry', {"deep": 'x ca"na\\ry'}], error_=ValueError('ca"na\\ry')
    )
    assert "ry" not in json.loads(out.getvalue())["message"]
    assert out.getvalue().count("***") == 4
