import pytest

from itmatch.data import RatedPair, read_ratings


def written(tmp_path, text, name="ratings.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'image,caption,rating_1,rating_2,rating_3,seen\na.jpg,"a dog, running",1,2,2,x\n'),
        ("a.csv", 'seen, image, caption, ratings\nx,a.jpg,"a dog, running",1 2;2\n'),
        ("a.tsv", "image\tcaption\trating1\trating2\trating3\trating4\na.jpg\ta dog, running\t1\t2\t\t2.0\n"),
    ],
)
def test_several_ratings_a_row(tmp_path, name, text):
    assert read_ratings(written(tmp_path, text, name)) == [RatedPair("a.jpg", "a dog, running", (1.0, 2.0, 2.0))]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,caption\na,b\n", "columns caption, image; expected image, caption and rating"),
        ("", "columns none"),
        ("image,caption,rating\n", "no rows below"),
        ("image,caption,rating\na,b,1\n,b,1\n", "row 2: no image"),
        ("image,caption,rating\na, ,1\n", "row 1: no caption"),
        ("image,caption,rating\na,b\n", "row 1: no rating in rating"),
        ("image,caption,rating\na,b,nan\n", "row 1: rating 'nan', expected a number that is finite"),
        ("image,caption,rating\na,b,good\n", "row 1: rating 'good'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, told):
    with pytest.raises(ValueError, match=r"ratings\.csv: .*" + told):
        read_ratings(written(tmp_path, text))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.csv"):
        read_ratings(tmp_path / "no.csv")
