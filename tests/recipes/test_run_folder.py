import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.parts.run_folder import (
    append_line,
    complete_or_absent,
    create_run_folder,
    default_run_folder,
    read_run_file,
    remove_if_empty,
    versions,
    write_json,
)
from zoo.errors import InputError


def test_a_folder_that_holds_anything_is_refused(tmp_path):
    create_run_folder(tmp_path / "new" / "deep")
    (tmp_path / "new" / "file").touch()
    with pytest.raises(InputError, match="is not empty"):
        create_run_folder(tmp_path / "new")
    assert (tmp_path / "new" / "file").exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"Cannot write to the run folder .*--out"):
            create_run_folder(place)


def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match="No space"):
        create_run_folder(tmp_path / "run", needs_bytes=2)
    assert not (tmp_path / "run").exists()


def test_only_an_empty_folder_is_removed(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    remove_if_empty(tmp_path / "full")
    remove_if_empty(tmp_path / "empty")
    remove_if_empty(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


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


def test_default_folder_and_versions():
    assert default_run_folder("finetune").parent == Path("runs")
    assert default_run_folder("finetune").name.startswith("finetune-2")
    assert {"python", "tensorflow", "keras"} <= versions().keys()
