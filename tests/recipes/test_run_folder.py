import contextlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from recipes.parts.run_folder import (
    HISTORY,
    append_line,
    complete_or_absent,
    new_run_folder,
    read_run_file,
    require_space,
    versions,
    write_json,
)
from zoo.errors import InputError


def claim(path):
    with new_run_folder(path, "finetune") as folder:
        return folder


def test_a_folder_that_holds_anything_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not empty"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"run folder .*--out"):
            claim(place)
    assert (tmp_path / "file").is_file()


def test_a_full_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    require_space(tmp_path, 1)
    with pytest.raises(InputError, match="No space"):
        require_space(tmp_path, 2)


def test_a_claimed_folder_cannot_be_claimed_again(tmp_path):
    """Two runs that start at once must not write into one folder."""
    with new_run_folder(tmp_path / "run", "finetune"), pytest.raises(InputError, match="is not empty"):
        claim(tmp_path / "run")
    assert (tmp_path / "run" / "versions.json").is_file()


def test_default_folders_never_coincide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {claim(None) for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.parent == tmp_path / "runs" for folder in folders)
    assert all(folder.name.startswith("finetune-2") for folder in folders)


@pytest.mark.parametrize("made_before", [False, True])
def test_a_run_that_trained_nothing_leaves_no_trace(tmp_path, made_before):
    run = tmp_path / "run"
    if made_before:
        run.mkdir()
    with contextlib.suppress(InputError), new_run_folder(run, "finetune") as folder:
        write_json(folder / "config.json", {})
        (folder / HISTORY).touch()
        raise InputError("wrong")
    assert run.exists() == made_before
    assert not made_before or not any(run.iterdir())


def test_a_run_that_trained_is_kept(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), new_run_folder(tmp_path / "run", "finetune") as folder:
        append_line(folder / HISTORY, {"epoch": 1})
        raise KeyboardInterrupt
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"versions.json", HISTORY}


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    for write in (write_json, append_line):
        with pytest.raises(ValueError, match="JSON"):
            write(tmp_path / "file", float("inf"))


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, 1)
    with contextlib.suppress(KeyboardInterrupt), complete_or_absent(path) as beside:
        beside.write_text("2")
        raise KeyboardInterrupt
    assert path.read_text() == "1\n"
    assert os.listdir(tmp_path) == ["value.json"]


def test_a_process_killed_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, 1)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from recipes.parts.run_folder import complete_or_absent\n"
        "with complete_or_absent(Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('2')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert read_run_file(tmp_path, "value.json") == 1


def test_any_file_name_survives_json(tmp_path):
    name = os.fsdecode(b"caf\xe9\n\x1b.jpg")
    write_json(tmp_path / "names.json", [name])
    append_line(tmp_path / "lines.jsonl", {"file": name})
    append_line(tmp_path / "lines.jsonl", {"file": "second"})
    assert read_run_file(tmp_path, "names.json") == [name]
    lines = (tmp_path / "lines.jsonl").read_text(encoding="ascii").splitlines()
    assert [json.loads(line)["file"] for line in lines] == [name, "second"]


def test_reading_what_is_no_run(tmp_path):
    with pytest.raises(InputError, match="No such run folder"):
        read_run_file(tmp_path / "none", "config.json")
    with pytest.raises(InputError, match=r"not the folder of a finished run.*config\.json"):
        read_run_file(tmp_path, "config.json")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="Cannot read"):
        read_run_file(tmp_path, "config.json")


def test_versions_name_what_decides_the_result():
    assert {"python", "tensorflow", "keras"} <= versions().keys()
