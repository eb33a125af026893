import io
import json
import tarfile

import pytest
from helpers_detectors import photos
from helpers_photo_folder import save_hub

from itmatch.vision.captions import with_captions
from itmatch.vision.photos import find_photos


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    photos()[0].save(root / "z.png")
    photos()[1].save(root / "b" / "a.PNG")
    (root / "notes.txt").write_text("x")
    return root


def test_a_folder(folder):
    found = find_photos(folder)
    assert [photo.name for photo in found] == ["b/a.PNG", "z.png"]
    assert found[0].read().size == (40, 60)


def test_a_list_is_read_from_its_own_folder(folder):
    (folder / "list.txt").write_text("z.png\n\nb/a.PNG\n")
    assert [photo.name for photo in find_photos(folder / "list.txt")] == ["z.png", "b/a.PNG"]
    (folder / "list.txt").write_text("z.png\nz.png\n")
    with pytest.raises(ValueError, match=r"list\.txt: 'z\.png' is there twice"):
        find_photos(folder / "list.txt")


def test_tar_files_with_captions(tmp_path):
    one = {"000.png": png(photos()[0]), "000.txt": b"a dog\n a  cat", "001.png": png(photos()[1])}
    write_tar(tmp_path / "a.tar", one | {"001.json": json.dumps({"caption": "a tree"}).encode()})
    write_tar(tmp_path / "b.tar", {"002.png": png(photos()[3])})
    found = find_photos(tmp_path)
    assert [photo.name for photo in found] == ["000.png", "001.png", "002.png"]
    assert [photo.read().size for photo in found] == [photos()[place].size for place in (0, 1, 3)]
    assert found[2].place == f"{tmp_path}/b.tar/002.png"
    described = with_captions(found, None)
    kept, captions = described.photos, described.texts
    assert captions == {"000.png": ["a dog", "a cat"], "001.png": ["a tree"]}
    assert len(kept) == 2
    assert find_photos(tmp_path / "b.tar")[0].name == "002.png"


def hub_rows():
    return [
        {"image": {"bytes": png(image), "path": f"{number}.png"}, "caption": ["a dog ", " "] if number else []}
        for number, image in enumerate(photos())
    ]


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_a_folder_of_datasets(tmp_path, ending):
    pytest.importorskip("pyarrow")
    save_hub(tmp_path / f"train/data-00000-of-00001.{ending}", hub_rows())
    found = find_photos(tmp_path, "photos")
    assert [photo.name for photo in found] == [f"{number}.png" for number in range(5)]
    for photo, image in zip(reversed(found), reversed(photos()), strict=True):
        assert list(photo.read().get_flattened_data()) == list(image.get_flattened_data())
    described = with_captions(found, None)
    kept, captions = described.photos, described.texts
    assert captions == {photo.name: ["a dog"] for photo in kept}
    assert [photo.name for photo in kept] == ["1.png", "2.png", "3.png", "4.png"]
    assert found[1].place == f"{tmp_path}/train/data-00000-of-00001.{ending}/1.png"


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_one_split_of_a_folder_of_datasets(tmp_path, ending):
    pytest.importorskip("pyarrow")
    save_hub(tmp_path / f"train/data-00000-of-00001.{ending}", hub_rows()[:2])
    save_hub(tmp_path / f"validation/data-00000-of-00001.{ending}", hub_rows()[2:])
    assert [photo.name for photo in find_photos(tmp_path, "dev")] == ["2.png", "3.png", "4.png"]
    assert [photo.split for photo in find_photos(tmp_path)] == ["train"] * 2 + ["dev"] * 3
    with pytest.raises(ValueError, match="no split 'photos' in it, expected one of dev, train"):
        find_photos(tmp_path, "photos")


def test_bytes_alone_with_a_name_beside_them(tmp_path):
    pytest.importorskip("pyarrow")
    rows = [{"image": row["image"]["bytes"], "filename": f"{place}.png"} for place, row in enumerate(hub_rows())]
    for ending in ("arrow", "parquet"):
        save_hub(tmp_path / ending / f"data.{ending}", rows)
        assert [photo.read().size for photo in find_photos(tmp_path / ending)] == [image.size for image in photos()]


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "text"}, "row 0: no photo under 'image'; columns there: image"),
        ({"picture": b"x"}, "row 0: no photo under 'image'; columns there: picture"),
        ({"image": {"bytes": b"x", "path": "a/b.png"}}, "row 0: photo 'a/b.png', expected the name of a file"),
        ({"image": {"bytes": b"x", "path": None}}, "row 0: photo None, expected the name of a file"),
    ],
)
def test_rows_of_datasets_that_are_no_good(tmp_path, ending, row, message):
    pytest.importorskip("pyarrow")
    save_hub(tmp_path / f"data.{ending}", [row])
    with pytest.raises(ValueError, match=rf"data\.{ending}: {message}"):
        find_photos(tmp_path)


def test_a_row_without_a_photo(tmp_path):
    pytest.importorskip("pyarrow")
    rows = [*hub_rows()[:1], {"image": {"bytes": None, "path": "n.png"}, "caption": []}]
    save_hub(tmp_path / "a/data.arrow", rows)
    with pytest.raises(ValueError, match=r"data\.arrow: row 1: no photo under 'image'"):
        find_photos(tmp_path / "a")
    save_hub(tmp_path / "p/data.parquet", rows)
    with pytest.raises(ValueError, match=r"data\.parquet: row 1: no photo under 'image'"):
        find_photos(tmp_path / "p")[1].read()


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: no such file"):
        find_photos(tmp_path / "gone")
    with pytest.raises(ValueError, match=r": no photos, expected files such as a\.jpg"):
        find_photos(tmp_path)
    (tmp_path / "x.tar").write_bytes(b"no tar" * 300)
    with pytest.raises(ValueError, match=r"x\.tar: not a tar file"):
        find_photos(tmp_path / "x.tar")


def test_tar_files_lead_nowhere(tmp_path):
    secret = tmp_path / "secret.png"
    photos()[0].save(secret)
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo(f"link{kind.decode()}.png")
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
        info = tarfile.TarInfo("../../out.png")
        info.size = len(png(photos()[1]))
        tar.addfile(info, io.BytesIO(png(photos()[1])))
    before = sorted(tmp_path.rglob("*"))
    found = find_photos(tmp_path / "tars")
    assert [photo.name for photo in found] == ["../../out.png"]
    assert found[0].read().size == photos()[1].size
    assert sorted(tmp_path.rglob("*")) == before
