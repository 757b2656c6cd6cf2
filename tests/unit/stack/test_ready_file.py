import json
import threading
from pathlib import Path

from stack.ready_file import remove_own, write_json


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, wrong, done = tmp_path / "deep" / "ready.json", [], threading.Event()
    write_json(path, {"n": 0, "pad": "x" * 10_000})

    def read() -> None:
        while not done.is_set():
            if len(json.loads(path.read_text())["pad"]) != 10_000:
                wrong.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        write_json(path, {"n": number, "pad": "x" * 10_000})
    done.set()
    reader.join()
    assert not wrong
    assert [found.name for found in path.parent.iterdir()] == ["ready.json"]


def test_a_file_that_another_process_wrote_stays(tmp_path: Path) -> None:
    path = tmp_path / "up.json"
    write_json(path, {"pid": 1})
    remove_own(path, 2)
    assert path.exists()
    remove_own(path, 1)
    assert not path.exists()


def test_a_file_without_a_process_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    write_json(path, {"kafka": "k"})
    remove_own(path, 2)
    assert not path.exists()


def test_a_file_that_is_gone_or_foreign_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "up.json"
    remove_own(path, 1)
    path.write_text("not json")
    remove_own(path, 1)
    assert path.exists()
