"""`zoo cache`: what is kept of frozen layers, and what goes."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from recipes.cache import KEY_DIGITS, clear, find
from recipes.cli import main
from recipes.parts import cache_folder
from recipes.parts.activation_store import ActivationStore, digest_of
from zoo.errors import InputError

ROWS = np.zeros((1200, 2, 3, 4), np.float16)
ABOUT = {"model": "MobileNetV2", "cut": "block_15_add", "data": "folder:photos"}


def key(number):
    return {"number": number}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two complete entries and a partial one, last used 9, 4 and 0 days ago; and what is none of the cache."""
    folder = tmp_path / "activations"
    monkeypatch.setenv("ZOO_CACHE", str(folder))
    store = ActivationStore()
    for number, (days, stop) in enumerate([(9, 1200), (4, 1200), (0, 600)]):
        with store.fill(key(number), shape=ROWS.shape, dtype=ROWS.dtype, about=ABOUT) as entry:
            entry.append(ROWS[:stop])
        (path,) = folder.glob(f"{digest_of(key(number))}.*")
        used = time.time() - days * 24 * 3600 - 60
        os.utime(path, (used, used))
    (folder / "notes.txt").write_text("mine")
    return folder


def left(folder):
    return [number for number in range(3) if list(folder.glob(f"{digest_of(key(number))}.*"))]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_table(columns, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= int(columns) for line in lines[:-1])
    rows = [line.split() for line in lines if line.split()[:1] in [[digest_of(key(number))[:8]] for number in range(3)]]
    assert [row[0] for row in rows] == [digest_of(key(number))[:KEY_DIGITS] for number in range(3)]
    first = find(folder)[0]
    size, made = first.stored.size / 1e6, first.header.created[:10]
    used = time.strftime("%Y-%m-%d", time.localtime(first.stored.last_used))
    assert rows[0][-7:] == ["1,200", "2x3x4", "float16", f"{size:.1f}", "MB", made, used]
    assert rows[2][-7] == "600"
    shown = " ".join(" ".join(lines).split())
    assert "MobileNetV2" in shown
    assert "partial" in shown
    assert f"{3 * size:.1f} MB in {folder}; the limit is 20.0 GB" in shown


def test_an_empty_cache(tmp_path, capsys):
    assert main(["cache", "list", "--folder", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out.startswith("0.0 MB in ")
    assert main(["cache", "clear", "--folder", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == "removed 0, 0.0 MB\n"
    assert not (tmp_path / "none").exists()


def test_damaged_files_and_hostile_names_are_shown_on_one_screen(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    folder = tmp_path / "a\x1b[2Jb"
    with ActivationStore(folder).fill(
        key(0), shape=(1,), dtype="uint8", about={"data": "[red]x\x1b[2J\n\ud800"}
    ) as entry:
        entry.append(np.zeros(1, np.uint8))
    (folder / f"{'0' * 64}.activations").write_bytes(b"nothing")
    assert main(["cache", "list", "--folder", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert r"[red]x\x1b[2J\n\ud800" in shown
    assert "damaged" in next(line for line in shown.splitlines() if line.startswith("00000000"))


def test_clear_removes_entries_and_nothing_else(folder, capsys):
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"removed 3, {size:.1f} MB\n"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "stay"),
    [
        (["--older-than", "5"], [1, 2]),
        (["--older-than", "0.5"], [2]),
        (["--older-than", "30"], [0, 1, 2]),
        (["--key", digest_of({"number": 1})[:9].upper()], [0, 2]),
        (["--key", digest_of({"number": 1}), "--older-than", "5"], [0, 1, 2]),
    ],
)
def test_clear_chooses(words, stay, folder):
    assert main(["cache", "clear", *words]) == 0
    assert left(folder) == stay


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--older-than", "-1"], "0 or more"),
        (["--older-than", "nan"], "0 or more"),
        (["--key", "xyz"], "hexadecimal"),
        (["--key", ""], "hexadecimal"),
        (["--key", "0" * 20], "`zoo cache list` shows them"),
    ],
)
def test_bad_input_is_one_line_and_removes_nothing(words, message, folder, capsys):
    assert main(["cache", "clear", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert left(folder) == [0, 1, 2]


def test_what_a_run_is_filling_stays(folder, capsys):
    with ActivationStore().fill(key(2), shape=ROWS.shape, dtype=ROWS.dtype) as entry:
        gone, stay = clear(folder)
        assert sorted(one.digest for one in gone) == sorted(digest_of(key(number)) for number in (0, 1))
        assert [one.digest for one in stay] == [digest_of(key(2))]
        assert main(["cache", "clear"]) == 0
        assert capsys.readouterr().out == "removed 0, 0.0 MB; 1 in use, which stay\n"
        entry.append(ROWS[600:])
    assert ActivationStore().find(key(2), memory_budget_bytes=0) is not None


def test_locks_that_killed_runs_left_go_and_are_not_counted(folder):
    (folder / f"{digest_of(key(2))}.lock").touch()
    assert len(find(folder)) == 3
    gone, stay = clear(folder)
    assert (len(gone), len(stay)) == (3, 0)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot read the cache folder"):
        find(tmp_path / "file")


def test_without_a_word_what_to_do_is_said(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["cache"])
    assert stop.value.code == 2
    assert "list" in capsys.readouterr().err


def test_it_starts_neither_tensorflow_nor_numpy(folder):
    code = (
        "import sys\n"
        "from recipes.cli import main\n"
        "assert main(['cache', 'list']) == main(['cache', 'clear']) == 0\n"
        "loaded = {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert cache_folder.stored(folder) == []
