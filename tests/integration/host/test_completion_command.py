"""`socialfleet completion`: the script as bash runs it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from host import cli
from host.cli import COMMANDS

SHELLS = ("bash", "zsh", "fish")


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell], manage=None) == 0
    return capsys.readouterr().out


def suggested(source: Path, *words: str) -> list[str]:
    """What bash suggests for the last word."""
    line = " ".join(f"'{word}'" for word in ("socialfleet", *words))
    asked = (
        f"source '{source}'; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _socialfleet; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-euc", asked], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sta",), {"status", "start"}),
        (("kill-switch", ""), {"on", "off", "status"}),
        (("restart", "pos"), {"poster"}),
        (("restart", "poster", "--ro"), {"--rolling"}),
        (("ledger", "list", "--s"), {"--state"}),
        (("ledger", "show", "--s"), set[str]()),
        (("flags", "set", "poster_enabled", "o"), {"on", "off"}),
        (("hosts", "drain", "po"), set[str]()),
    ],
)
def test_bash_completes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], expected: set[str]
) -> None:
    source = tmp_path / "completion.bash"
    source.write_text(script("bash", capsys))
    assert set(suggested(source, *words)) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shells_script_has_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert [name for name in COMMANDS if name not in text] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_can_read_its_script(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    source = tmp_path / "script"
    source.write_text(script(shell, capsys))
    subprocess.run([program, "-n", str(source)], check=True)


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "fsh"], manage=None) == 2
    assert "shell is 'fsh': did you mean fish?" in capsys.readouterr().err
