"""Tests of collective.files, on real files, folders and locks."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from collective.errors import AccessError, CollectiveError, InputError, RefusedError
from collective.files import (
    FolderLock,
    content_of,
    file_error,
    is_mount,
    make_private_folder,
    read_private,
    set_aside,
    set_data_aside,
    write_atomically,
)

NOON = datetime(2024, 5, 6, 12, 0, 0, tzinfo=timezone.utc)
NOBODY = 65534


def mode_of(path: Path) -> int:
    """Return the permissions of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Give up the rights of root, which no permission stops, for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def closed_folder(folder: Path) -> Iterator[None]:
    """Take the right to write into a folder from this process."""
    folder.chmod(0o555)
    try:
        with as_ordinary_user():
            yield
    finally:
        folder.chmod(0o755)


@contextmanager
def wide_umask() -> Iterator[None]:
    """Let new files be as open as their makers ask."""
    old = os.umask(0)
    try:
        yield
    finally:
        os.umask(old)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# write_atomically, read_private


@pytest.mark.parametrize("data", [b"", b"text\n", bytes(range(256)) * 5000])
def test_written_file_reads_back_whole(tmp_path: Path, data: bytes) -> None:
    """What was written is what is read, and nothing else is in the folder."""
    path = tmp_path / "file"
    write_atomically(path, data)
    assert read_private(path) == data
    assert os.listdir(tmp_path) == ["file"]


def test_no_mode_given_makes_a_private_file(tmp_path: Path) -> None:
    """A file is open to its owner only, however wide the umask."""
    with wide_umask():
        write_atomically(tmp_path / "file", b"x")
    assert mode_of(tmp_path / "file") == 0o600


def test_mode_given_counts_more_than_the_umask(tmp_path: Path) -> None:
    """A public file is public under a narrow umask too."""
    old = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"x", 0o644)
    finally:
        os.umask(old)
    assert mode_of(tmp_path / "file") == 0o644


def test_existing_file_is_replaced_with_the_new_mode(tmp_path: Path) -> None:
    """Neither the content nor the mode of the old file stays."""
    path = tmp_path / "file"
    path.write_bytes(b"a long old content")
    path.chmod(0o666)
    write_atomically(path, b"new")
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)


def test_reader_with_the_old_file_open_sees_the_old_content(tmp_path: Path) -> None:
    """Whoever has the old file open reads it to its end."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"


def test_symbolic_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    """Writing never goes through a link to somewhere else."""
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "file").symlink_to("target")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_write_that_stops_halfway_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """A disk that takes only a part leaves the old content and no temporary file."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with file_size_limit(4096), pytest.raises(CollectiveError, match=f"cannot write {path}: "):
        write_atomically(path, b"x" * 10_000)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_rename_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    """A folder in the place of the file is refused and kept."""
    (tmp_path / "file").mkdir()
    with pytest.raises(CollectiveError, match=r"cannot write .*: is a directory"):
        write_atomically(tmp_path / "file", b"x")
    assert os.listdir(tmp_path) == ["file"]


def test_missing_folder_is_named_in_the_refusal(tmp_path: Path) -> None:
    """The error names the file that was asked for, not the temporary one."""
    path = tmp_path / "gone" / "file"
    with pytest.raises(CollectiveError) as caught:
        write_atomically(path, b"x")
    assert caught.value.message == f"cannot write {path}: no such file or directory"


def test_writing_without_the_right_is_an_access_error(tmp_path: Path) -> None:
    """A folder that this user cannot write gives exit code 10."""
    with closed_folder(tmp_path), pytest.raises(AccessError, match="permission denied"):
        write_atomically(tmp_path / "file", b"x")
    assert os.listdir(tmp_path) == []


def test_reading_without_the_right_is_an_access_error(tmp_path: Path) -> None:
    """A file that this user cannot read gives exit code 10."""
    path = tmp_path / "file"
    write_atomically(path, b"x", 0o000)
    with as_ordinary_user(), pytest.raises(AccessError, match=f"cannot read {path}: permission"):
        read_private(path)


def test_reading_a_missing_file_says_so(tmp_path: Path) -> None:
    """The caller decides what a missing file means."""
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "file")


def test_reading_a_folder_is_an_error_with_its_path(tmp_path: Path) -> None:
    """Other failures carry path and reason."""
    with pytest.raises(CollectiveError, match=f"cannot read {tmp_path}: is a directory"):
        read_private(tmp_path)


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EACCES, AccessError, None),
        (errno.EPERM, AccessError, None),
        (errno.EROFS, AccessError, None),
        (errno.ENOSPC, CollectiveError, "disk full: make room on the file system that holds /a"),
        (errno.EDQUOT, CollectiveError, "disk full: make room on the file system that holds /a"),
        (errno.EIO, CollectiveError, None),
    ],
)
def test_error_of_the_system_becomes_one_of_ours(
    number: int, kind: type[CollectiveError], hint: str | None
) -> None:
    """Each error number gives its class, the path, the reason and, on a full disk, a hint."""
    reason = os.strerror(number)
    error = file_error(OSError(number, reason), "write", Path("/a/b"))
    assert type(error) is kind
    assert error.message == f"cannot write /a/b: {reason[0].lower()}{reason[1:]}"
    assert error.hint == hint


# make_private_folder


def test_new_folder_is_private_with_parents_others_can_pass(tmp_path: Path) -> None:
    """Only the folder itself gets the narrow mode."""
    with wide_umask():
        make_private_folder(tmp_path / "a" / "b")
    assert mode_of(tmp_path / "a") == 0o755
    assert mode_of(tmp_path / "a" / "b") == 0o700


def test_new_folder_has_the_mode_asked_for_under_any_umask(tmp_path: Path) -> None:
    """A folder for a group is open to the group under a narrow umask too."""
    old = os.umask(0o077)
    try:
        make_private_folder(tmp_path / "a", 0o750)
    finally:
        os.umask(old)
    assert mode_of(tmp_path / "a") == 0o750


@pytest.mark.parametrize(("before", "after"), [(0o777, 0o750), (0o700, 0o700), (0o2755, 0o2750)])
def test_existing_folder_loses_rights_and_gains_none(
    tmp_path: Path, before: int, after: int
) -> None:
    """A folder that is there is only ever narrowed."""
    folder = tmp_path / "a"
    folder.mkdir()
    folder.chmod(before)
    (folder / "kept").touch()
    make_private_folder(folder, 0o750)
    assert mode_of(folder) == after
    assert os.listdir(folder) == ["kept"]


def test_link_to_a_folder_is_taken_for_the_folder(tmp_path: Path) -> None:
    """An operator may keep the data on another disk."""
    (tmp_path / "disk").mkdir(0o755)
    (tmp_path / "data").symlink_to("disk")
    make_private_folder(tmp_path / "data")
    assert mode_of(tmp_path / "disk") == 0o700


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A file is not a folder."""
    (tmp_path / "a").touch()
    with pytest.raises(CollectiveError, match=r"cannot make folder .*: not a directory"):
        make_private_folder(tmp_path / "a")


def test_folder_without_the_right_to_make_it_is_an_access_error(tmp_path: Path) -> None:
    """The error names the folder that was asked for."""
    with closed_folder(tmp_path), pytest.raises(AccessError, match=f"{tmp_path}/a/b"):
        make_private_folder(tmp_path / "a" / "b")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a folder to somebody else")
@pytest.mark.parametrize("user", [0, NOBODY])
def test_folder_of_somebody_else_is_refused(user: int) -> None:
    """A stranger who owns the folder could replace whatever is in it, also under root."""
    # Not under tmp_path, which only its owner can pass.
    folder = Path(tempfile.mkdtemp(prefix="collective-test-"))
    folder.chmod(0o755)
    os.chown(folder, 12345, -1)
    os.seteuid(user)
    try:
        with pytest.raises(AccessError) as caught:
            make_private_folder(folder, 0o700)
    finally:
        os.seteuid(0)
    try:
        assert mode_of(folder) == 0o755
        assert folder.stat().st_uid == 12345
        name = pwd.getpwuid(NOBODY).pw_name
        expected = "user root (0)" if user == 0 else f"user {name} ({NOBODY}) or user root (0)"
        assert caught.value.message == (
            f"cannot use folder {folder}: it belongs to user 12345, expected {expected}"
        )
        assert "run this as user 12345" in (caught.value.hint or "")
        assert f"chown -R {user} {folder}" in (caught.value.hint or "")
    finally:
        folder.rmdir()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a folder as root")
def test_folder_of_root_serves_others() -> None:
    """Root could do all that its owner could, anyway."""
    folder = Path(tempfile.mkdtemp(prefix="collective-test-"))
    folder.chmod(0o755)
    try:
        with as_ordinary_user():
            make_private_folder(folder, 0o755)
    finally:
        folder.rmdir()


# set_aside


def test_folder_set_aside_keeps_its_content(tmp_path: Path) -> None:
    """What was moved is whole, and its old place is free."""
    old = tmp_path / "etcd"
    old.mkdir()
    (old / "db").write_bytes(b"data")
    now = set_aside(old, tmp_path / "aside", "join", NOON)
    assert now == tmp_path / "aside" / "20240506T120000Z-join" / "etcd"
    assert (now / "db").read_bytes() == b"data"
    assert not old.exists()


def test_set_aside_folders_are_private(tmp_path: Path) -> None:
    """What is set aside may hold keys."""
    (tmp_path / "key").touch()
    with wide_umask():
        now = set_aside(tmp_path / "key", tmp_path / "aside", "join", NOON)
    assert mode_of(now.parent) == mode_of(now.parent.parent) == 0o700


def test_same_second_and_reason_never_overwrites(tmp_path: Path) -> None:
    """Three files of one name, set aside at one moment, are all kept."""
    places = []
    for text in ("one", "two", "three"):
        (tmp_path / "file").write_text(text)
        places.append(set_aside(tmp_path / "file", tmp_path / "aside", "join", NOON))
    assert [place.read_text() for place in places] == ["one", "two", "three"]
    assert [place.parent.name for place in places] == [
        "20240506T120000Z-join",
        "20240506T120000Z-join-2",
        "20240506T120000Z-join-3",
    ]


def test_time_in_another_zone_is_named_in_utc(tmp_path: Path) -> None:
    """The name of the folder is in UTC."""
    (tmp_path / "file").touch()
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    now = set_aside(tmp_path / "file", tmp_path / "aside", "removed-server", local)
    assert now.parent.name == "20240506T120000Z-removed-server"


def test_setting_aside_what_is_missing_leaves_no_empty_folder(tmp_path: Path) -> None:
    """A move that fails leaves nothing behind."""
    with pytest.raises(CollectiveError, match=f"cannot move into .* {tmp_path}/file: no such"):
        set_aside(tmp_path / "file", tmp_path / "aside", "join", NOON)
    assert os.listdir(tmp_path / "aside") == []


@pytest.mark.parametrize("reason", ["", "..", "a/b", "Join", "two words", "-a"])
def test_reason_that_makes_no_folder_name_is_refused(tmp_path: Path, reason: str) -> None:
    """A reason cannot lead out of the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a reason must be"):
        set_aside(tmp_path / "file", tmp_path / "aside", reason, NOON)
    assert os.listdir(tmp_path) == ["file"]


def test_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    """A time that could mean anything names nothing."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must have a zone"):
        set_aside(tmp_path / "file", tmp_path / "aside", "join", NOON.replace(tzinfo=None))
    assert os.listdir(tmp_path) == ["file"]


# FolderLock


def test_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """The refusal names who holds the lock, and on what."""
    with FolderLock.acquire(tmp_path / "lock"), pytest.raises(RefusedError) as caught:
        FolderLock.acquire(tmp_path / "lock")
    expected = f"another collectived (pid {os.getpid()}) already runs on {tmp_path}"
    assert caught.value.message == expected


def test_refused_attempt_leaves_the_lock_as_it_is(tmp_path: Path) -> None:
    """Trying and failing neither frees the lock nor changes the file."""
    with FolderLock.acquire(tmp_path / "lock"):
        for _ in range(2):
            with pytest.raises(RefusedError):
                FolderLock.acquire(tmp_path / "lock")
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    """Release frees the lock, keeps the file, and may be called twice."""
    lock = FolderLock.acquire(tmp_path / "lock")
    lock.release()
    lock.release()
    assert lock.fileno() == -1
    assert (tmp_path / "lock").exists()
    FolderLock.acquire(tmp_path / "lock").release()


def test_longer_text_of_an_earlier_holder_is_overwritten(tmp_path: Path) -> None:
    """Nothing of a dead holder's number stays behind our own."""
    (tmp_path / "lock").write_text("99999999999\nrest\n")
    with FolderLock.acquire(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("text", ["", "nonsense\n", "\udcff"])
def test_holder_that_wrote_no_pid_is_refused_without_one(tmp_path: Path, text: str) -> None:
    """A holder between locking and writing has no number yet."""
    with FolderLock.acquire(tmp_path / "lock", holder="etcd"):
        (tmp_path / "lock").write_text(text, errors="surrogateescape")
        with pytest.raises(RefusedError, match=f"^another etcd already runs on {tmp_path}$"):
            FolderLock.acquire(tmp_path / "lock", holder="etcd")


@pytest.mark.parametrize("inheritable", [False, True])
def test_lock_is_inherited_only_when_asked(tmp_path: Path, inheritable: bool) -> None:
    """A program that is executed gets the lock only where that is meant."""
    with FolderLock.acquire(tmp_path / "lock", inheritable=inheritable) as lock:
        assert os.get_inheritable(lock.fileno()) is inheritable


def test_child_that_inherited_the_lock_outlives_its_parent_s_release(tmp_path: Path) -> None:
    """An orphaned child keeps the lock, under its own number, until it ends."""
    lock = FolderLock.acquire(tmp_path / "lock", holder="etcd", inheritable=True)
    child = subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, close_fds=False
    )
    try:
        lock.write_pid(child.pid)
        lock.release()
        with pytest.raises(RefusedError, match=rf"another etcd \(pid {child.pid}\)"):
            FolderLock.acquire(tmp_path / "lock", holder="etcd")
    finally:
        child.communicate()
    FolderLock.acquire(tmp_path / "lock", holder="etcd").release()


def test_lock_without_the_right_to_its_folder_is_an_access_error(tmp_path: Path) -> None:
    """A folder that this user cannot write gives exit code 10."""
    with closed_folder(tmp_path), pytest.raises(AccessError, match=f"cannot lock {tmp_path}/lock"):
        FolderLock.acquire(tmp_path / "lock")


def test_lock_file_is_private(tmp_path: Path) -> None:
    """A stranger who could open the file could hold the lock."""
    with wide_umask(), FolderLock.acquire(tmp_path / "lock"):
        assert mode_of(tmp_path / "lock") == 0o600


# set_data_aside -------------------------------------------------------------------------------


def data_on_its_disk(tmp_path: Path) -> Path:
    """Return a link to a folder with data, as on a disk of its own."""
    disk = tmp_path / "disk"
    (disk / "member").mkdir(parents=True)
    (disk / "lost+found").mkdir()
    (disk / "member/wal").write_text("old")
    (tmp_path / "etcd").symlink_to(disk)
    return tmp_path / "etcd"


def test_what_is_in_a_link_is_set_aside(tmp_path: Path) -> None:
    """The link stays, with what belongs to the disk; once more there is nothing to do."""
    path = data_on_its_disk(tmp_path)
    place = set_data_aside(path, tmp_path / "aside", "join", NOON)
    assert place == tmp_path / "aside/20240506T120000Z-join/etcd"
    assert (place / "member/wal").read_text() == "old"
    assert [p.name for p in path.iterdir()] == ["lost+found"]
    assert path.is_symlink()
    assert set_data_aside(path, tmp_path / "aside", "join", NOON) is None


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_data_on_another_disk_is_set_aside_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nothing is left of the try to move it off its disk."""
    path = data_on_its_disk(tmp_path)
    if kind == "folder":
        path.unlink()
        (tmp_path / "disk").rename(path)
    rename = os.rename

    def across(source: Path, target: Path) -> None:
        if Path(target).is_relative_to(tmp_path / "aside"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr("os.rename", across)
    place = set_data_aside(path, tmp_path / "aside", "join", NOON)
    assert place == path / "set-aside/20240506T120000Z-join/etcd"
    assert (place / "member/wal").read_text() == "old"
    assert not list((tmp_path / "aside").iterdir())
    assert content_of(path) == []


def test_folder_that_is_no_mount_is_none(tmp_path: Path) -> None:
    """As the kernel lists them."""
    assert not is_mount(tmp_path)
    assert is_mount(Path("/proc"))
